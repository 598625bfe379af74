"""The spec's `optimize`: other forms of the forward pass, with the same answers or nearly so, faster.

Offered is what gained a fifth on some common processor when it was measured (`scripts/benchmark --only optimize`).
"""

import dataclasses
import functools
import logging
from collections.abc import Callable, Iterator, Mapping

import numpy as np
import tensorflow as tf

from ....serving.agreement import NEAR_THRESHOLD
from ...errors import SpecError
from ...model import examples
from ...model.segmentation_model import SegmentationModel
from ...model.tracing import without_fusion
from ...spec import ExportSpec
from ..module import MaskModule
from .frozen_graph import FrozenGraph, freeze
from .timing import median_seconds

logger = logging.getLogger(__name__)

NONE, FREEZE, BFLOAT16, AUTO = "none", "freeze", "bfloat16", "auto"

_MIN_IOU = 0.995
"""Of masks with those of the plain model: below it, `auto` does not take a form, and others are warned of."""
_MIN_SPEEDUP = 1.1
"""By which a form must beat the one before, so that noise decides nothing."""
_SIZES = ((384, 512), (256, 256), (301, 240))
"""(height, width) of the pictures that masks are compared on; the first is timed, at the model's size if it has one."""
_MAX_ROUNDS, _MAX_SECONDS = 15, 4.0
_TOLERANCES = {BFLOAT16: 0.02}
"""bfloat16 has 8 bits, and processors round in an order of their own; all else is as precise as float32."""


@dataclasses.dataclass(frozen=True)
class Comparison:
    """One form of a model beside the plain one: how many times as fast, and the IoU of masks; None is unknown."""

    speedup: float | None
    iou: float | None

    def __str__(self) -> str:
        """Returns it for people."""
        speed = "" if self.speedup is None else f"{self.speedup:.2f} times as fast as plain, "
        return f"{speed}mask IoU {'unknown' if self.iou is None else format(self.iou, '.4f')}"


@dataclasses.dataclass(frozen=True)
class Optimized:
    """A model in the form that is exported: `choice`, and how those that were tried compare with the plain model."""

    model: SegmentationModel
    choice: str = NONE
    comparisons: Mapping[str, Comparison] = dataclasses.field(default_factory=dict)

    @property
    def least_tolerance(self) -> float:
        """How far a probability may at least be apart on two processors."""
        return _TOLERANCES.get(self.choice, NEAR_THRESHOLD)

    @property
    def description(self) -> str:
        """What was chosen and how all compare, for people; empty where nothing was to be chosen."""
        if not self.comparisons:
            return ""
        return f"{self.choice} ({'; '.join(f'{name}: {found}' for name, found in self.comparisons.items())})"


def optimize(
    model: SegmentationModel, spec: ExportSpec, make_module: Callable[[SegmentationModel], MaskModule]
) -> Optimized:
    """Returns a model in the form that the spec asks for; `make_module` wraps one, to see its masks.

    Raises:
        SpecError: this model or this machine cannot have that form.
    """
    if spec.optimize == NONE:
        return Optimized(model)
    forms = dict(_forms(model, spec.optimize))
    modules = {name: make_module(form) for name, form in {NONE: model, **forms}.items()}
    makers = {name: _mask_maker(module) for name, module in modules.items()}
    pictures = _pictures(model, modules[NONE])
    with without_fusion():  # what is saved is protected from it, what is traced here is not
        masks = {name: [mask_of(picture) for picture in pictures] for name, mask_of in makers.items()}
    ious = {name: _iou(masks[NONE], masks[name]) for name in forms}
    if spec.optimize == AUTO:
        calls = {name: functools.partial(mask_of, pictures[0]) for name, mask_of in makers.items()}
        seconds = median_seconds(calls, _MAX_ROUNDS, _MAX_SECONDS)
        comparisons = {name: Comparison(seconds[NONE] / seconds[name], ious[name]) for name in forms}
        choice = choose(comparisons)
    else:
        comparisons = {name: Comparison(None, ious[name]) for name in forms}
        choice = spec.optimize
        iou = ious[choice]
        if iou is not None and iou < _MIN_IOU:
            logger.warning(
                "optimize: %r changes the masks of drawn pictures (IoU %.4f, below %s); compare it on your own",
                choice, iou, _MIN_IOU,
            )  # fmt: skip
    return Optimized({NONE: model, **forms}[choice], choice, comparisons)


def choose(comparisons: Mapping[str, Comparison]) -> str:
    """Returns the fastest form whose masks are the plain model's, the earlier (more careful) one where it is close."""
    chosen, best = NONE, 1.0
    for name, found in comparisons.items():
        is_faithful = found.iou is not None and found.iou >= _MIN_IOU
        if is_faithful and found.speedup is not None and found.speedup >= best * _MIN_SPEEDUP:
            chosen, best = name, found.speedup
    return chosen


def _forms(model: SegmentationModel, wanted: str) -> Iterator[tuple[str, SegmentationModel]]:
    try:
        frozen = freeze(model)
        if wanted in (FREEZE, AUTO):
            yield FREEZE, _with_graph(model, frozen)
        if wanted in (BFLOAT16, AUTO):
            yield BFLOAT16, _with_graph(model, frozen.in_bfloat16())
    except SpecError:
        # What cannot be had is no choice.
        if wanted != AUTO:
            raise


def _with_graph(model: SegmentationModel, graph: FrozenGraph) -> SegmentationModel:
    return dataclasses.replace(model, forward=graph.forward(), trackable=None)


def _pictures(model: SegmentationModel, module: MaskModule) -> list[tf.Tensor]:
    """Returns drawn pictures as files, or as pixels where the model takes bands."""
    spec = module.spec
    sizes = [module.fit(*size) for size in (model.size or _SIZES[0], *_SIZES[1:])]
    drawn = [examples.draw_picture(*size, seed=seed) for seed, size in enumerate(sizes)]
    if model.takes_bands:
        form = model.channels, spec.image_dtype, spec.full_scale
        return [tf.constant(examples.as_pixels(picture, *form)) for picture in drawn]
    return [tf.constant(examples.encode(picture, spec.formats[0])) for picture in drawn]


def _mask_maker(module: MaskModule) -> Callable[[tf.Tensor], np.ndarray]:
    threshold = module.spec.threshold
    if module.takes_bands:
        read_pixels = module.pixels.reader()
        return lambda pixels: np.asarray(read_pixels(pixels).numpy() > threshold)
    read = module.pictures.reader()
    return lambda picture: np.asarray(read(picture)[0].numpy() > threshold)


def _iou(masks: list[np.ndarray], others: list[np.ndarray]) -> float | None:
    pairs = list(zip(masks, others, strict=True))
    union = sum(int((one | other).sum()) for one, other in pairs)
    return sum(int((one & other).sum()) for one, other in pairs) / union if union else None
