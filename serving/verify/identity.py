"""Whether the served model is the exported one: what its `maskport.json` says, and its signatures' metadata."""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy.typing as npt

from ..client import ModelMetadata, TensorSpec
from ..wire.tensors import TensorError
from .goldens import Expected, Record

_ABSENT = object()
_SOURCE_HASH = "source.sha256"
_CONSEQUENCES = ("probe.", "reproducibility.", "versions.")


def manifest_differences(expected: Mapping[str, Any], served: Mapping[str, Any]) -> list[str]:
    """Returns how a served model's `maskport.json` differs from the export's, most telling first."""
    wanted, got = dict(_leaves(expected)), dict(_leaves(served))
    names = [
        name for name in [*wanted, *(set(got) - set(wanted))] if wanted.get(name, _ABSENT) != got.get(name, _ABSENT)
    ]
    # Another source explains everything else; what the libraries were explains the least.
    names.sort(key=lambda name: (name != _SOURCE_HASH, not name.startswith("spec."), name.startswith(_CONSEQUENCES)))
    return [f"{name} is {_shown(got, name)}, exported with {_shown(wanted, name)}" for name in names]


def is_other_source(expected: Mapping[str, Any], served: Mapping[str, Any]) -> bool:
    """Returns whether the served model was made from other weights than the exported one."""
    return dict(_leaves(expected)).get(_SOURCE_HASH) != dict(_leaves(served)).get(_SOURCE_HASH)


def metadata_problem(name: str, metadata: ModelMetadata, expected: Expected, record: Record) -> str:
    """Returns how the server's metadata of a signature differ from the export's; empty where they match.

    Where the SavedModel's own signatures are not at hand, the dtypes and sizes of its golden request must fit.
    """
    served = metadata.signatures.get(name)
    if served is None:
        return f"the served model has no such signature; it has: {', '.join(metadata.signatures) or 'none'}"
    exported = None if expected.signatures is None else expected.signatures.get(name)
    problems = []
    names: Mapping[str, Any]
    for kind, found, arrays, wanted in (
        ("input", served.inputs, record.inputs, None if exported is None else exported.inputs),
        ("output", served.outputs, record.outputs, None if exported is None else exported.outputs),
    ):
        names = arrays if wanted is None else wanted
        problems += [f"{kind} {tensor!r} is missing" for tensor in names if tensor not in found]
        problems += [f"{kind} {tensor!r} was not exported" for tensor in found if tensor not in names]
        for tensor in [tensor for tensor in names if tensor in found]:
            if wanted is None and not _fits(found[tensor], arrays[tensor]):
                recorded = f"{arrays[tensor].dtype} {list(arrays[tensor].shape)}"
                problems.append(f"{kind} {tensor!r} is {found[tensor]}, recorded as {recorded}")
            elif wanted is not None and wanted[tensor] != found[tensor]:
                problems.append(f"{kind} {tensor!r} is {found[tensor]}, exported as {wanted[tensor]}")
    return "; ".join(problems)


def unexported_signatures(metadata: ModelMetadata, expected: Expected) -> list[str]:
    """Returns the signatures that are served and were not exported; none where that cannot be known."""
    exported = expected.signatures
    return [] if exported is None else [name for name in metadata.signatures if name not in exported]


def _leaves(value: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict) and value:
        for key, inner in value.items():
            yield from _leaves(inner, f"{name}.{key}" if name else str(key))
    else:
        yield name, value


def _shown(leaves: Mapping[str, Any], name: str) -> str:
    if name not in leaves:
        return "absent"
    text = repr(leaves[name])
    return text if len(text) <= 40 else f"{text[:16]}…"


def _fits(spec: TensorSpec, array: npt.NDArray[Any]) -> bool:
    try:
        return spec.dtype == array.dtype and spec.holds(array.shape)
    except TensorError:
        return False
