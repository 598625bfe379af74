"""What the client itself costs: per call, when imported, and over a folder of photographs.

The time per call is MaskClient's above the official stub's with a request that was built beforehand, both calling a
server that answers after 13 ms.
"""

import contextlib
import io
import itertools
import json
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import grpc
import tensorflow as tf
from maskport.serving.client import MaskClient
from PIL import Image
from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc

from .. import pictures
from ..lab import Lab
from ..measuring import difference, ratio, spread, take_turns
from ..results import Finding, Row, at_least, at_most, number_text
from ..servers import Served, stop

_MODEL_S = 0.013
_CONCURRENCY = 8
_IMPORTS = {
    "official stubs": "from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc",
    # With gRPC and a call that finds nobody: an import that put off the work would prove nothing.
    "client": """
from maskport.serving.client import NO_RETRIES, MaskClient, ServerUnavailableError
try:
    MaskClient("grpc://127.0.0.1:1", "m", retries=NO_RETRIES).status(timeout=5)
except ServerUnavailableError:
    pass
""",
}
_PROBE = """
import re, time
started = time.perf_counter()
{}
took = time.perf_counter() - started
# Not ru_maxrss, which a child inherits from the process that started it.
print(took, int(re.search(r"VmHWM:\\s+(\\d+)", open("/proc/self/status").read())[1]) / 1024)
"""


def measure(lab: Lab) -> Iterator[Finding]:
    """Yields time per call, import time and memory, and the command line's rate."""
    yield from _per_call(lab)
    yield from _imports(lab)
    yield from _command_line(lab)


@contextlib.contextmanager
def _canned_server(mask_file: Path) -> Iterator[str]:
    process = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.canned_server", str(mask_file), str(_MODEL_S)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, start_new_session=True,
    )  # fmt: skip
    try:
        yield f"127.0.0.1:{int(process.stdout.readline())}"  # type: ignore[union-attr]
    finally:
        stop(process)


def _per_call(lab: Lab) -> Iterator[Finding]:
    jpeg = pictures.square_jpeg(512)
    mask = Image.open(io.BytesIO(jpeg)).convert("L").point(lambda value: 255 * (value > 127), "1")
    mask_file = lab.folder / "mask.png"
    mask.save(mask_file)
    request = predict_pb2.PredictRequest()
    request.model_spec.name, request.model_spec.signature_name = "model", "mask_png"
    request.inputs["image_bytes"].CopyFrom(tf.make_tensor_proto([jpeg]))
    processor: dict[str, list[float]] = {"stub": [], "client": []}

    def counted(name: str, call: Callable[[], object]) -> Callable[[], object]:
        def run() -> None:
            started = time.process_time()
            call()
            processor[name].append(time.process_time() - started)

        return run

    with (
        _canned_server(mask_file) as address,
        grpc.insecure_channel(address) as channel,
        MaskClient(f"grpc://{address}", "model") as client,
    ):
        stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
        calls = {
            "stub": counted("stub", lambda: stub.Predict(request, timeout=30)),
            "client": counted("client", lambda: client.segment(jpeg)),
        }
        found = take_turns(calls, 5 * lab.effort.rounds, 20)
    yield Row.of(
        "client time per call outside waiting, 512² JPEG",
        difference(found["client"], found["stub"]).scaled(1000),
        "ms",
        at_most(1),
        f"above the official stub's {number_text(1000 * spread(found['stub']).median)} ms with a server of 13 ms",
    )
    note = f"the stub's: {number_text(1000 * spread(processor['stub']).median)} ms"
    yield Row.of(
        "processor time of one call, gRPC's threads included", spread(processor["client"]).scaled(1000), "ms", note=note
    )
    yield Row.of(
        "MaskClient ÷ official stub, 512² JPEG, server of 13 ms",
        ratio(found["client"], found["stub"]),
        "",
        at_most(1.1),
    )


def _imports(lab: Lab) -> Iterator[Finding]:
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in _IMPORTS}
    for turn in range(lab.effort.imports + 1):
        for name, statement in _IMPORTS.items():
            done = subprocess.run(
                [sys.executable, "-c", _PROBE.format(statement)],
                check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
            )  # fmt: skip
            seconds, megabytes = map(float, done.stdout.split())
            if turn:  # the first one fills the caches of bytecode and files
                found[name].append((seconds, megabytes))
    for index, (what, unit, share) in enumerate((("import time", "s", 8), ("peak memory", "MB", 9))):
        values = {name: [pair[index] for pair in pairs] for name, pairs in found.items()}
        own, official = (number_text(spread(values[name]).median) for name in ("client", "official stubs"))
        yield Row.of(
            f"{what} of the client, first call included ÷ official stubs",
            ratio(values["client"], values["official stubs"]),
            goal=at_most(1 / share),
            note=f"{own} and {official} {unit}",
        )


def _command_line(lab: Lab) -> Iterator[Finding]:
    """Compares the rate of `mask-client segment` over parts of a folder with what `bench` finds around each."""
    coins, effort = lab.subjects.coins, lab.effort
    photos = pictures.variants(effort.files, [(256, 256)])
    parts = [photos[turn :: effort.load_turns] for turn in range(effort.load_turns)]
    folders = [pictures.write_files(part, lab.folder / f"photos_{turn}") for turn, part in enumerate(parts)]
    masks = lab.folder / "masks"
    rates: dict[str, list[float]] = {"bench": [], "segment": []}
    with lab.serve(coins) as served:

        def bench(folder: Path) -> None:
            report = _run_client(served, coins.name, "bench", str(folder), f"--seconds={effort.load_s:g}", "--json")
            rates["bench"].append(json.loads(report)["images_per_s"])

        bench(folders[0])
        for folder in folders:
            told = _run_client(served, coins.name, "segment", str(folder), f"--out={masks / folder.name}")
            rates["segment"].append(float(re.search(r"([\d.]+) images/s", told)[1]))  # type: ignore[index]
            bench(folder)
    written = len(list(masks.rglob("*.png")))
    if written != effort.files:
        yield Row("mask-client segment ÷ bench", None, goal=at_least(0.95), note=f"only {written} masks were written")
        return
    around = [statistics.mean(pair) for pair in itertools.pairwise(rates["bench"])]
    own, others = (number_text(spread(rates[name]).median) for name in ("segment", "bench"))
    yield Row.of(
        f"mask-client segment, {effort.files} photographs ÷ bench",
        ratio(rates["segment"], around),
        goal=at_least(0.95),
        note=f"{own} and {others} images/s, measured {effort.load_turns} times in turn",
    )


def _run_client(served: Served, model: str, *words: str) -> str:
    common = [f"--address={served.grpc}", f"--model={model}", f"--concurrency={_CONCURRENCY}", "--wait=120"]
    command = [sys.executable, "-m", "maskport.serving.client", *words, *common]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout
