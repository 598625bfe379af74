"""The export spec: every choice of an export, validated in one place.

A spec comes from a YAML file, from flags, or from keyword arguments; each gives the same fields.
Nothing here imports TensorFlow.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, Self

import pydantic
from pydantic import ConfigDict, Field, model_validator

from ...serving import contract
from ..errors import SpecError
from .values import (
    Background,
    Bits,
    Channels,
    Clean,
    CleanRadii,
    Constants,
    Formats,
    LocalPath,
    Names,
    Numbers,
    Sides,
    Signatures,
    Size,
    did_you_mean,
)

FULL_SCALE = {"uint8": 255.0, "uint16": 65535.0, "float32": 1.0}
"""The default `input_max` of each `image_dtype`."""

CENTRE, STRETCH, CORNERS = "centre", "stretch", "corners"
"""Of `map_alignment`: the map shows the middle of the model's input, or all of it, its pixels being areas or points."""

CLASSES = "classes"
"""Of `activation`: the outputs are class indices."""

_MAX_VERSION = 2**63 - 1
_BUILDER = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*")


class ExportSpec(pydantic.BaseModel):
    """Every choice of an export. The descriptions of the fields are the help of the flags."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    source: LocalPath = Field(
        description="The model: a .keras, .h5, .onnx, .tflite or .pb file, TensorFlow.js' model.json, a SavedModel "
        "directory, or package.module:function (called without arguments; needs --weights, or --trust_builder_weights)."
    )
    weights: LocalPath | None = Field(
        None, description="With a builder function: a .weights.h5 file or a TensorFlow checkpoint prefix."
    )
    trust_builder_weights: bool = Field(
        False,
        description="Export a builder's model with the weights that it comes with: for one that wraps a SavedModel or "
        "loads its weights itself. Others have random ones.",
    )
    custom_objects: str | None = Field(
        None, description="Module to import first: it defines or registers the model's own Keras objects."
    )
    unsafe_load: bool = Field(
        False, description="Let Keras load Lambda layers. They are code: only for files that you trust."
    )
    source_signature: str | None = Field(
        None, description="Which signature of a SavedModel; found by itself when there is only one."
    )
    source_input: str | None = Field(
        None, description="The name of the model's input that takes the image; found by itself when there is one."
    )
    source_constants: Constants | None = Field(
        None,
        description="Values of the model's other inputs, such as training=false,scale=0.25: a number is put wherever "
        "there is room in the input, of which each unknown size is 1, or the number of images if it is the first.",
    )
    source_output: str | None = Field(
        None,
        description="Which output is the segmentation; found by itself when there is only one. Two, as in "
        "output0,output1: detections and the prototypes of their masks, which are joined as a map of each class.",
    )
    activation: Literal["none", "sigmoid", "softmax", "clip", "byte", "tanh", "classes"] = Field(
        "none",
        description="What turns the model's output into probabilities: sigmoid and softmax of logits, clip (of "
        "heatmaps that go a little beyond 0 to 1), byte (x/255), tanh ((x + 1)/2, of -1 to 1). classes: it is class "
        "indices, as integers are by themselves; no probabilities.",
    )
    image_dtype: Literal["uint8", "uint16", "float32"] = Field(
        "uint8", description="Of the images in the pixel signatures."
    )
    input_max: float | None = Field(
        None,
        gt=0,
        description="The pixel value that means full scale. Default 255, 65535 or 1.0, by image_dtype; "
        "4095 for 12-bit data.",
    )
    scaling: Literal["none", "unit", "signed", "imagenet", "caffe"] = Field(
        "none",
        description="What the model wants of a pixel x: none (as given), unit (x/max), signed (2x/max - 1), "
        "imagenet ((x/max - mean)/std), caffe (0..255 minus mean). Or give --mean and --std.",
    )
    mean: Numbers | None = Field(
        None, description="Own mean, in units of x/max: one number, or one for each channel in RGB order."
    )
    std: Numbers | None = Field(None, description="Own standard deviation, like --mean.")
    channel_order: Literal["rgb", "bgr"] = Field("rgb", description="In which the model wants its channels.")
    fourth_channel: Literal["alpha", "zero"] | None = Field(
        None,
        description="What a model of four channels takes as the fourth: alpha, full where a picture has none (what is "
        "taken unless one is named), or zero, as of the mask of the frame before where there is none.",
    )
    model_size: Size | None = Field(
        None,
        description="HEIGHT,WIDTH, or one number for both, that the model runs at. Read from the model when it is "
        "fixed there; without one the model runs at the image's own size. Or by a side, keeping the image's shape: "
        "shortest=736, longest=1024, shortest=800,longest=1333 (at most), with multiple=32 (sides are rounded to it) "
        "and only=enlarge or only=shrink.",
    )
    resize: Literal["stretch", "letterbox"] = Field(
        "stretch", description="How an image gets to model_size: stretch, or letterbox (keeps its shape)."
    )
    antialias: bool = Field(True, description="Smooth before shrinking an image to model_size.")
    max_model_pixels: pydantic.PositiveInt = Field(
        4_000_000,
        description="Without model_size of HEIGHT,WIDTH: images that are larger for the model are refused.",
    )
    pad_to_multiple: pydantic.PositiveInt = Field(
        1,
        le=1024,
        description="Without model_size of HEIGHT,WIDTH: pad images at right and bottom to a multiple of this for the "
        "model.",
    )
    map_alignment: Literal["stretch", "corners", "centre"] | None = Field(
        None,
        description="What a map shows that is smaller than the model's input: stretch (all of it, more coarsely) or "
        "centre (its middle, as valid convolutions leave it; pictures are continued by reflection): found by itself "
        "where that is clear. corners: all of it, but its outermost pixels lie on the input's, as 33 of 513 may.",
    )
    data_format: Literal["channels_last", "channels_first"] | None = Field(
        None, description="Of the model; found by itself where its shapes show it."
    )
    confidence: float = Field(
        0.25,
        ge=0,
        le=1,
        description="Of models that answer detections and prototypes of masks: the score above which the mask of a "
        "detection counts.",
    )
    classes: Names | None = Field(None, description="Names of the model's output channels, in order.")
    foreground: Channels | None = Field(
        None,
        description="The output channel(s) that the mask is of, by index or class name. "
        "Several: softmax adds them, sigmoid takes the largest.",
    )
    threshold: float = Field(0.5, ge=0, le=1, description="A pixel is foreground when its probability is above this.")
    mask_dtype: Literal["float32", "uint8", "bool"] = Field("float32", description="Of masks in the pixel signatures.")
    mask_png_bits: Bits = Field(
        1,
        description="Of masks as PNG, a pixel: 1, the smallest and quickest, which some readers show as 0 and 1 or as "
        "booleans; or 8, always 0 and 255.",
    )
    background: Background = Field(
        "black",
        description="Of masked images: black, #rrggbb, or transparent (RGBA; encoded signatures only).",
    )
    jpeg_quality: int = Field(90, ge=1, le=100, description="Of masked_image_jpeg, 1 to 100.")
    edge: Literal["hard", "soft"] = Field(
        "hard", description="Of masked images: hard (the mask) or soft (alpha is the probability)."
    )
    clean: CleanRadii = Field(
        Clean(),
        description="Radii in image pixels, such as open=2,close=3: removes specks, then closes holes.",
    )
    formats: Formats = Field(
        ["jpeg", "png", "bmp", "webp"], description="Encodings that are accepted, by a file's first bytes."
    )
    max_image_pixels: pydantic.PositiveInt = Field(
        50_000_000, description="Larger encoded images are refused before decoding."
    )
    decode: Literal["fast", "exact"] = Field(
        "fast",
        description="fast: a JPEG of which only the mask, probability or class map is asked is decoded at 1/2, 1/4 or "
        "1/8 of its size where twice the model's size is left, if antialias is on. exact: always whole.",
    )
    bad_image: Literal["report", "fail"] = Field(
        "report",
        description="report: a bad image has its own error text, others in the batch are served. fail: the "
        "whole request fails, and under server-side batching those of strangers with it.",
    )
    signatures: Signatures | None = Field(
        None,
        description="Which signatures to export; all: every one that applies. Default: all but those of JPEG.",
    )
    optimize: Literal["none", "freeze", "bfloat16", "auto"] = Field(
        "none",
        description="freeze: weights as constants, batch normalizations folded into them; the same answers. "
        "bfloat16: computes with 8-bit fractions too, for servers whose processors have instructions for it. auto: "
        "the fastest on this machine with the same masks.",
    )
    warmup: bool = Field(True, description="Write warm-up requests for TensorFlow Serving.")
    warmup_signatures: Signatures | None = Field(
        None,
        description="Of which signatures warm-up requests are written, if not of all: those that are called. A server "
        "is ready sooner; the first call of each other one takes a second longer.",
    )
    allow_ops: Names = Field([], description="Ops that are exported although they are refused by default.")
    output_dir: LocalPath = Field(description="Base path of the served model; the version directory goes into it.")
    version: pydantic.PositiveInt | None = Field(
        None, le=_MAX_VERSION, description="Default: the highest there, plus 1."
    )
    keep: pydantic.PositiveInt | None = Field(
        None, description="How many versions to keep, this one included. Default: all."
    )

    @property
    def fixed_size(self) -> tuple[int, int] | None:
        """Height and width of `model_size`, where that is the same for all images."""
        return None if isinstance(self.model_size, Sides) else self.model_size

    @property
    def sides(self) -> Sides | None:
        """The `model_size` that follows an image's shape."""
        return self.model_size if isinstance(self.model_size, Sides) else None

    @property
    def full_scale(self) -> float:
        """The pixel value that means full scale in the pixel signatures."""
        return self.input_max if self.input_max is not None else FULL_SCALE[self.image_dtype]

    @property
    def decodes_16_bits(self) -> bool:
        """Whether 16-bit PNG files keep all of their bits."""
        return self.full_scale > FULL_SCALE["uint8"]

    @property
    def is_builder(self) -> bool:
        """Whether the source is a function to call, rather than a file."""
        return is_builder(self.source)

    @model_validator(mode="before")
    @classmethod
    def _booleans_are_no_numbers(cls, values: dict[str, Any]) -> dict[str, Any]:
        for key, value in values.items():
            field = cls.model_fields.get(key)
            # A model's other inputs, among them switches, are checked against what each one takes.
            if field is None or field.annotation is bool or key == "source_constants" or (key == "clean" and not value):
                continue
            items = list(value.values()) if isinstance(value, dict) else value if isinstance(value, list) else [value]
            found = [item for item in items if isinstance(item, bool)]
            if found:
                raise ValueError(
                    f"{key}: got {str(found[0]).lower()} (YAML reads yes, no, on and off as true and false)"
                )
        return values

    @model_validator(mode="after")
    def _combinations_are_possible(self) -> Self:
        def refuse(key: str, why: str) -> None:
            raise ValueError(f"{key}: {why}")

        if self.mean is not None or self.std is not None:
            if self.scaling != "none":
                refuse("scaling", f"mean and std replace it; leave scaling out (got {self.scaling!r})")
            if any(value <= 0 for value in self.std or []):
                refuse("std", "each value must be above 0")
        if self.is_builder and not self.weights and not self.trust_builder_weights:
            own = "a new model's are random; if it comes with trained ones, --trust_builder_weights"
            refuse("weights", f"needed with the builder {self.source!r}: {own}")
        if self.trust_builder_weights and (self.weights or not self.is_builder):
            instead = "weights are given" if self.weights else f"{self.source!r} is none"
            refuse("trust_builder_weights", f"is for a builder (package.module:function) without weights; {instead}")
        if self.weights and not self.is_builder:
            refuse("weights", f"only a builder (package.module:function) takes them; got {self.source!r}")
        if self.image_dtype == "uint8" and self.full_scale > FULL_SCALE["uint8"]:
            refuse("input_max", f"{self.full_scale:g} is above what uint8 holds; set image_dtype: uint16")
        if self.image_dtype == "uint16" and self.full_scale > FULL_SCALE["uint16"]:
            refuse("input_max", f"{self.full_scale:g} is above what uint16 holds; set image_dtype: float32")
        if self.warmup_signatures and not self.warmup:
            refuse("warmup_signatures", "is for an export with warm-up requests; leave out warmup: false")
        if self.fixed_size and self.pad_to_multiple > 1:
            refuse("pad_to_multiple", "is for models that run at the image's size; leave out model_size")
        for signature in self.signatures or []:
            if self.background == "transparent" and signature.startswith(contract.MASKED_IMAGE_JPEG):
                refuse(
                    "signatures", f"{signature!r} needs an opaque background, as JPEG has none other; got transparent"
                )
        if self.sides and self.resize != "stretch":
            refuse(
                "resize", f"{self.resize!r} is for a model_size of HEIGHT,WIDTH; {self.sides} keeps the image's shape"
            )
        for name in self.foreground or []:
            if isinstance(name, str) and name not in (self.classes or []):
                known = f"; classes are: {', '.join(self.classes)}" if self.classes else "; give classes too"
                refuse("foreground", f"no class {name!r}{did_you_mean(name, self.classes or [])}{known}")
        return self


