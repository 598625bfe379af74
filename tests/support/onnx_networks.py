"""Small segmentation networks as ONNX files, written in the habits of the programs that export them."""

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

FLOAT = TensorProto.FLOAT


class Network:
    """A graph that grows node by node; methods return the names of values."""

    def __init__(self, opset, name="{op}_{number}", seed=0):
        self.opset, self.name, self.random = opset, name, np.random.default_rng(seed)
        self.nodes, self.constants = [], []

    def add(self, op, *inputs, outputs=1, **attributes):
        number = len(self.nodes)
        names = [self.name.format(op=op, number=number) + (f".{i}" if i else "") for i in range(outputs)]
        self.nodes.append(helper.make_node(op, list(inputs), names, name=f"node_{number}", **attributes))
        return names[0] if outputs == 1 else names

    def constant(self, value, dtype=np.float32):
        self.constants.append(numpy_helper.from_array(np.asarray(value, dtype), f"constant_{len(self.constants)}"))
        return self.constants[-1].name

    def as_node(self, *numbers):
        return self.add("Constant", value=numpy_helper.from_array(np.array(numbers, np.int64)))

    def drawn(self, *shape, low=None, high=1.0):
        if low is not None:
            return self.constant(self.random.uniform(low, high, shape))
        return self.constant(self.random.normal(0, (2 / max(np.prod(shape[1:]), 1)) ** 0.5, shape))

    def conv(self, x, channels, filters, size=3, stride=1, bias=True, **attributes):
        groups = attributes.get("group", 1)
        weights = self.drawn(filters, channels // groups, size, size)
        if "auto_pad" not in attributes:
            attributes = {"pads": [size // 2] * 4, **attributes}
        more = [self.constant(self.random.normal(0, 0.1, filters))] if bias else []
        return self.add("Conv", x, weights, *more, kernel_shape=[size, size], strides=[stride, stride], **attributes)

    def normalize(self, x, channels):
        numbers = [(0.5, 1.5), (-0.2, 0.2), (-0.2, 0.2), (0.5, 1.5)]
        return self.add("BatchNormalization", x, *(self.drawn(channels, low=a, high=b) for a, b in numbers))

    def save(self, path, inputs, outputs, halves=False, **options):
        """Writes the graph: inputs as (name, shape), outputs as names or (name, new name); `halves` in float16."""
        kind = TensorProto.FLOAT16 if halves else FLOAT
        renamed = dict(output if isinstance(output, tuple) else (output, output) for output in outputs)
        for node in self.nodes:
            node.output[:] = [renamed.get(name, name) for name in node.output]
            node.input[:] = [renamed.get(name, name) for name in node.input]
        if halves:
            self.constants = [_halved(one) for one in self.constants]
        graph = helper.make_graph(
            self.nodes,
            "network",
            [helper.make_tensor_value_info(name, kind, shape) for name, shape in inputs],
            [helper.make_tensor_value_info(name, kind, None) for name in renamed.values()],
            self.constants,
        )
        opsets = [helper.make_opsetid("", self.opset)]
        onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=8), path, **options)
        return path


def _halved(tensor):
    array = numpy_helper.to_array(tensor)
    is_number = array.dtype == np.float32 and array.size
    return numpy_helper.from_array(array.astype(np.float16) if is_number else array, tensor.name)


def torch_unet(path, opset=11, size=("h", "w"), batch="b", **options):
    """torch.onnx's of old: unfolded normalizations, sizes of skips read by Shape, Gather and Concat for Resize."""
    net = Network(opset, "/model/{op}_{number}_output_0")
    skip = net.add("Relu", net.normalize(net.conv("input", 3, 8, bias=False), 8))
    x = net.add("MaxPool", skip, kernel_shape=[2, 2], strides=[2, 2])
    x = net.add("Relu", net.normalize(net.conv(x, 8, 16, bias=False), 16))
    x = net.add("Relu", net.add("Add", x, net.conv(x, 16, 16)))
    edges = [net.add("Gather", net.add("Shape", skip), net.constant(axis, np.int64), axis=0) for axis in (2, 3)]
    edges = [_unsqueezed(net, edge) for edge in edges]
    front = net.add("Slice", net.add("Shape", x), net.as_node(0), net.as_node(2), net.as_node(0))
    sizes = net.add("Concat", front, *edges, axis=0)
    rules = {"mode": "linear", "coordinate_transformation_mode": "align_corners" if opset < 13 else "half_pixel"}
    x = net.add("Resize", x, net.constant([]), net.constant([]), sizes, **rules)
    x = net.conv(net.add("Concat", x, skip, axis=1), 24, 8)
    x = net.add("LeakyRelu", x, alpha=0.1)
    maps = [net.add("Sigmoid", net.conv(x, 8, 1, size=1)) for _ in range(3)]
    return net.save(
        path, [("input", [batch, 3, *size])], list(zip(maps, ("out", "side1", "side2"), strict=True)), **options
    )


def _unsqueezed(net, edge):
    if net.opset < 13:
        return net.add("Unsqueeze", edge, axes=[0])
    return net.add("Unsqueeze", edge, net.as_node(0))


def torch_deeplab(path, opset=18):
    """torch.onnx's of now: normalizations folded, atrous convolutions, a mean of the whole picture, two classes."""
    net = Network(opset, "val_{number}")
    x = net.add("Relu", net.conv("image", 3, 8, stride=2))
    x = net.add(
        "Clip", net.conv(x, 8, 8, group=8, dilations=[2, 2], pads=[2, 2, 2, 2]), net.constant(0), net.constant(6)
    )
    branches = [net.conv(x, 8, 8, size=1), net.conv(x, 8, 8, dilations=[3, 3], pads=[3, 3, 3, 3])]
    mean = net.add("Relu", net.conv(net.add("GlobalAveragePool", x), 8, 8, size=1))
    shape = net.add("Shape", x, start=2)
    front = net.add("Shape", mean, end=2)
    sizes = net.add("Concat", front, shape, axis=0)
    branches.append(
        net.add("Resize", mean, "", "", sizes, mode="linear", coordinate_transformation_mode="pytorch_half_pixel")
    )
    x = net.add("Concat", *branches, axis=1)
    gate = net.add("HardSigmoid", net.conv(net.add("GlobalAveragePool", x), 24, 24, size=1), alpha=1 / 6)
    x = net.add("HardSwish", net.add("Mul", x, gate))
    x = net.conv(x, 24, 2, size=1)
    x = net.add("Resize", x, "", net.constant([1, 1, 2, 2]), mode="linear", coordinate_transformation_mode="half_pixel")
    return net.save(path, [("image", ["batch", 3, 32, 48])], [(x, "logits")])


def paddle_detector(path):
    """paddle2onnx's: names of parameters, activations in parts, nearest enlarging, transposed convolutions."""
    net = Network(11, "{op}.tmp_{number}")
    x = net.normalize(net.conv("x", 3, 8, stride=2, bias=False), 8)
    clipped = net.add("Clip", net.add("Add", x, net.constant(3.0)), net.constant(0), net.constant(6))
    x = net.add("Div", net.add("Mul", x, clipped), net.constant(6.0))
    small = net.add("AveragePool", x, kernel_shape=[2, 2], strides=[2, 2], ceil_mode=1, count_include_pad=1)
    small = net.conv(small, 8, 8)
    rules = {"mode": "nearest", "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
    large = net.add("Resize", small, net.constant([]), net.constant([1, 1, 2, 2]), **rules)
    x = net.add("Add", x, large)
    weights = net.drawn(8, 8, 2, 2)
    x = net.add("ConvTranspose", x, weights, kernel_shape=[2, 2], strides=[2, 2])
    x = net.add("Add", x, net.constant(net.random.normal(0, 0.1, [1, 8, 1, 1])))
    x = net.add("Relu", net.normalize(x, 8))
    x = net.add("Sigmoid", net.conv(x, 8, 1))
    return net.save(path, [("x", [-1, 3, -1, -1])], [(x, "sigmoid_0.tmp_0")])


def tf2onnx_mobile(path, size=(None, None)):
    """tf2onnx's: pictures with channels last, transposed around what wants them first; auto_pad; bounds of ReLU6."""
    net = Network(13, "StatefulPartitionedCall/net/{op}__{number}:0")
    x = net.add("Transpose", "input_1:0", perm=[0, 3, 1, 2])
    x = net.normalize(net.conv(x, 3, 8, stride=2, bias=False, auto_pad="SAME_UPPER"), 8)
    x = net.add("Min", net.add("Relu", x), net.constant(6.0))
    x = net.conv(x, 8, 8, group=8, auto_pad="SAME_UPPER", stride=2, bias=False)
    last = net.add(
        "Transpose", net.add("Add", x, net.constant(net.random.normal(0, 1, [1, 8, 1, 1]))), perm=[0, 2, 3, 1]
    )
    x = net.add("MatMul", last, net.drawn(8, 6))
    x = net.add("Relu", net.add("Add", x, net.constant(net.random.normal(0, 0.1, 6))))
    x = net.add("Transpose", x, perm=[0, 3, 1, 2])
    rules = {"mode": "linear", "coordinate_transformation_mode": "half_pixel"}
    x = net.add("Resize", x, net.constant([]), net.constant([1, 1, 4, 4]), **rules)
    x = net.conv(x, 6, 3, size=1)
    x = net.add("Softmax", net.add("Transpose", x, perm=[0, 2, 3, 1]), axis=-1)
    return net.save(path, [("input_1:0", ["unk__1", *size, 3])], [(x, "softmax")])


def yolo_segmenter(path, size=(32, 32), chooses=False):
    """Ultralytics': SiLU in parts, splits, pooling in a row; detections of three strides beside prototypes.

    One that `chooses` answers rows of corners, score, class and factors, and names its classes.
    """
    net = Network(12, "/model.0/{op}_{number}")

    def silu(x):
        return net.add("Mul", x, net.add("Sigmoid", x))

    x = silu(net.conv(silu(net.conv("images", 3, 8, stride=2)), 8, 8, stride=2))
    one, other = net.add("Split", x, outputs=2, axis=1, split=[4, 4])
    x = silu(net.conv(net.add("Concat", one, other, silu(net.conv(other, 4, 4)), axis=1), 12, 8, stride=2))
    pools = [x]
    for _ in range(2):
        pools.append(net.add("MaxPool", pools[-1], kernel_shape=[5, 5], strides=[1, 1], pads=[2, 2, 2, 2]))
    levels = [silu(net.conv(net.add("Concat", *pools, axis=1), 24, 8, size=1))]
    weights = net.drawn(8, 8, 2, 2), net.drawn(8)
    prototypes = net.add("ConvTranspose", levels[0], *weights, kernel_shape=[2, 2], strides=[2, 2])
    prototypes = silu(net.conv(prototypes, 8, 4, size=1))
    for _ in range(2):
        levels.append(silu(net.conv(levels[-1], 8, 8, stride=2)))
    rows = [net.add("Reshape", net.conv(level, 8, 11, size=1), net.constant([1, 11, -1], np.int64)) for level in levels]
    boxes, scores, factors = net.add("Split", net.add("Concat", *rows, axis=2), outputs=3, axis=1, split=[4, 3, 4])
    boxes = net.add("Mul", net.add("Sigmoid", boxes), net.constant(64.0))
    factors, scores = net.add("Mul", factors, net.constant(-30.0)), net.add("Sigmoid", scores)
    if chooses:
        corner, sides = net.add("Split", boxes, outputs=2, axis=1, split=[2, 2])
        best = net.add("ReduceMax", scores, axes=[1], keepdims=1)
        number = net.add("Cast", net.add("ArgMax", factors, axis=1, keepdims=1), to=FLOAT)
        parts = [corner, net.add("Add", corner, sides), best, number, factors]
        rows = net.add("Transpose", net.add("Concat", *parts, axis=1), perm=[0, 2, 1])
        rows = net.add("Slice", rows, net.as_node(0), net.as_node(50), net.as_node(1))
    else:
        rows = net.add("Concat", boxes, scores, factors, axis=1)
    net.save(path, [("images", [1, 3, *size])], [(rows, "output0"), (prototypes, "output1")])
    if chooses:
        model = onnx.load(path)
        helper.set_model_props(model, {"task": "segment", "names": "{0: 'coin', 1: 'cat', 2: \"dog's\"}"})
        onnx.save(model, path)
    return path


def segformer(path, opset=17, size=("h", "w"), batch="b"):
    """Transformers': tokens, attention over fewer of them, GELU by Erf, a head that adds up two scales."""
    net = Network(opset, "/segformer/{op}_{number}_output_0")
    heads, width = 2, 8
    picture = net.conv("pixel_values", 3, width, size=7, stride=4)
    shape = net.add("Shape", picture)
    batch_size, rows, columns = (
        _unsqueezed(net, net.add("Gather", shape, net.constant(axis, np.int64), axis=0)) for axis in (0, 2, 3)
    )

    def to_tokens(x):
        flat = net.add("Reshape", x, net.add("Concat", batch_size, net.as_node(width), net.as_node(-1), axis=0))
        return net.add("Transpose", flat, perm=[0, 2, 1])

    def to_picture(x):
        turned = net.add("Transpose", x, perm=[0, 2, 1])
        return net.add("Reshape", turned, net.add("Concat", batch_size, net.as_node(width), rows, columns, axis=0))

    def layer_norm(x):
        scale, bias = net.drawn(width, low=0.5, high=1.5), net.drawn(width, low=-0.1, high=0.1)
        if opset >= 17:
            return net.add("LayerNormalization", x, scale, bias, axis=-1, epsilon=1e-6)
        centred = net.add("Sub", x, net.add("ReduceMean", x, axes=[-1]))
        squares = net.add("ReduceMean", net.add("Pow", centred, net.constant(2.0)), axes=[-1])
        deviation = net.add("Sqrt", net.add("Add", squares, net.constant(1e-6)))
        return net.add("Add", net.add("Mul", net.add("Div", centred, deviation), scale), bias)

    def linear(x, inputs, outputs):
        return net.add(
            "Add", net.constant(net.random.normal(0, 0.1, outputs)), net.add("MatMul", x, net.drawn(inputs, outputs))
        )

    def by_head(x):
        parts = net.add("Reshape", x, net.add("Concat", batch_size, net.as_node(-1, heads, width // heads), axis=0))
        return net.add("Transpose", parts, perm=[0, 2, 1, 3])

    def attend(x):
        fewer = to_tokens(net.conv(to_picture(x), width, width, size=2, stride=2, pads=[0, 0, 0, 0]))
        query, (key, value) = by_head(linear(x, width, width)), (by_head(linear(fewer, width, width)) for _ in range(2))
        scores = net.add("MatMul", query, net.add("Transpose", key, perm=[0, 1, 3, 2]))
        scores = net.add("Softmax", net.add("Div", scores, net.constant(2.0)), axis=-1)
        mixed = net.add("Transpose", net.add("MatMul", scores, value), perm=[0, 2, 1, 3])
        merged = net.add("Reshape", mixed, net.add("Concat", batch_size, net.as_node(-1, width), axis=0))
        return linear(merged, width, width)

    def gelu(x):
        erf = net.add("Erf", net.add("Div", x, net.constant(2**0.5)))
        halves = net.add("Mul", x, net.add("Add", erf, net.constant(1.0)))
        return net.add("Mul", halves, net.constant(0.5))

    x = to_tokens(picture)
    x = net.add("Add", attend(layer_norm(x)), x)
    mixed = to_tokens(net.conv(to_picture(linear(layer_norm(x), width, width)), width, width, group=width))
    x = net.add("Add", linear(gelu(mixed), width, width), x)
    small = to_picture(x)
    rules = {"mode": "linear", "coordinate_transformation_mode": "half_pixel"}
    sizes = net.add("Concat", batch_size, net.as_node(width), rows, columns, axis=0)
    nothing = [net.constant([])] * 2
    again = net.add("Resize", net.conv(small, width, width, stride=2), *nothing, sizes, **rules)
    x = net.add("Relu", net.normalize(net.conv(net.add("Concat", small, again, axis=1), 2 * width, 8, size=1), 8))
    return net.save(path, [("pixel_values", [batch, 3, *size])], [(net.conv(x, 8, 3, size=1), "logits")])


def quantized(path, scheme):
    """onnxruntime's quantizer's: by QuantizeLinear around convolutions, or by ConvInteger on what a picture has."""
    net = Network(13)
    kernels = net.random.integers(-100, 100, [8, 3, 3, 3]).astype(np.int8)
    if scheme == "static":
        scales, zero = net.constant(net.random.uniform(0.001, 0.003, 8)), net.constant(np.zeros(8), np.int8)
        step, middle = net.constant(np.float32(1 / 255)), net.constant(0, np.uint8)
        integers = net.add("QuantizeLinear", "image", step, middle)
        x = net.add("DequantizeLinear", integers, step, middle)
        weights = net.add("DequantizeLinear", net.constant(kernels, np.int8), scales, zero, axis=0)
        x = net.add("Conv", x, weights, net.drawn(8), kernel_shape=[3, 3], pads=[1, 1, 1, 1])
    else:
        integers, scale, zero = net.add("DynamicQuantizeLinear", "image", outputs=3)
        weights = net.constant(kernels, np.int8)
        x = net.add("ConvInteger", integers, weights, zero, kernel_shape=[3, 3], pads=[1, 1, 1, 1])
        x = net.add("Mul", net.add("Cast", x, to=FLOAT), net.add("Mul", scale, net.constant(0.002)))
    x = net.add("Sigmoid", net.conv(net.add("Relu", x), 8, 1, size=1))
    return net.save(path, [("image", ["n", 3, "h", "w"])], [(x, "mask")])
