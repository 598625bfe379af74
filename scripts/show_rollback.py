"""Shows a canary that is found to be worse and rolled back, while callers of `stable` notice nothing.

Version 1 of the demo model is exported and served as `stable`, by mask-serve with the files of configs/serving. Then
version 2, the same network with damaged weights, is exported and served beside it as `canary`. mask-verify finds that
the canary's masks are not version 1's; the canary label is moved back. All the while, clients call label="stable" over
gRPC and REST: each call must succeed, and each mask must be version 1's.

Exit code 0 only if all of that happens.
"""

import argparse
import contextlib
import re
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from benchmarks.servers import free_port, stop
from children import bound, interrupt_on_sigterm
from maskport.serving.client import NO_RETRIES, MaskClient, MaskServingError
from maskport.serving.command_line import import_quietly
from move_label import move_labels, replace_file

ROOT = Path(__file__).resolve().parents[1]
CONFIGS = ROOT / "configs/serving"
MODEL = "coins"
WAIT_S = 300.0
SIGNATURES = "mask,mask_png,export_info"


class StoryError(Exception):
    """Something did not happen as it should have."""


def say(text: str) -> None:
    print(text, flush=True)


def export(base_path: Path, source: Path, version: int) -> Path:
    """Exports the demo model, or another one by the same spec; returns the version directory."""
    words = [
        f"--spec={ROOT / 'configs/export/coins.yaml'}", f"--source={source}", f"--output_dir={base_path}",
        f"--version={version}", f"--signatures={SIGNATURES}", "--verbosity=-2",
    ]  # fmt: skip
    _run("maskport.export", words, 0)
    return base_path / str(version)


def damage_model(source: Path, target: Path) -> None:
    """Saves a model whose weights were disturbed by noise: the same network, worse masks."""
    keras = import_quietly("keras")
    model = keras.saving.load_model(source)
    random = np.random.default_rng(7)
    for layer in model.layers:
        # Of convolutions; the statistics of a normalisation must stay statistics.
        layer.set_weights(
            [
                weight + random.normal(0, 0.5 * weight.std(), weight.shape) if weight.ndim == 4 else weight
                for weight in layer.get_weights()
            ]
        )
    model.save(target)


def _run(module: str, words: Sequence[str], expected: int) -> str:
    command = bound([sys.executable, "-m", module, *words])
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != expected:
        raise StoryError(f"{module} {' '.join(words)} ended with {done.returncode}, not {expected}:\n{done.stderr}")
    return done.stdout + done.stderr


@contextlib.contextmanager
def serve(config_file: Path) -> Iterator[list[str]]:
    """Starts mask-serve with the shipped configuration files; gives its addresses."""
    ports = [free_port(), free_port()]
    command = [
        sys.executable, "-m", "maskport.serving.server", f"--port={ports[0]}", f"--rest_api_port={ports[1]}",
        f"--model_config_file={config_file}", "--model_config_file_poll_wait_seconds=1",
        "--allow_version_labels_for_unavailable_models", "--enable_batching",
        f"--batching_parameters_file={CONFIGS / 'batching.config'}",
        f"--monitoring_config_file={CONFIGS / 'monitoring.config'}",
    ]  # fmt: skip
    with tempfile.TemporaryFile("w+") as log, subprocess.Popen(bound(command), stderr=log) as server:
        try:
            yield [f"grpc://127.0.0.1:{ports[0]}", f"http://127.0.0.1:{ports[1]}"]
        except BaseException:
            log.seek(0)
            sys.stderr.write(log.read()[-3000:])
            raise
        finally:
            stop(server)


def write_config(shipped: str, base_path: Path, target: Path) -> None:
    """Writes one of the shipped configurations, with the base path that it has here."""
    text = (CONFIGS / shipped).read_text()
    replace_file(target, re.sub(r'base_path: "/models/coins"', f'base_path: "{base_path}"', text))


def wait_for_label(addresses: Sequence[str], label: str, version: int) -> None:
    """Waits until a label stands for a version, over every transport."""
    until = time.monotonic() + WAIT_S
    for address in addresses:
        while True:
            answer = "nothing answers"
            with contextlib.suppress(MaskServingError), MaskClient(address, MODEL, label=label) as client:
                answer = f"version {client.metadata(timeout=5).version} answers"
            if answer == f"version {version} answers":
                break
            if time.monotonic() > until:
                raise StoryError(f"{address}: label {label!r} is not version {version} after {WAIT_S:g} s: {answer}")
            time.sleep(0.1)


