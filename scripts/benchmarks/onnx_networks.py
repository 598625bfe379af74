"""Small convolutional networks as ONNX files, as PyTorch and Paddle export them: untrained, with drawn weights."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

SIZE = 512
_LINEAR = {"mode": "linear", "coordinate_transformation_mode": "half_pixel"}
_NEAREST = {"mode": "nearest", "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}


class _Graph:
    """A graph that grows node by node; methods return the names of values."""

    def __init__(self) -> None:
        self.random = np.random.default_rng(0)
        self.nodes: list[Any] = []
        self.constants: list[Any] = []

    def add(self, op: str, *inputs: str, **attributes: Any) -> str:
        name = f"{op}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, list(inputs), [name], **attributes))
        return name

    def constant(self, value: Any) -> str:
        self.constants.append(numpy_helper.from_array(np.asarray(value, np.float32), f"c{len(self.constants)}"))
        return str(self.constants[-1].name)

    def conv(self, x: str, inputs: int, outputs: int, size: int = 3, stride: int = 1, groups: int = 1) -> str:
        """A convolution with its normalization, which is not folded."""
        shape = (outputs, inputs // groups, size, size)
        weights = self.constant(self.random.normal(0, (2 / np.prod(shape[1:])) ** 0.5, shape))
        pads = [size // 2] * 4
        x = self.add("Conv", x, weights, kernel_shape=[size, size], strides=[stride, stride], pads=pads, group=groups)
        factors = [self.random.uniform(0.5, 1.5, outputs) for _ in range(2)]
        offsets = [self.random.normal(0, 0.2, outputs) for _ in range(2)]
        statistics = (factors[0], *offsets, factors[1])
        return self.add("BatchNormalization", x, *(self.constant(numbers) for numbers in statistics))

    def relu(self, x: str) -> str:
        return self.add("Relu", x)

    def resize(self, x: str, factor: int, rules: dict[str, str]) -> str:
        return self.add("Resize", x, "", self.constant([1, 1, factor, factor]), **rules)

    def save(self, path: Path, output: str) -> Path:
        graph = helper.make_graph(
            self.nodes,
            "network",
            [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["batch", 3, SIZE, SIZE])],
            [helper.make_tensor_value_info(output, TensorProto.FLOAT, None)],
            self.constants,
        )
        onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
        return path


def _unet(graph: _Graph, enlarge: Callable[[str, int], str]) -> str:
    x, channels, skips = "image", 3, []
    for width in (16, 32, 64, 128):
        x = graph.relu(graph.conv(graph.relu(graph.conv(x, channels, width)), width, width))
        skips.append((x, width))
        x, channels = graph.add("MaxPool", x, kernel_shape=[2, 2], strides=[2, 2]), width
    x, channels = graph.relu(graph.conv(x, channels, 256)), 256
    for skip, width in reversed(skips):
        x = graph.add("Concat", enlarge(x, channels), skip, axis=1)
        x, channels = graph.relu(graph.conv(x, channels + width, width)), width
    return graph.add("Sigmoid", graph.conv(x, channels, 1, size=1))


def write_unet(path: Path) -> Path:
    """A U-Net of 16 base channels, enlarged bilinearly."""
    graph = _Graph()
    return graph.save(path, _unet(graph, lambda x, _: graph.resize(x, 2, _LINEAR)))


def write_transposed_unet(path: Path) -> Path:
    """The same, enlarged by transposed convolutions."""
    graph = _Graph()

    def enlarge(x: str, channels: int) -> str:
        weights = graph.constant(graph.random.normal(0, channels**-0.5, (channels, channels, 2, 2)))
        return graph.add("ConvTranspose", x, weights, kernel_shape=[2, 2], strides=[2, 2])

    return graph.save(path, _unet(graph, enlarge))


def write_mobile(path: Path) -> Path:
    """A network of separable convolutions with ReLU6, at a quarter of the picture's size and below."""
    graph = _Graph()

    def bounded(x: str) -> str:
        return graph.add("Clip", x, graph.constant(0), graph.constant(6))

    def separable(x: str, inputs: int, outputs: int, stride: int = 1) -> str:
        x = bounded(graph.conv(x, inputs, inputs, stride=stride, groups=inputs))
        return bounded(graph.conv(x, inputs, outputs, size=1))

    x = bounded(graph.conv("image", 3, 32, stride=2))
    quarter = x = separable(x, 32, 64, 2)
    eighth = x = separable(separable(x, 64, 128, 2), 128, 128)
    x = separable(x, 128, 256, 2)
    for _ in range(3):
        x = separable(x, 256, 256)
    for skip, inputs, outputs in ((eighth, 384, 128), (quarter, 192, 64)):
        x = separable(graph.add("Concat", graph.resize(x, 2, _LINEAR), skip, axis=1), inputs, outputs)
    return graph.save(path, graph.add("Sigmoid", graph.resize(graph.conv(x, 64, 1, size=1), 4, _LINEAR)))


def write_residual(path: Path) -> Path:
    """A residual network with a pyramid that is enlarged to the nearest, as detectors of text have it."""
    graph = _Graph()
    x = graph.relu(graph.conv("image", 3, 32, size=7, stride=2))
    x, channels, levels = graph.add("MaxPool", x, kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1]), 32, []
    for width in (32, 64, 128):
        stride = 1 if width == channels else 2
        shortcut = x if stride == 1 else graph.conv(x, channels, width, size=1, stride=2)
        inner = graph.conv(graph.relu(graph.conv(x, channels, width, stride=stride)), width, width)
        x, channels = graph.relu(graph.add("Add", inner, shortcut)), width
        levels.append(graph.conv(x, width, 64, size=1))
    x = levels.pop()
    for level in reversed(levels):
        x = graph.add("Add", graph.resize(x, 2, _NEAREST), level)
    x = graph.conv(graph.relu(graph.conv(x, 64, 16)), 16, 1, size=1)
    return graph.save(path, graph.add("Sigmoid", graph.resize(x, 4, _LINEAR)))


NETWORKS = {
    "unet": write_unet,
    "unet, transposed": write_transposed_unet,
    "mobile": write_mobile,
    "residual": write_residual,
}
"""By name: each writes a file, of a network for 512×512 pixels."""