def is_builder(source: str) -> bool:
    """Tells a `package.module:function` from a path."""
    return bool(_BUILDER.fullmatch(source)) and not Path(source).exists()


def make_spec(fields: Mapping[str, Any], origin: str | None = None) -> ExportSpec:
    """Returns the validated spec of some fields; `origin` is the file they come from.

    Raises:
        SpecError: an unknown key, a wrong type, an impossible combination. Names the key.
    """
    try:
        return ExportSpec(**{str(key): value for key, value in fields.items()})
    except pydantic.ValidationError as error:
        prefix = f"spec {origin}: " if origin else ""
        raise SpecError(prefix + _first_problem(error)) from None


def _first_problem(error: pydantic.ValidationError) -> str:
    # An unknown key explains others (a field that seems missing is the misspelt one), so it goes first.
    problem = min(error.errors(), key=lambda problem: problem["type"] != "extra_forbidden")
    kind = problem["type"]
    key, *inner = map(str, problem["loc"] or [""])
    if kind == "extra_forbidden":
        if inner:
            known = (Sides if key == "model_size" else Clean).model_fields
            return f"{key}: no key {inner[-1]!r}; there are: {', '.join(known)}"
        return f"unknown key {key!r}{did_you_mean(key, ExportSpec.model_fields)}"
    if kind in ("missing", "too_short"):
        return f"{key}: {'is needed' if kind == 'missing' else 'wants at least one'}"
    text = problem["msg"].removeprefix("Value error, ")
    text = text[0].lower() + text[1:]
    return f"{key}: {text} (got {problem['input']!r})" if key else text
