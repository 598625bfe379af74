"""Running the model once before it is exported: does it run at all, and are its answers probabilities?"""

import contextlib
import dataclasses
import itertools
import logging
import math
from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from ..errors import SourceError, SpecError
from ..graph.maps.geometry import make_geometry
from ..graph.scaling import ValueScaling
from ..model import examples
from ..model.causes import cause_of
from ..model.model_graph import after_own_scaling, ends_in, random_ops
from ..model.segmentation_model import SegmentationModel
from ..model.tracing import without_graph_optimization
from ..sources.adapting.outputs import DISTORTION
from ..spec import ExportSpec
from .alignment import Alignment, align
from .alignment_probe import find_alignment, find_map_size, run_to_map_size
from .comparison import Comparison, compare

logger = logging.getLogger(__name__)

_FREE_SIZES = ((96, 128), (83, 109))
"""(height, width) that a model without a fixed size is tried at: a size that every network takes, and an odd one."""
_LARGE_FREE_SIZES = ((284, 572), (300, 316))
"""Likewise, for one that takes none as small: a U-Net of valid convolutions wants 188, and 16 more each time."""
_MULTIPLES = (2, 4, 8, 16, 32, 64)
"""Those that networks take who halve pictures some times."""
_PHOTOGRAPH = (768, 1024)
"""Likewise, once: networks that pad pictures up to one size, or hold positions for it, take smaller ones only."""
_PHOTOGRAPH_EDGES = (896, 768, 640, 512, 384, 320, 256, 224, 192, 160, 128)
"""To which photographs may be made smaller for such networks."""
_SMALL_EDGES = (1, 2, 4, 8, 16, 32, 64)
_ROUNDING = 1e-3
"""By how much a probability may be outside [0, 1]."""
_ROUNDING_OF_SUMS = 0.02
"""By how much a sum of probabilities may be from 1: those of models that end in 8 bits, or in bfloat16, are."""
_BEYOND = 0.25
"""By how much regressed heatmaps of 0 to 1 go beyond; logits go further, on one of the drawn pictures at least."""
_RANGES = {"byte": (0.0, 255.0), "tanh": (-1.0, 1.0), "clip": (-_BEYOND, 1 + _BEYOND)}
"""Of the outputs that an activation is for."""
_LARGE = 20
"""Outputs that are never negative and reach this are no unit of their own: percents, or 0 to 255."""
_EDGE = 32
_LEAST_CONTRAST = 0.05
"""Between black and white, of what a network is made for: it is 1, 2, some 4.5 or 255."""
_GREATEST_OFFSET = 20
"""How far from 0 such values lie at most, in units of that contrast."""


@dataclasses.dataclass(frozen=True)
class ProbeResult:
    """What the model answered to a few drawn pictures."""

    minimum: float  # smallest output before any activation
    maximum: float  # largest
    min_edge: int  # smallest height and width, in pixels, that a model without a fixed size takes; else 1
    excludes: bool  # whether its outputs are probabilities of classes that exclude each other: they add up to 1
    alignment: Alignment | None = None  # of its map; None where that shows the whole of its input
    comparison: Comparison | None = None  # with what the model's file is made for, where that is installed

    @property
    def looks_like_probabilities(self) -> bool:
        """Whether all outputs are within [0, 1]."""
        return self._is_within(_ROUNDING)

    @property
    def looks_like_heatmaps(self) -> bool:
        """Whether all outputs are about within [0, 1]."""
        return self._is_within(_BEYOND)

    def _is_within(self, slack: float) -> bool:
        return self.minimum >= -slack and self.maximum <= 1 + slack


