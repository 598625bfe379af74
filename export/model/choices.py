"""What a spec chooses of its model: foreground, signatures, warm-up; `SpecError` where the model does not have it."""

from ...serving import contract
from ..errors import SpecError
from ..spec import ALL_SIGNATURES, CLASSES, ExportSpec
from .segmentation_model import SegmentationModel

_MOST_CLASSES = 65536
"""Class indices that a class map can hold."""


def choose_signatures(spec: ExportSpec, model: SegmentationModel) -> list[str]:
    """Returns the signatures that are exported, by name; SpecError for one that the model cannot answer."""
    available = [
        name
        for name, signature in contract.SIGNATURES.items()
        if (
            not (signature.product == contract.PROBABILITY or signature.takes_threshold)
            if model.answers_classes
            else signature.product != contract.CLASS_MAP or model.output_channels > 1
        )
        and not (signature.product == contract.MASKED_IMAGE_JPEG and spec.background == "transparent")
        and not (signature.is_encoded and model.takes_bands)
    ]
    if spec.signatures is None:
        return [name for name in available if contract.SIGNATURES[name].product != contract.MASKED_IMAGE_JPEG]
    if ALL_SIGNATURES in spec.signatures:
        return available
    for name in spec.signatures:
        if contract.SIGNATURES[name].is_encoded and model.takes_bands:
            takes = f"the model takes {model.channels} bands"
            raise SpecError(f"signatures: {name!r} is for encoded pictures of 1, 3 or 4 channels; {takes}, as pixels")
        if name not in available and model.answers_classes:
            raise SpecError(f"signatures: {name!r} needs probabilities; the model answers class indices")
        if name not in available:
            raise SpecError(f"signatures: {name!r} needs two or more output channels; the model has one")
    return spec.signatures


def choose_warmup(spec: ExportSpec, exported: list[str]) -> list[str]:
    """Returns the signatures that are warmed up, of those that are exported; SpecError for others."""
    wanted = spec.warmup_signatures or [ALL_SIGNATURES]
    for name in wanted:
        if name not in (*exported, ALL_SIGNATURES):
            raise SpecError(f"warmup_signatures: {name!r} is not exported; there are: {', '.join(exported)}")
    return exported if ALL_SIGNATURES in wanted else wanted


def check_class_indices(spec: ExportSpec) -> None:
    """Makes sure that a spec asks for nothing that class indices do not give."""
    for key, value, allowed in (
        ("activation", spec.activation, ("none", CLASSES)),
        ("threshold", spec.threshold, (0.5,)),
        ("edge", spec.edge, ("hard",)),
    ):
        if value not in allowed:
            raise SpecError(f"{key}: {value!r} is for probabilities; the model answers class indices, which have none")


def resolve_foreground(spec: ExportSpec, model: SegmentationModel) -> list[int]:
    """Returns the indices of the output channels that the mask is of; SpecError where they do not fit the model."""
    count = model.output_channels
    if model.answers_classes:
        count = len(spec.classes) if spec.classes else _MOST_CLASSES
    named = ", ".join(f"{i} ({name})" for i, name in enumerate(spec.classes or []))
    choices = named or f"0 to {count - 1}"
    if spec.foreground is None:
        if count == 1:
            return [0]
        has = "answers class indices" if model.answers_classes else f"has {count} output channels"
        raise SpecError(f"foreground: the model {has}; give the mask's: {choices}")
    indices = [
        channel if isinstance(channel, int) else (spec.classes or []).index(channel) for channel in spec.foreground
    ]
    for index in indices:
        if index >= count:
            kind = "class" if model.answers_classes else "output channel"
            raise SpecError(f"foreground: no {kind} {index}; the model has: {choices}")
    if spec.activation == "softmax" and len(set(indices)) == count:
        raise SpecError("foreground: all of the model's channels: with softmax they add up to 1 everywhere")
    if len(set(indices)) < len(indices):
        raise SpecError(f"foreground: the same channel twice: {spec.foreground}")
    return indices
