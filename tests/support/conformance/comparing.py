"""Says where two answers differ, with all that may differ from run to run and from build to build left out."""

import base64
import json
import math
from collections.abc import Iterator

from conformance.cases import Case, Json

_TOLERANCE = 1e-5
_NODE_NAMES = "\n\t [["
"""What follows in an error text names nodes of the graph, which depend on the TensorFlow that wrote it."""
_NEWER_FORMATS = "JPEG XL, "
"""What releases after 2.20 count among the formats that they read, in the texts for bytes that are no picture."""
_NO_JSON = "JSON Parse error:"
"""What begins the text for a body that is no JSON; its rest is the parser's own."""
_ABSENT = "(absent)"
_NOT_FINITE = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}


def differences(case: Case, received: dict[str, Json]) -> list[str]:
    """Returns a line for each place where an answer is not as recorded; none where it agrees."""
    if not case.is_stable:
        seen = {_outcome(answer) for answer in case.answers}
        return [] if _outcome(received) in seen else [f"{_outcome(received)!r} is none of {sorted(map(str, seen))}"]
    return list(_differences(_compared(case, case.answers[0]), _compared(case, received), ""))


def _outcome(answer: dict[str, Json]) -> Json:
    return answer.get("code") or answer.get("status") or answer.get("no_answer")


def _compared(case: Case, answer: dict[str, Json]) -> dict[str, Json]:
    """Returns the part of an answer that counts."""
    scope = case.request.get("compare")
    if scope == "code":
        return {"code": answer["code"]}
    parts = {name: value for name, value in answer.items() if name not in ("header_names", "body", "body_b64")}
    if scope != "status" and case.request.get("method") != "HEAD":
        parts["body"] = _body(answer)
    return parts


def _body(answer: dict[str, Json]) -> Json:
    text = answer.get("body", _ABSENT)
    if "body_b64" in answer:
        text = base64.b64decode(answer["body_b64"]).decode("latin-1")
    try:
        return json.loads(text)
    except ValueError:
        return text


def _differences(wanted: Json, received: Json, path: str) -> Iterator[str]:
    if isinstance(wanted, dict) and isinstance(received, dict):
        for name in sorted({*wanted, *received}):
            yield from _differences(wanted.get(name, _ABSENT), received.get(name, _ABSENT), f"{path}/{name}")
    elif isinstance(wanted, list) and isinstance(received, list) and len(wanted) == len(received):
        for index, pair in enumerate(zip(wanted, received, strict=True)):
            yield from _differences(*pair, f"{path}/{index}")
    elif not _are_alike(wanted, received):
        yield f"{path or '/'}: recorded {_short(wanted)}, received {_short(received)}"


def _are_alike(wanted: Json, received: Json) -> bool:
    numbers = _number(wanted), _number(received)
    if numbers[0] is not None and numbers[1] is not None:
        return _are_close(*numbers)
    if isinstance(wanted, str) and isinstance(received, str):
        return _telling(wanted) == _telling(received)
    return type(wanted) is type(received) and wanted == received


def _telling(text: str) -> str:
    """Returns the part of a text in which builds, releases and parsers agree."""
    if text.startswith(_NO_JSON):
        return _NO_JSON
    return text.partition(_NODE_NAMES)[0].replace(_NEWER_FORMATS, "")


def _are_close(wanted: float, received: float) -> bool:
    if isinstance(wanted, int) and isinstance(received, int):
        return wanted == received
    if math.isnan(wanted) or math.isnan(received):
        return math.isnan(wanted) and math.isnan(received)
    return math.isclose(wanted, received, rel_tol=_TOLERANCE, abs_tol=1e-12)


def _number(value: Json) -> float | None:
    if isinstance(value, str):
        return _NOT_FINITE.get(value)
    return value if isinstance(value, int | float) and not isinstance(value, bool) else None


def _short(value: Json) -> str:
    text = json.dumps(value)
    return text if len(text) <= 300 else text[:300] + "…"