@without_graph_optimization()
def probe(model: SegmentationModel, spec: ExportSpec) -> ProbeResult:
    """Runs the model on drawn pictures, scaled and resized as it will be served.

    Raises:
        SourceError: it does not run at sizes that it must.
        SpecError: `activation: none`, but the outputs are no probabilities; or it is not clear how its map lies.
    """
    sizes, first = _first_answer(model, spec)
    # First: whatever else is found out of a model that answers otherwise each time would be misleading. Random ops may
    # begin alike in each graph; what Python draws is a constant of one.
    for again in (model, dataclasses.replace(model)):
        _check_repeats(model, first, _answer(again, spec, *sizes[0]), spec)
    comparison = compare(model, _model_input(model, spec, *sizes[0]), f"source {spec.source}")
    alignment = find_alignment(model, spec)
    model = align(model, alignment)
    outputs = [first] if alignment is None else [_answer(model, spec, *sizes[0])]
    outputs += [_answer(model, spec, *size) for size in sizes[1:]]
    if model.size is None:
        _check_takes_photographs(model, spec)
    for size, output in zip(sizes, outputs, strict=True):
        _check_shape(output.shape, size, spec)
    values = np.concatenate([output.reshape(-1, model.output_channels) for output in outputs])
    warn_of_double_scaling(model, spec)
    if model.channels == 4 and spec.fourth_channel is None:
        logger.warning(
            "fourth_channel: the model's fourth channel is taken for alpha, full where pictures have none; if it is "
            "something else, such as the mask of the frame before, give 'zero', else 'alpha'"
        )
    if np.isnan(values).all():
        raise SourceError(f"source {spec.source}: the model answers nothing but NaN")
    result = ProbeResult(
        minimum=float(np.nanmin(values)),
        maximum=float(np.nanmax(values)),
        min_edge=1 if model.size or alignment else _find_min_edge(model),
        excludes=not model.joins_detections
        and bool(model.output_channels > 1 and np.abs(values.sum(-1) - 1).max() < _ROUNDING_OF_SUMS),
        alignment=alignment,
        comparison=comparison,
    )
    if model.answers_classes:
        return result
    is_whole = bool(model.output_channels == 1 and (values == np.round(values)).all())
    if spec.activation in _RANGES:
        _check_range(result, spec.activation)
    if spec.activation == "none" and not result.looks_like_probabilities:
        raise SpecError(
            f"activation: 'none', but the model's outputs reach from {result.minimum:.3g} to {result.maximum:.3g}, "
            f"so they are no probabilities; {_advise(model, result.minimum, result.maximum, is_whole=is_whole)}"
        )
    if spec.activation == "sigmoid" and _is_never_negative(result.minimum, result.maximum):
        logger.warning(
            "activation: 'sigmoid' calls everything foreground, since the model's outputs are never negative (%.3g to "
            "%.3g); %s", result.minimum, result.maximum, _advise(model, result.minimum, result.maximum),
        )  # fmt: skip
    if spec.activation == "sigmoid" and result.looks_like_heatmaps and not result.looks_like_probabilities:
        logger.warning(
            "activation: 'sigmoid' leaves little of what the model's outputs say, which reach from %.3g to %.3g only; "
            "is it %r?", result.minimum, result.maximum, "tanh" if ends_in(model, "Tanh") else "clip",
        )  # fmt: skip
    if spec.activation not in ("none", "tanh", "clip") and result.looks_like_probabilities:
        logger.warning(
            "activation: %r is applied, but the model's outputs are within [0, 1] already, as if it had been; "
            "is it 'none'?",
            spec.activation,
        )
    return result


def _check_repeats(model: SegmentationModel, first: np.ndarray, second: np.ndarray, spec: ExportSpec) -> None:
    if first.shape == second.shape and np.allclose(first, second, rtol=1e-3, atol=1e-4, equal_nan=True):
        return
    ops = random_ops(model)
    why = f"it holds random ops ({', '.join(ops)})" if ops else "it holds some state"
    moved = f" (by up to {np.nanmax(np.abs(first - second)):.3g})" if first.shape == second.shape else ""
    raise SourceError(
        f"source {spec.source}: the model answers differently each time{moved}: {why}; give the .keras file, "
        "where layers for training alone are left out, or save it without dropout, noise and augmentation"
    )


