"""The command: `scripts/storm`."""

import argparse
import os
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from children import bound, interrupt_on_sigterm

from . import pictures
from .requests import MODEL
from .storm import Storm, Usage

ROOT = Path(__file__).resolve().parents[2]
_DESCRIPTION = """\
Sends mask-serve requests that no friend sends: malformed messages and JSON, wrong tensors, names like paths, HTTP that
is none, slow senders, and pictures that are cut off, changed, wrong or bombs; while other callers ask for good ones.

It fails where the server ends or does not answer, answers with a fault of its own, answers others otherwise than
before, makes a mask of other pixels than Pillow decodes, keeps memory, files or threads, or does not pass mask-verify
afterwards.
"""
_MORE_MB, _MORE_FILES, _MORE_THREADS = 200, 60, 30
"""What the server may hold more after the storm than after its first tenth: caches, and connections that just end."""


def make_export(folder: Path) -> Path:
    """Exports a model that answers its picture's own brightness, and returns the version's directory."""
    from maskport.serving.command_line import import_quietly

    import_quietly("tensorflow")
    import keras
    from maskport.export import export_model

    shown = keras.layers.Conv2D(1, 1, use_bias=False, name="brightness")
    model = keras.Sequential([keras.layers.Input((None, None, 3)), shown])
    shown.set_weights([pictures.WEIGHTS.reshape(1, 1, 3, 1)])
    signatures = ["mask_png", "mask", "probability_png"]
    return Path(export_model(model, folder / MODEL, scaling="unit", signatures=signatures, decode="exact"))


def main() -> int:
    parser = argparse.ArgumentParser(
        "scripts/storm", description=_DESCRIPTION, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--requests", type=int, default=100_000, help="generated ones; default 100,000")
    parser.add_argument("--seed", type=int, default=0, help="the first of their numbers, from which they are made")
    parser.add_argument(
        "--no-truncations", action="store_true", help="leave out pictures cut off at every byte of their header"
    )
    parser.add_argument("--folder", type=Path, help="keeps the export, and takes the one that is there")
    options = parser.parse_args()
    interrupt_on_sigterm()
    with tempfile.TemporaryDirectory() as folder:
        return run(options.folder or Path(folder), options.requests, options.seed, truncates=not options.no_truncations)


def run(folder: Path, count: int, seed: int, *, truncates: bool) -> int:
    """Makes an export, serves it, lets the storm go, and prints what came of it; returns the exit code."""
    there = sorted((folder / MODEL).glob("[0-9]*"))
    version_dir = there[-1] if there else make_export(folder)
    grpc_port, rest_port = free_ports()
    words = [f"--model_name={MODEL}", f"--model_base_path={version_dir.parent}", f"--port={grpc_port}"]
    words += [f"--rest_api_port={rest_port}", "--enable_batching"]
    log = folder / "log"
    with (
        open(log, "wb") as written,
        subprocess.Popen(
            bound([Path(sys.executable).with_name("mask-serve"), *words]), stdout=written, stderr=written
        ) as server,
    ):
        try:
            wait_for_port(server, rest_port)
            return weather(
                server, Storm("127.0.0.1", grpc_port, rest_port), version_dir, log, count, seed, truncates=truncates
            )
        finally:
            server.terminate()


def weather(
    server: "subprocess.Popen[bytes]",
    storm: Storm,
    version_dir: Path,
    log: Path,
    count: int,
    seed: int,
    *,
    truncates: bool,
) -> int:
    """Lets the storm go, and prints what came of it."""
    first = count // 10
    started = time.monotonic()
    storm.run(range(seed, seed + first))
    before = Usage.of(server.pid)
    samples = [
        pictures.Sample("a whole PNG of 60,000² pixels", pictures.bomb(60_000)),
        *(pictures.truncations() if truncates else ()),
    ]
    storm.run(range(seed + first, seed + count), samples)
    seconds = time.monotonic() - started
    storm.close()
    time.sleep(3)
    outcome = storm.outcome
    problems = list(outcome.defects)
    if server.poll() is not None:
        problems.append(f"the server ended with {server.returncode}")
    else:
        after = Usage.of(server.pid)
        for what, now, then, more in (
            ("MB of memory", after.memory_mb, before.memory_mb, _MORE_MB),
            ("files", after.files, before.files, _MORE_FILES),
            ("threads", after.threads, before.threads, _MORE_THREADS),
        ):
            print(f"{what}: {then:.0f} after a tenth, {now:.0f} at the end")
            if now > then + more:
                problems.append(f"the server held {then:.0f} {what}, and now {now:.0f}")
        addresses = [f"--address=grpc://127.0.0.1:{storm.grpc_port}", f"--address=http://127.0.0.1:{storm.rest_port}"]
        command = [Path(sys.executable).with_name("mask-verify"), *addresses, f"--model={MODEL}"]
        verified = subprocess.run(
            [*command, f"--export_dir={version_dir}"], capture_output=True, text=True, check=False
        )
        print(f"golden replay afterwards: {'passed' if verified.returncode == 0 else 'failed'}")
        if verified.returncode:
            problems.append(f"mask-verify: {verified.stderr[-300:]}")
    lines = log.read_bytes().count(b"\n")
    for kind, number in outcome.kinds.most_common():
        print(f"{number:>8,} {kind}")
    print(
        f"{outcome.requests:,} requests in {seconds:.0f} s; {outcome.compared:,} pictures compared with Pillow's, "
        f"{outcome.refused:,} refused, {len(outcome.alone):,} read by the server alone; {outcome.calm:,} answers to "
        f"others, {lines} lines in the log; {len(problems)} defects"
    )
    for problem in problems[len(outcome.defects) :]:
        print(f"DEFECT {problem}", file=sys.stderr)
    return 1 if problems else 0


def free_ports() -> tuple[int, int]:
    """Returns two ports that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as one, socket.create_server(("127.0.0.1", 0)) as other:
        return one.getsockname()[1], other.getsockname()[1]


def wait_for_port(server: "subprocess.Popen[bytes]", port: int) -> None:
    """Waits until a server listens; SystemExit where it ends before."""
    while server.poll() is None:
        try:
            socket.create_connection(("127.0.0.1", port)).close()
        except OSError:
            time.sleep(0.1)
        else:
            return
    raise SystemExit(f"mask-serve ended with {server.returncode}")


if __name__ == "__main__":
    os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")
    sys.exit(main())