class StableCallers:
    """Clients that call label="stable" all the time; each mask must be the first one.

    Attributes:
        calls: answered so far.
        failures: what went wrong.
    """

    def __init__(self, addresses: Sequence[str], photo: bytes) -> None:
        self.calls = 0
        self.failures: list[str] = []
        self._photo = photo
        self._ending = threading.Event()
        self._lock = threading.Lock()
        self._expected: npt.NDArray[np.bool_] | None = None
        self._threads = [threading.Thread(target=self._call, args=[address]) for address in addresses]

    def __enter__(self) -> "StableCallers":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ending.set()
        for thread in self._threads:
            thread.join()

    def _call(self, address: str) -> None:
        # Without retries: a call that fails once has failed.
        with MaskClient(address, MODEL, label="stable", timeout=WAIT_S, retries=NO_RETRIES) as client:
            while not self._ending.is_set():
                try:
                    mask = client.segment(self._photo).mask
                except MaskServingError as error:
                    self.failures.append(str(error))
                    continue
                with self._lock:
                    self.calls += 1
                    if self._expected is None:
                        self._expected = mask
                    elif (mask != self._expected).mean() > 0.001:
                        self.failures.append(f"{address}: a mask that is not version 1's")
                self._ending.wait(0.5)


def verify(addresses: Sequence[str], label: str, version_dir: Path, expected: int) -> str:
    """Runs mask-verify, which must end with an exit code; returns what it said."""
    words = [*(f"--address={address}" for address in addresses), f"--model={MODEL}", f"--label={label}"]
    words += ["--repeats=1", "--concurrency=2", f"--timeout={WAIT_S:g}"]
    said = _run("maskport.serving.verify", [*words, f"--export_dir={version_dir}"], expected)
    say(f"  mask-verify --label={label} --export_dir={version_dir.name} → exit {expected}")
    return said


def tell(work: Path) -> None:
    """The story, from the first export to the end of the canary."""
    import io

    from PIL import Image
    from skimage import data

    base_path, config_file = work / "models/coins", work / "models.config"
    buffer = io.BytesIO()
    Image.fromarray(data.coins()).save(buffer, "JPEG")

    say("1. Export version 1, and serve it as stable (configs/serving/stable.config)")
    first = export(base_path, ROOT / "models/coins/coins.keras", 1)
    write_config("stable.config", base_path, config_file)
    with serve(config_file) as addresses:
        wait_for_label(addresses, "stable", 1)
        verify(addresses, "stable", first, 0)
        with StableCallers(addresses, buffer.getvalue()) as callers:
            say("2. Export version 2, a worse model; nothing changes yet, as the policy names versions")
            damage_model(ROOT / "models/coins/coins.keras", work / "coins.keras")
            second = export(base_path, work / "coins.keras", 2)
            wait_for_label(addresses, "stable", 1)
            say("3. Serve it beside the first as canary (configs/serving/canary.config)")
            write_config("canary.config", base_path, config_file)
            wait_for_label(addresses, "canary", 2)
            verify(addresses, "canary", second, 0)
            say("4. Is the canary as good as version 1?")
            said = verify(addresses, "canary", first, 1)
            if "output 'mask" not in said or "likely cause: another model is served" not in said:
                raise StoryError(f"mask-verify does not say why:\n{said}")
            for line in [line for line in said.splitlines() if "signature 'mask_png'" in line or "cause" in line]:
                say(f"    {line}")
            say("5. It is not: move the canary label back (scripts/move_label.py canary=1)")
            replace_file(config_file, move_labels(config_file.read_text(), MODEL, {"canary": 1}))
            wait_for_label(addresses, "canary", 1)
            verify(addresses, "canary", first, 0)
            say("6. Take version 2 out of service (configs/serving/stable.config)")
            write_config("stable.config", base_path, config_file)
            wait_until_gone(addresses, 2)
            verify(addresses, "stable", first, 0)
        if callers.failures:
            raise StoryError(f"{len(callers.failures)} calls of stable failed, the first: {callers.failures[0]}")
        if callers.calls < 20:
            raise StoryError(f"only {callers.calls} calls of stable were made: that shows nothing")
        say(
            f"7. Meanwhile {callers.calls} calls of label='stable' over gRPC and REST: none failed, each with v1's mask"
        )


def wait_until_gone(addresses: Sequence[str], version: int) -> None:
    """Waits until a version is no longer served."""
    until = time.monotonic() + WAIT_S
    with MaskClient(addresses[0], MODEL) as client:
        while any(one.version == version and one.state.name != "END" for one in client.status()):
            if time.monotonic() > until:
                raise StoryError(f"version {version} is still served after {WAIT_S:g} s")
            time.sleep(0.1)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work_dir", type=Path, help="where exports go; a temporary folder unless it is given")
    words = parser.parse_args()
    interrupt_on_sigterm()
    with contextlib.ExitStack() as stack:
        work = words.work_dir or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="maskport-rollback-")))
        work.mkdir(parents=True, exist_ok=True)
        try:
            tell(work.resolve())
        except StoryError as error:
            print(f"show_rollback: {error}", file=sys.stderr)
            return 1
        except KeyboardInterrupt:
            print("show_rollback: interrupted", file=sys.stderr)
            return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
