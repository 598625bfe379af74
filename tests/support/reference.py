"""The whole way from an image to a mask, written once more in plain NumPy, SciPy and Pillow.

The oracle for exported graphs: float64 throughout, and no code of the product.
"""

import dataclasses
import io

import numpy as np
from PIL import Image, ImageOps
from scipy import ndimage

LUMA = np.array([0.299, 0.587, 0.114])


def axis_weights(size_in, size_out, antialias):
    """Matrix [size_out, size_in] of bilinear resampling with half-pixel centres."""
    scale = size_in / size_out
    support = max(scale, 1.0) if antialias else 1.0
    centres = (np.arange(size_out) + 0.5) * scale - 0.5
    distance = np.abs(np.arange(size_in)[np.newaxis, :] - centres[:, np.newaxis])
    if not antialias:
        # samples outside repeat the edge
        clipped = np.clip(centres, 0, size_in - 1)
        distance = np.abs(np.arange(size_in)[np.newaxis, :] - clipped[:, np.newaxis])
    weights = np.clip(1 - distance / support, 0, None)
    return weights / weights.sum(1, keepdims=True)


def resize(image, size, antialias=False):
    """[H, W, C] to [*size, C]."""
    if image.shape[:2] == tuple(size):
        return image.astype(np.float64)
    rows = axis_weights(image.shape[0], size[0], antialias)
    columns = axis_weights(image.shape[1], size[1], antialias)
    return np.einsum("yh,hwc,xw->yxc", rows, image.astype(np.float64), columns, optimize=True)


def open_upright(data, mode):
    with Image.open(io.BytesIO(data)) as picture:
        pixels = np.asarray(ImageOps.exif_transpose(picture).convert(mode))
    return pixels[..., np.newaxis] if pixels.ndim == 2 else pixels


def disc(radius):
    y, x = np.mgrid[-radius : radius + 1, -radius : radius + 1]
    return x * x + y * y <= radius * radius