def _find_min_edge(model: SegmentationModel) -> int:
    sizes = ((edge, edge) for edge in _SMALL_EDGES)
    fitting = (size[0] for size in sizes if run_to_map_size(model, size) and find_map_size(model, size))
    return next(fitting, max(_SMALL_EDGES))


def _check_shape(shape: tuple[int, ...], size: tuple[int, int], spec: ExportSpec) -> None:
    vertical, horizontal = shape[1] / size[0], shape[2] / size[1]
    if not vertical or not horizontal or max(vertical, horizontal) > DISTORTION * min(vertical, horizontal):
        raise SourceError(
            f"source {spec.source}: answers {shape[1]}x{shape[2]} for a {size[0]}x{size[1]} picture, which is no map "
            "of it; wanted [B, H, W, classes], or [B, classes, H, W], or [B, H*W, classes]"
        )


def _model_input(model: SegmentationModel, spec: ExportSpec, height: int, width: int, count: int = 4) -> tf.Tensor:
    """Returns drawn pictures, and a black and a white one, as the model takes them; or the first of these."""
    flat = (np.full((height, width, 3), value, np.uint8) for value in (0, 255))
    pictures = itertools.chain((examples.draw_picture(height, width, seed=seed) for seed in (0, 1)), flat)
    pixels = np.stack(
        [
            examples.as_pixels(picture, model.channels, "float32", spec.full_scale)
            for picture in itertools.islice(pictures, count)
        ]
    )
    scaling, geometry = ValueScaling(spec, model), make_geometry(spec, model)
    return scaling(geometry.to_model(tf.constant(pixels)), spec.full_scale)


def _answer(model: SegmentationModel, spec: ExportSpec, height: int, width: int, *, advises: bool = True) -> np.ndarray:
    model_input = _model_input(model, spec, height, width)
    try:
        outputs = model.traced(model_input)
    except Exception as error:
        advice = f"; {_advice_on_size(model, spec, height, width)}" if advises and not model.size else ""
        raise SourceError(
            f"source {spec.source}: fails on a drawn {height}x{width} picture: {cause_of(error)}{advice}"
        ) from error
    return np.asarray(outputs)


