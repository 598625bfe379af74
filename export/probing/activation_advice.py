"""What to do about outputs that do not fit the spec's activation."""

from ..model.model_graph import ends_in
from ..model.segmentation_model import SegmentationModel

_LARGE = 20
"""Outputs that are never negative and reach this are no unit of their own: percents, or 0 to 255."""


def advise(model: SegmentationModel, minimum: float, maximum: float) -> str:
    """Returns what makes probabilities of a model's outputs that are none.

    Args:
        model: that answers them.
        minimum: its smallest output.
        maximum: its largest.
    """
    activation = f"give {'sigmoid' if model.output_channels == 1 else 'softmax or sigmoid'}"
    if minimum >= 0:
        divisor = 255 if 100.5 < maximum <= 255.5 else 100 if _LARGE < maximum <= 100.5 else None
        formula = f"model.output / {divisor or 'LARGEST'}"
        means = f"as if they meant 0 to {divisor}" if divisor else "which logits seldom are"
        return (
            f"they are never negative, {means}, and a sigmoid would call everything foreground; divide them in the "
            f"model: {_builder(formula)}; or, if they are logits, {activation}"
        )
    if minimum >= -1.001 and maximum <= 1.001 and ends_in(model, "Tanh"):
        return (
            f"the model ends in a tanh, of which (x + 1) / 2 makes probabilities: {_builder('(model.output + 1) / 2')}"
        )
    return activation


def is_never_negative(minimum: float, maximum: float) -> bool:
    """Whether outputs are no logits: all of them at least 0, some far above 1."""
    return minimum >= 0 and maximum > _LARGE


def _builder(formula: str) -> str:
    return f"source: module:function, which returns keras.Model(model.input, {formula})"
