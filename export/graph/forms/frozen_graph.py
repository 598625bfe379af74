"""A model as a graph of constants: its batch normalizations folded into its weights, and computed in bfloat16.

A graph with variables is run as it stands, since they may change. Once they are constants, TensorFlow's own graph
optimizer (Grappler) multiplies what follows a convolution into its weights; for depthwise convolutions, which it
leaves alone, that is done here. Source of the folding: Jacob et al., "Quantization and Training of Neural Networks
for Efficient Integer-Arithmetic-Only Inference", 2018, section 3.2.
"""

import collections
import dataclasses
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow.core.framework import graph_pb2, node_def_pb2
from tensorflow.core.protobuf import config_pb2, rewriter_config_pb2
from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2
from tensorflow.python.grappler import tf_optimizer

from ...errors import SpecError
from ...model.causes import cause_of
from ...model.segmentation_model import SegmentationModel
from ..saving import protect

_FOLDING = ["constfold", "arithmetic", "constfold", "dependency"]
_BFLOAT16 = "auto_mixed_precision_onednn_bfloat16"
_MAX_BYTES = 1_900_000_000
"""A SavedModel's graph is one protocol buffer, which holds 2 GiB at most."""


@dataclasses.dataclass(frozen=True)
class FrozenGraph:
    """A model's forward pass without variables, and the names of its tensors for images and answer."""

    graph: graph_pb2.GraphDef
    input: str
    output: str

    def forward(self) -> Any:
        """Returns a function that runs it, of the model's `forward`."""
        wrapped = tf.compat.v1.wrap_function(lambda: tf.graph_util.import_graph_def(self.graph, name=""), [])
        return wrapped.prune(*(wrapped.graph.as_graph_element(name) for name in (self.input, self.output)))

    def in_bfloat16(self) -> "FrozenGraph":
        """Returns it with its convolutions and what is between them in bfloat16, as Grappler chooses.

        Raises:
            SpecError: this machine's processor has no instructions for bfloat16, so that Grappler changes nothing.
        """
        rewritten = self._rewrite([_BFLOAT16])
        if not any(
            node.op == "Cast" and node.attr["DstT"].type == tf.bfloat16.as_datatype_enum for node in rewritten.node
        ):
            raise SpecError(
                "optimize: 'bfloat16' cannot be made here: this machine's processor has no instructions for it "
                "(avx512_bf16 or amx_bf16), or the model nothing that gains from it; give freeze or none"
            )
        return dataclasses.replace(self, graph=rewritten)

    def _rewrite(self, optimizers: list[str]) -> graph_pb2.GraphDef:
        with tf.Graph().as_default() as graph:
            tf.graph_util.import_graph_def(self.graph, name="")
        meta_graph = tf.compat.v1.train.export_meta_graph(graph_def=graph.as_graph_def(), graph=graph)
        # What Grappler must keep.
        meta_graph.collection_def["train_op"].node_list.value.extend([self.input, self.output])
        config = config_pb2.ConfigProto()
        options = config.graph_options.rewrite_options
        options.optimizers.extend(optimizers)
        options.min_graph_nodes = -1  # also of the smallest graphs
        options.meta_optimizer_iterations = rewriter_config_pb2.RewriterConfig.ONE
        if _BFLOAT16 in optimizers:
            options.auto_mixed_precision_onednn_bfloat16 = rewriter_config_pb2.RewriterConfig.ON
        return tf_optimizer.OptimizeGraph(config, meta_graph)


def freeze(model: SegmentationModel) -> FrozenGraph:
    """Returns a model's forward pass with its variables as constants, and what can be multiplied into them.

    Raises:
        SpecError: the model holds something other than variables that cannot be a constant, or too many of them.
    """
    try:
        traced = model.traced
        if sum(variable.dtype.size * variable.shape.num_elements() for variable in traced.graph.variables) > _MAX_BYTES:
            raise SpecError("optimize: the model's weights do not fit into one graph of 2 GB; give none")
        frozen = convert_variables_to_constants_v2(traced)
    except (ValueError, tf.errors.OpError) as error:
        raise SpecError(f"optimize: the model cannot be frozen: {cause_of(error)}; give none") from error
    if len(frozen.inputs) > 1:
        raise SpecError(
            "optimize: the model cannot be frozen: it holds more than variables, such as a table; give none"
        )
    unfolded = FrozenGraph(frozen.graph.as_graph_def(), frozen.inputs[0].name, frozen.outputs[0].name)
    folded = dataclasses.replace(unfolded, graph=unfolded._rewrite(_FOLDING))
    _fold_into_depthwise(folded.graph)
    folded = dataclasses.replace(folded, graph=folded._rewrite(_FOLDING))
    protect(folded.graph)
    return folded


def _fold_into_depthwise(graph: graph_pb2.GraphDef) -> None:
    """Multiplies each constant factor by channel of a depthwise convolution into its weights, in place."""
    nodes = {node.name: node for node in graph.node}
    uses = collections.Counter(name.split(":")[0].lstrip("^") for node in graph.node for name in node.input)
    for product in [node for node in graph.node if node.op == "Mul"]:
        convolution, factors = _convolution_and_factors(product, nodes)
        if convolution is None or uses[convolution.name] > 1:
            continue
        weights = nodes[convolution.input[1]]
        kernel = tf.make_ndarray(weights.attr["value"].tensor)  # [h, w, channels, multiplier]
        folded = kernel * factors.reshape(kernel.shape[2:])
        constant = graph.node.add(name=f"{product.name}/folded_weights", op="Const")
        constant.attr["dtype"].CopyFrom(weights.attr["dtype"])
        constant.attr["value"].tensor.CopyFrom(tf.make_tensor_proto(folded.astype(kernel.dtype)))
        name = product.name
        product.CopyFrom(convolution)
        product.name = name
        product.input[1] = constant.name


def _convolution_and_factors(
    product: node_def_pb2.NodeDef, nodes: dict[str, node_def_pb2.NodeDef]
) -> tuple[node_def_pb2.NodeDef | None, Any]:
    for first, second in ((0, 1), (1, 0)):
        convolution, constant = nodes.get(product.input[first]), nodes.get(product.input[second])
        if convolution is None or constant is None:
            continue
        if convolution.op != "DepthwiseConv2dNative" or convolution.attr["data_format"].s != b"NHWC":
            continue
        weights = nodes.get(convolution.input[1])
        if constant.op != "Const" or weights is None or weights.op != "Const":
            continue
        channels = np.prod(tf.TensorShape(weights.attr["value"].tensor.tensor_shape).as_list()[2:])
        factors = tf.make_ndarray(constant.attr["value"].tensor)
        # One for each channel: the last axis alone is longer than 1.
        if factors.size == channels and (factors.ndim <= 1 or factors.shape[-1] == channels):
            return convolution, factors
    return None, None
