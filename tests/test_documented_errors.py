"""docs/errors.md: every message is a real one, provoked here or by tests/test_guides.py, or found in the code."""

import ast
import functools
import re
from pathlib import Path

import numpy as np
import pytest
from maskport.export.sources.preflight import check_keras_backend, check_source
from maskport.export.spec import make_spec
from maskport.serving.client import NO_RETRIES, MaskClient

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "docs/errors.md").read_text()
MESSAGES = re.findall(r"^```text\n(.*?)\n```$", TEXT, re.DOTALL | re.MULTILINE)
SPEC = {"source": "model.keras", "output_dir": "served/mine"}


def spec(**fields):
    return make_spec(SPEC | fields)


def client(address="grpc://127.0.0.1:9", **options):
    return MaskClient(address, model="coins", retries=NO_RETRIES, **options)


def with_backend(name):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KERAS_BACKEND", name)
        patch.setattr("sys.modules", {})
        check_keras_backend()


def segment(image, **words):
    with client() as one:
        one.segment(image, **words)


PROVOKED = {
    "source model.keras: no such file": lambda: check_source(spec()),
    "source net.pt": lambda: check_source(spec(source="net.pt")),
    "weights: needed": lambda: spec(source="net:build"),
    "unknown key": lambda: spec(treshold=0.4),
    "input_max": lambda: spec(input_max=4095),
    "KERAS_BACKEND": lambda: with_backend("jax"),
    "address 'localhost:8500'": lambda: client("localhost:8500"),
    "grpc://models.example": lambda: client("grpc://models.example:8500", token="secret"),
    "model 'coins' at grpc://127.0.0.1:9": lambda: client().status(),
    "the image is HEIC": lambda: segment(b"\0\0\0\x18ftypheic" + bytes(40)),
    "an array of int64": lambda: segment(np.zeros((4, 4), np.int64)),
    "the threshold 50": lambda: segment(np.zeros((4, 4), np.uint8), threshold=50),
}


@pytest.mark.parametrize("beginning", PROVOKED)
def test_the_message_is_the_one_that_comes(beginning, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("net.pt").write_bytes(b"PK\3\4")
    (message,) = [message for message in MESSAGES if message.startswith(beginning)]
    with pytest.raises(Exception, match=re.escape(beginning)) as caught:
        PROVOKED[beginning]()
    assert str(caught.value) == re.sub(r" \(after \d+ attempts\)", "", message)  # it was attempted once


@functools.cache
def templates():
    """All texts of the code: their longest fixed part, and the pattern in which what is filled in is anything."""
    found = set()
    for path in [*ROOT.glob("export/**/*.py"), *ROOT.glob("serving/**/*.py")]:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.JoinedStr):
                parts = [part.value if isinstance(part, ast.Constant) else None for part in node.values]
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                parts = [node.value]
            else:
                continue
            if sum(len(part or "") for part in parts) >= 16:
                pattern = "".join(".+?" if part is None else re.escape(part) for part in parts)
                found.add((max(filter(None, parts), key=len), pattern))
    return found


OF_A_SERVER = ("signature 'mask_png' at", "there is no signature", "Servable not found")
"""What tests/test_guides.py provokes, as it needs a server."""


@pytest.mark.parametrize(
    "message", [message for message in MESSAGES if not any(part in message for part in OF_A_SERVER)]
)
def test_the_message_is_in_the_code(message):
    assert "\n" not in message
    said = re.sub(r"\w+://[\w.:]+", "", message)  # an address stands in the code too
    assert any(fixed in said and re.search(pattern, said) for fixed, pattern in templates()), message


def test_each_message_is_told_once_and_has_a_cure():
    assert len(MESSAGES) == len(set(MESSAGES)) >= 25
    for message in MESSAGES:
        cure = TEXT.partition(message)[2].partition("```text")[0].removeprefix("\n```").strip()
        assert cure, message