def _advice_on_size(model: SegmentationModel, spec: ExportSpec, height: int, width: int) -> str:
    """Returns what may help a model that fails on a picture of a size."""
    for multiple in () if spec.sides else _MULTIPLES:
        if height % multiple == 0 == width % multiple:
            continue  # it fails on one that is such a multiple
        padded = spec.model_copy(update={"pad_to_multiple": math.lcm(multiple, spec.pad_to_multiple)})
        # Odd ones, so that no other multiple is the reason.
        edges = (multiple * (edge // (2 * multiple) * 2 + 1) for edge in _FREE_SIZES[0])
        if padded != spec and not _problem(model, padded, *edges):
            return f"it takes multiples of {padded.pad_to_multiple}: --pad_to_multiple={padded.pad_to_multiple}"
    return "it may need --pad_to_multiple or a fixed --model_size=HEIGHT,WIDTH"


def _check_takes_photographs(model: SegmentationModel, spec: ExportSpec) -> None:
    height, width = _PHOTOGRAPH
    shrunk = 1.0 if spec.sides else min(1.0, math.sqrt(spec.max_model_pixels / (height * width)))
    tried = int(shrunk * height), int(shrunk * width)
    problem = _problem(model, spec, *tried)
    if not problem:
        return
    cure = "give a fixed --model_size=HEIGHT,WIDTH"
    for edge in () if spec.sides else _PHOTOGRAPH_EDGES:
        # A square, which portraits and landscapes of that length lie within.
        if edge < tried[1] and not _problem(model, spec, edge, edge):
            cure = f"it takes smaller ones: --model_size=longest={edge}; or {cure}"
            break
    raise SourceError(f"source {spec.source}: fails on a drawn {tried[0]}x{tried[1]} picture: {problem}; {cure}")


def _problem(model: SegmentationModel, spec: ExportSpec, height: int, width: int) -> str:
    """Returns why a model fails on a picture of a size; nothing where it does not."""
    try:
        model.traced(_model_input(model, spec, height, width, count=1))
    except Exception as error:
        return cause_of(error)
    return ""


def _first_answer(model: SegmentationModel, spec: ExportSpec) -> tuple[Sequence[tuple[int, int]], np.ndarray]:
    """Returns the sizes to try a model at, and what it answers at the first of them."""
    sizes = [model.size] if model.size else _FREE_SIZES
    for some in (sizes, _LARGE_FREE_SIZES) if model.size is None else (sizes,):
        with contextlib.suppress(SourceError):
            return some, _answer(model, spec, *some[0], advises=False)
    return sizes, _answer(model, spec, *sizes[0])  # the first failure tells more


def _advise(model: SegmentationModel, minimum: float, maximum: float, *, is_whole: bool = False) -> str:
    """Returns what makes probabilities of a model's outputs, from `minimum` to `maximum`, that are none."""
    activation = f"give {'sigmoid' if model.output_channels == 1 else 'softmax or sigmoid'}"
    if minimum >= -1.001 and maximum <= 1.001 and ends_in(model, "Tanh"):
        return "the model ends in a tanh: give tanh, which makes probabilities of -1 to 1"
    if minimum >= -_BEYOND and maximum <= 1 + _BEYOND:
        return f"they go a little beyond 0 to 1, as heatmaps do: give clip; or, if they are logits, {activation}"
    if minimum >= 0:
        if is_whole:
            return "they are whole numbers, as class indices are: give classes"
        if 100.5 < maximum <= 255.5:
            means, cure = "as if they meant 0 to 255", "give byte"
        else:
            is_percent = _LARGE < maximum <= 100.5
            means = "as if they meant 0 to 100" if is_percent else "which logits seldom are"
            formula = f"model.output / {100 if is_percent else 'LARGEST'}"
            cure = f"divide them in the model: {_builder(formula)}"
        return (
            f"they are never negative, {means}, and a sigmoid would call everything foreground; {cure}; or, if "
            f"they are logits, {activation}"
        )
    return activation


def _check_range(found: ProbeResult, activation: str) -> None:
    least, most = _RANGES[activation]
    slack = _ROUNDING * (most - least)
    if found.minimum < least - slack or found.maximum > most + slack:
        raise SpecError(
            f"activation: {activation!r} is for outputs of {least:g} to {most:g}; the model's reach from "
            f"{found.minimum:.3g} to {found.maximum:.3g}"
        )


def _is_never_negative(minimum: float, maximum: float) -> bool:
    """Whether outputs are no logits: all of them at least 0, some far above 1."""
    return minimum >= 0 and maximum > _LARGE


def _builder(formula: str) -> str:
    return f"source: module:function, which returns keras.Model(model.input, {formula})"


def warn_of_double_scaling(model: SegmentationModel, spec: ExportSpec) -> None:
    """Warns where, by what a model's graph begins with, black and white become nearly the same to the network."""
    if spec.scaling == "none" and spec.mean is None and spec.std is None:
        return
    size = model.size or (_EDGE, _EDGE)
    shape = [*size, model.channels if model.takes_bands else 3]
    black_and_white = tf.stack([tf.zeros(shape), tf.fill(shape, spec.full_scale)])
    scaled = ValueScaling(spec, model)(black_and_white, spec.full_scale)
    for values in after_own_scaling(model, scaled):
        black, white = values[: len(values) // 2], values[len(values) // 2 :]
        contrast = float(np.abs(white - black).max())
        if contrast < _LEAST_CONTRAST or float(np.median(np.abs(values))) > _GREATEST_OFFSET * contrast:
            said = f"scaling: {spec.scaling!r}" if spec.scaling != "none" else "mean, std: given"
            logger.warning(
                "%s, but the model scales its pictures itself: what it makes of black and white then differs by %.2g "
                "only (%.4g to %.4g); is it 'none'?",
                said, contrast, float(values.min()), float(values.max()),
            )  # fmt: skip
            return
