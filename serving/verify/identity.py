"""Whether the served model is the exported one: what its `maskport.json` says, and its signatures' metadata."""

from collections.abc import Iterator, Mapping
from typing import Any

from ..client import ModelMetadata, SignatureInfo, TensorSpec
from ..wire.tensors import TensorError
from .goldens import Expected, Record, Tensors

_ABSENT = object()
_SOURCE_HASH = "source.sha256"
_CONSEQUENCES = ("probe.", "reproducibility.", "versions.")


def manifest_differences(expected: Mapping[str, Any], served: Mapping[str, Any]) -> list[str]:
    """Returns how what a served model says of itself differs from what was exported, most telling first.

    Args:
        expected: the export's `maskport.json`.
        served: the served model's, from `export_info`.
    """
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

    Args:
        name: of the signature.
        metadata: the server's.
        expected: with the SavedModel's own signatures, where they are at hand. Else the dtypes and sizes of
            the golden request must fit what the server says.
        record: the golden request of the signature.
    """
    served = metadata.signatures.get(name)
    if served is None:
        return f"the served model has no such signature; it has: {', '.join(metadata.signatures) or 'none'}"
    exported = (expected.signatures or {}).get(name)
    problems = []
    for kind, found, arrays in (("input", served.inputs, record.inputs), ("output", served.outputs, record.outputs)):
        wanted = None if exported is None else _side(exported, kind)
        names = wanted if wanted is not None else arrays
        problems += [f"{kind} {tensor!r} is missing" for tensor in names if tensor not in found]
        problems += [f"{kind} {tensor!r} was not exported" for tensor in found if tensor not in names]
        for tensor in [tensor for tensor in names if tensor in found]:
            if wanted is not None and wanted[tensor] != found[tensor]:
                problems.append(f"{kind} {tensor!r} is {found[tensor]}, exported as {wanted[tensor]}")
            elif wanted is None and not _fits(found[tensor], arrays, tensor):
                shape = list(arrays[tensor].shape)
                problems.append(f"{kind} {tensor!r} is {found[tensor]}, recorded as {arrays[tensor].dtype} {shape}")
    return "; ".join(problems)


def unexported_signatures(metadata: ModelMetadata, expected: Expected) -> list[str]:
    """Returns the signatures that are served and were not exported; none where that cannot be known."""
    if expected.signatures is None:
        return []
    return [name for name in metadata.signatures if name not in expected.signatures]


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


def _side(signature: SignatureInfo, kind: str) -> Mapping[str, TensorSpec]:
    return signature.inputs if kind == "input" else signature.outputs


def _fits(spec: TensorSpec, arrays: Tensors, name: str) -> bool:
    array = arrays[name]
    try:
        same_dtype = spec.dtype == array.dtype
    except TensorError:
        return False
    if spec.shape is None:
        return same_dtype
    same_rank = len(spec.shape) == array.ndim
    return (
        same_dtype
        and same_rank
        and all(size in (-1, wanted) for size, wanted in zip(spec.shape, array.shape, strict=True))
    )