@dataclasses.dataclass
class Toy:
    """A segmentation network that NumPy can compute: one 3x3 convolution, optionally at half resolution.

    Args:
        kernel: [3, 3, C, K].
        bias: [K].
        stride: 1 or 2; of the convolution, "same" padding as TensorFlow does it.
    """

    kernel: np.ndarray
    bias: np.ndarray
    stride: int = 1

    @classmethod
    def make(cls, channels, classes, stride=1, seed=0, gain=1.0):
        random = np.random.default_rng(seed)
        kernel = random.normal(0, gain / np.sqrt(9 * channels), (3, 3, channels, classes)).astype(np.float32)
        # The middle of a photograph's range is to give logits around 0, so that masks have both sides.
        bias = (-0.45 * kernel.sum((0, 1, 2)) + random.normal(0, 0.05, classes)).astype(np.float32)
        return cls(kernel, bias, stride)

    def __call__(self, image):
        """[h, w, C] to [h', w', K]."""
        height, width = image.shape[:2]
        stride = self.stride
        out_height, out_width = -(-height // stride), -(-width // stride)
        pad_y = max((out_height - 1) * stride + 3 - height, 0)
        pad_x = max((out_width - 1) * stride + 3 - width, 0)
        padded = np.pad(image, [(pad_y // 2, pad_y - pad_y // 2), (pad_x // 2, pad_x - pad_x // 2), (0, 0)])
        out = np.tile(self.bias.astype(np.float64), (out_height, out_width, 1))
        for y in range(3):
            for x in range(3):
                part = padded[y : y + (out_height - 1) * stride + 1 : stride]
                part = part[:, x : x + (out_width - 1) * stride + 1 : stride]
                out += part @ self.kernel[y, x].astype(np.float64)
        return out


@dataclasses.dataclass
class Pipeline:
    """What an export with these choices must answer."""

    network: Toy
    channels: int
    activation: str = "none"
    scaling: str = "none"
    full_scale: float = 255.0
    input_max: float = 255.0
    mean: tuple = ()
    std: tuple = ()
    bgr: bool = False
    model_size: tuple | None = None
    letterbox: bool = False
    antialias: bool = True
    pad_to_multiple: int = 1
    sides: dict | None = None
    foreground: tuple = (0,)
    adds: bool = False
    clean_open: int = 0
    clean_close: int = 0

    def model_values(self, image):
        """Resized, padded and scaled, as the network sees it."""
        height, width = image.shape[:2]
        if self.sides is not None:
            height, width = self.by_sides(height, width)
            image = resize(image, (height, width), self.antialias)
        if self.model_size is None:
            extra_y, extra_x = -height % self.pad_to_multiple, -width % self.pad_to_multiple
            x = np.pad(image.astype(np.float64), [(0, extra_y), (0, extra_x), (0, 0)], mode="edge")
        elif self.letterbox:
            top, left, inner = self.box(height, width)
            small = resize(image, inner, self.antialias)
            x = np.zeros((*self.model_size, image.shape[2]))
            x[top : top + inner[0], left : left + inner[1]] = small
        else:
            x = resize(image, self.model_size, self.antialias)
        return self.scale(self.to_channels(x))

    def box(self, height, width):
        factor = min(self.model_size[0] / height, self.model_size[1] / width)
        inner = tuple(
            int(min(max(1, np.round(edge * factor)), limit))
            for edge, limit in zip((height, width), self.model_size, strict=True)
        )
        return (self.model_size[0] - inner[0]) // 2, (self.model_size[1] - inner[1]) // 2, inner

    def by_sides(self, height, width):
        """What becomes of a picture's sides, by the words of docs/export.md."""
        shortest, longest = self.sides.get("shortest"), self.sides.get("longest")
        scale = shortest / min(height, width) if shortest else longest / max(height, width)
        if (self.sides.get("only"), scale > 1) in (("enlarge", False), ("shrink", True)):
            scale = 1.0
        if shortest and longest:
            scale = min(scale, longest / max(height, width))
        multiple = self.sides.get("multiple")
        if multiple:
            return [max(multiple, round(int(edge * scale) / multiple) * multiple) for edge in (height, width)]
        return [max(1, int(edge * scale + 0.5)) for edge in (height, width)]

    def to_channels(self, x):
        found = x.shape[-1]
        if self.channels not in (1, 3, 4):
            return x
        if self.channels == 1:
            return x[..., :3] @ LUMA[:, np.newaxis] if found >= 3 else x[..., :1]
        colour = x[..., :3] if found >= 3 else np.repeat(x[..., :1], 3, -1)
        if self.channels == 3:
            return colour
        alpha = x[..., 3:] if found == 4 else np.full((*x.shape[:-1], 1), self.full_scale)
        return np.concatenate([colour, alpha], -1)

    def scale(self, x):
        unit = x / self.full_scale
        if self.mean or self.std:
            x = (unit - np.array(self.mean or 0.0)) / np.array(self.std or 1.0)
        elif self.scaling == "none":
            x = unit * self.input_max
        elif self.scaling == "unit":
            x = unit
        elif self.scaling == "signed":
            x = unit * 2 - 1
        elif self.scaling == "imagenet":
            x = (unit - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
        elif self.scaling == "caffe":
            x = unit * 255 - [123.68, 116.779, 103.939]
        return x[..., [2, 1, 0, 3][: self.channels]] if self.bgr else x

    def activate(self, logits):
        if self.activation == "softmax":
            e = np.exp(logits - logits.max(-1, keepdims=True))
            return e / e.sum(-1, keepdims=True)
        if self.activation == "sigmoid":
            return 1 / (1 + np.exp(-logits))
        return logits

    def at_image_size(self, maps, height, width):
        if self.sides is not None:
            inner = self.by_sides(height, width)
            padded = [edge + -edge % self.pad_to_multiple for edge in inner]
            if padded != inner:
                maps = resize(maps, padded)[: inner[0], : inner[1]]
            return resize(maps, (height, width))
        if self.model_size is None:
            padded = [edge + -edge % self.pad_to_multiple for edge in (height, width)]
            return resize(maps, padded)[:height, :width]
        if self.letterbox:
            top, left, inner = self.box(height, width)
            maps = resize(maps, self.model_size)[top : top + inner[0], left : left + inner[1]]
        return resize(maps, (height, width))

    def class_probabilities(self, image):
        """[H, W, K] at the image's size."""
        maps = self.activate(self.network(self.model_values(image)))
        return self.at_image_size(maps, *image.shape[:2])

    def probability(self, image):
        """[H, W] of the foreground, at the image's size, before cleaning."""
        maps = self.activate(self.network(self.model_values(image)))[..., list(self.foreground)]
        one = maps.sum(-1, keepdims=True) if self.adds else maps.max(-1, keepdims=True)
        return self.at_image_size(one, *image.shape[:2])[..., 0]

    def cleaned(self, image):
        probability = self.probability(image)
        if self.clean_open:
            probability = dilate(erode(probability, self.clean_open), self.clean_open)
        if self.clean_close:
            probability = erode(dilate(probability, self.clean_close), self.clean_close)
        return probability


def erode(maps, radius):
    return ndimage.grey_erosion(maps, footprint=disc(radius), mode="constant", cval=np.inf)


def dilate(maps, radius):
    return ndimage.grey_dilation(maps, footprint=disc(radius), mode="constant", cval=-np.inf)
