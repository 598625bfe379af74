"""One storm against one server: what is sent, what must come back, and what must not grow."""

import base64
import dataclasses
import io
import itertools
import json
import os
import random
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent import futures
from pathlib import Path
from typing import Any

import numpy as np
from maskport.serving.wire.messages import PredictResponse
from maskport.serving.wire.tensors import to_array
from PIL import Image

from . import pictures, requests
from .requests import MODEL, PREDICT, Caller, DefectError, predict

_PICTURES = 40
"""Of each hundred requests."""


@dataclasses.dataclass
class Usage:
    """What a process holds."""

    memory_mb: float
    files: int
    threads: int

    @classmethod
    def of(cls, process: int) -> "Usage":
        """Looks at a process."""
        status = dict(
            line.split(":", 1) for line in Path(f"/proc/{process}/status").read_text().splitlines() if ":" in line
        )
        files = len(os.listdir(f"/proc/{process}/fd"))
        return cls(int(status["VmRSS"].split()[0]) / 1024, files, int(status["Threads"]))


@dataclasses.dataclass
class Outcome:
    """What a storm found."""

    kinds: Counter[str] = dataclasses.field(default_factory=Counter)
    compared: int = 0  # pictures that both the server and Pillow read, and that were compared
    refused: int = 0  # pictures that the server refused
    alone: list[str] = dataclasses.field(default_factory=list)  # that the server read and Pillow does not
    defects: list[str] = dataclasses.field(default_factory=list)
    calm: int = 0  # answers that others got meanwhile, all of them right

    @property
    def requests(self) -> int:
        """How many there were."""
        return self.kinds.total()


class Storm:
    """Requests made from numbers, sent by some threads, while other callers ask for what they always ask for."""

    def __init__(self, host: str, grpc_port: int, rest_port: int, threads: int = 8):
        self._address = (host, grpc_port, rest_port)
        self.grpc_port, self.rest_port = grpc_port, rest_port
        self._threads = threads
        self._local = threading.local()
        self._callers: list[Caller] = []
        self._lock = threading.Lock()
        self.outcome = Outcome()

    def close(self) -> None:
        """Closes all connections."""
        for caller in self._callers:
            caller.close()

    def run(self, numbers: Sequence[int], samples: Sequence[pictures.Sample] = (), calm_callers: int = 2) -> None:
        """Sends a request of each number, and these pictures, each with a good one beside it."""
        jobs = itertools.chain(
            ((self._send, number) for number in numbers), ((self.send_picture, sample) for sample in samples)
        )
        ended = threading.Event()
        with futures.ThreadPoolExecutor(self._threads + calm_callers) as pool:
            calm = [pool.submit(self._stay_calm, ended) for _ in range(calm_callers)]
            try:
                list(pool.map(lambda job: self._checked(*job), jobs))
            finally:
                ended.set()
            for one in calm:
                one.result()

    def _checked(self, send: Callable[[Any], None], what: Any) -> None:
        try:
            send(what)
        except DefectError as error:
            self._report(f"{what if isinstance(what, int) else what.name}: {error}")

    def _report(self, defect: str) -> None:
        print(f"DEFECT {defect}", file=sys.stderr, flush=True)
        with self._lock:
            self.outcome.defects.append(defect)

    def _caller(self) -> Caller:
        if not hasattr(self._local, "caller"):
            self._local.caller = Caller(*self._address)
            with self._lock:
                self._callers.append(self._local.caller)
        caller: Caller = self._local.caller
        return caller

    def _send(self, number: int) -> None:
        chance = random.Random(number)
        if chance.randrange(100) < _PICTURES:
            self.send_picture(pictures.sample(number))
            return
        (kind,) = chance.choices(list(requests.KINDS), list(requests.KINDS.values()))
        self._count(kind.__name__)
        kind(self._caller(), chance)

    def _count(self, kind: str) -> None:
        with self._lock:
            self.outcome.kinds[kind] += 1

    def send_picture(self, sample: pictures.Sample) -> None:
        """Sends a picture between two good ones, in one call, and looks at all three answers."""
        good = pictures.bases()["lossless.webp"], pictures.bases()["exif6.png"]
        three = [good[0], sample.data, good[1]]
        over_rest = len(sample.data) % 4 == 0
        self._count("picture over REST" if over_rest else "picture over gRPC")
        answers = self._by_rest(three) if over_rest else self._by_grpc(three)
        for index, data in ((0, good[0]), (2, good[1])):
            if answers[index][1] or not _agrees(answers[index][0], pictures.decode(data)):
                raise DefectError(f"a good picture beside it was answered by {answers[index][1] or 'another mask'}")
        file, error = answers[1]
        with self._lock:
            self.outcome.refused += bool(error)
        if error:
            if not error.isprintable():
                raise DefectError(f"its error is {error!r}")
            return
        wanted = pictures.decode(sample.data)
        if wanted is None:
            with self._lock:
                self.outcome.alone.append(sample.name)
        elif not _agrees(file, wanted):
            raise DefectError("the answer is not of the pixels that Pillow decodes")
        else:
            with self._lock:
                self.outcome.compared += 1

    def _by_grpc(self, files: Sequence[bytes]) -> list[tuple[bytes, str]]:
        request = predict("probability_png", image_bytes=files)
        answer = self._caller().call(PREDICT, request.SerializeToString())
        if answer is None:
            raise DefectError("a request of three pictures was refused as a whole")
        outputs = {name: to_array(tensor) for name, tensor in PredictResponse.FromString(answer).outputs.items()}
        errors = [error.decode() for error in outputs["error"]]
        return list(zip(outputs["probability_bytes"], errors, strict=True))

    def _by_rest(self, files: Sequence[bytes]) -> list[tuple[bytes, str]]:
        instances = [{"b64": base64.b64encode(file).decode()} for file in files]
        body = json.dumps({"signature_name": "probability_png", "instances": instances}).encode()
        head, _, answer = self._caller().post(f"/v1/models/{MODEL}:predict", body).partition(b"\r\n\r\n")
        if not head.startswith(b"HTTP/1.1 200"):
            raise DefectError(f"a request of three pictures was refused as a whole: {answer[:200]!r}")
        rows = json.loads(answer)["predictions"]
        return [(base64.b64decode(row["probability_bytes"]["b64"]), row["error"]) for row in rows]

    def _stay_calm(self, ended: threading.Event) -> None:
        """Asks for the same good pictures again and again, whose answers must stay the same."""
        files = [pictures.bases()[name] for name in ("rgb.png", "rgb.jpg", "gray.bmp")]
        first: list[tuple[bytes, str]] | None = None
        while not ended.is_set():
            try:
                answers = self._by_grpc(files)
            except DefectError as error:
                self._report(f"a caller of good pictures: {error}")
                continue
            first = first or answers
            if answers != first or any(error for _, error in answers):
                self._report(f"a caller of good pictures got other answers: {[error for _, error in answers]}")
            with self._lock:
                self.outcome.calm += 1
            time.sleep(0.1)  # the storm is to have the server, too


def _agrees(file: bytes, wanted: pictures.Decoded | None) -> bool:
    if wanted is None:
        return False
    with Image.open(io.BytesIO(file)) as picture:
        found = np.asarray(picture, np.float64) / 65535
    if found.shape != wanted.answer.shape:
        return False
    apart = np.abs(found - wanted.answer)
    return bool((apart.mean() if wanted.tolerance > 0.01 else apart.max()) <= wanted.tolerance)
