"""Makes the models that the recorded requests were made with: the same signatures, names and answers.

    python tests/support/conformance/models.py FOLDER

Nothing is trained or drawn at random. What a model does is stated as a table of functions, as far as
`tf.saved_model.save` allows; what it does not allow (method names, defaults, tags) is written into the saved
graph afterwards.
"""

import pathlib
import shutil
import sys
from collections.abc import Callable, Mapping

import tensorflow as tf
from tensorflow.core.protobuf import meta_graph_pb2, saved_model_pb2

NOT_A_MODEL = b"\xff\xff no SavedModel, but bytes\x00"
CLASSIFY = "tensorflow/serving/classify"
REGRESS = "tensorflow/serving/regress"

Outputs = Mapping[str, tf.Tensor]
Signatures = dict[str, tf.types.experimental.GenericFunction]


def takes(**inputs: tuple[list[int | None] | None, tf.DType]) -> Callable[[Callable[..., Outputs]], object]:
    """Makes a signature of a function: the shape and type of each of its inputs, by name."""
    specs = [tf.TensorSpec(shape, dtype, name) for name, (shape, dtype) in inputs.items()]
    return lambda function: tf.function(function, input_signature=specs)


def save(path: pathlib.Path, signatures: Signatures, module: tf.Module | None = None) -> None:
    holder = module or tf.Module()
    holder.kept = list(signatures.values())
    tf.saved_model.save(holder, str(path), signatures=signatures)


def rewrite(path: pathlib.Path, change: Callable[[meta_graph_pb2.MetaGraphDef], None]) -> None:
    """Changes a saved graph. Its fingerprint, which no longer fits, is taken away."""
    file = path / "saved_model.pb"
    saved = saved_model_pb2.SavedModel.FromString(file.read_bytes())
    change(saved.meta_graphs[0])
    file.write_bytes(saved.SerializeToString(deterministic=True))
    (path / "fingerprint.pb").unlink(missing_ok=True)


# ----------------------------------------------------------------- x · a + b


def linear(a: float, b: float, name: str = "serving_default") -> Callable[[pathlib.Path], None]:
    def write(path: pathlib.Path) -> None:
        module = tf.Module()
        module.a, module.b = tf.Variable(a), tf.Variable(b)
        function = takes(x=([None], tf.float32))(lambda x: {"y": module.a * x + module.b})
        save(path, {name: function}, module)

    return write


# ---------------------------------------------------------- every type and rank


def tensors(path: pathlib.Path) -> None:
    def identity(shape: list[int | None] | None, dtype: tf.DType) -> object:
        return takes(x=(shape, dtype))(lambda x: {"out": tf.identity(x)})

    names = "float32 float64 int8 int16 int32 int64 uint8 uint16 uint32 uint64 bool half bfloat16 complex64 string"
    signatures = {name: identity([None], tf.as_dtype(name)) for name in names.split()}
    for name in ("float32", "int64", "string"):
        for rank, shape in ((0, []), (1, [None]), (2, [None, None]), (4, [None, 2, 2, 1])):
            signatures[f"{name}_r{rank}"] = identity(shape, tf.as_dtype(name))
    signatures["float32_any"] = identity(None, tf.float32)
    save(path, {**signatures, "serving_default": signatures["float32_r2"]})


def two_inputs(path: pathlib.Path) -> None:
    vector, scalar = ([None], tf.float32), ([], tf.float32)

    def weighed(count: tf.Tensor, pair: tf.Tensor) -> Outputs:
        return {"twice": 2 * count, "total": tf.reduce_sum(pair, 1) * tf.cast(count, tf.float32)}

    save(
        path,
        {
            "serving_default": takes(x=vector, y=vector)(lambda x, y: {"sum": x + y, "difference": x - y}),
            "single": takes(x=vector, y=vector)(lambda x, y: {"product": x * y}),
            "scaled": takes(x=vector, k=scalar)(lambda x, k: {"scaled": x * k}),
            "scalars": takes(x=scalar, y=scalar)(lambda x, y: {"sum": x + y}),
            "mixed": takes(count=([None], tf.int32), pair=([None, 2], tf.float32))(weighed),
        },
    )


def strings(path: pathlib.Path) -> None:
    # Not UTF-8; a zero byte; what JSON escapes; control characters; two bytes for one letter; nothing.
    odd = [b"\xff\xfe", b"a\x00b", b'q"\\/', b"\x01\n\t", "é".encode(), b""]

    def echo(text: tf.Tensor) -> Outputs:
        return {"echo": tf.identity(text), "echo_bytes": tf.identity(text), "length": tf.strings.length(text)}

    save(
        path,
        {
            "serving_default": takes(text=([None], tf.string))(echo),
            "plain": takes(text=([None], tf.string))(lambda text: {"echo": tf.identity(text)}),
            "only_bytes": takes(data_bytes=([None], tf.string))(
                lambda data_bytes: {"copy_bytes": tf.identity(data_bytes)}
            ),
            "join": takes(words=([None, None], tf.string))(
                lambda words: {"joined": tf.strings.reduce_join(words, 1, separator=" ")}
            ),
            "scalar": takes(text=([], tf.string))(lambda text: {"length": tf.strings.length(text)}),
            "raw": takes(n=([None], tf.int32))(lambda n: {"raw": tf.gather(tf.constant(odd), n)}),
        },
    )


# -------------------------------------------------------------------- pictures


def images(path: pathlib.Path) -> None:
    pixels, files = ([None, None, None, 3], tf.uint8), ([None], tf.string)

    def bright(image: tf.Tensor, threshold: tf.Tensor | float) -> tf.Tensor:
        gray = tf.reduce_mean(tf.cast(image, tf.float32), -1, keepdims=True)
        return tf.cast(gray >= threshold, tf.float32)

    def encoded(file: tf.Tensor) -> tf.Tensor:
        mask = bright(tf.io.decode_png(file, channels=3), 128.0)
        return tf.io.encode_png(tf.cast(255.0 * mask, tf.uint8))

    def size(file: tf.Tensor) -> tf.Tensor:
        return tf.shape(tf.io.decode_png(file, channels=3))[:2]

    save(
        path,
        {
            "serving_default": takes(image=pixels)(lambda image: {"mask": bright(image, 128.0)}),
            "mask_at_threshold": takes(image=pixels, threshold=([None], tf.float32))(
                lambda image, threshold: {"mask": bright(image, tf.reshape(threshold, [-1, 1, 1, 1]))}
            ),
            "mask_png": takes(image_bytes=files)(
                lambda image_bytes: {"mask_bytes": tf.map_fn(encoded, image_bytes, fn_output_signature=tf.string)}
            ),
            "png_size": takes(image_bytes=files)(
                lambda image_bytes: {
                    "size": tf.map_fn(size, image_bytes, fn_output_signature=tf.TensorSpec([2], tf.int32))
                }
            ),
        },
    )


# -------------------------------------------------------------------- tf.Examples


def examples(path: pathlib.Path) -> None:
    def parsed(inputs: tf.Tensor) -> Mapping[str, tf.Tensor]:
        return tf.io.parse_example(
            inputs,
            {
                "x": tf.io.FixedLenFeature([], tf.float32),
                "bias": tf.io.FixedLenFeature([], tf.float32, 0.0),
                "tag": tf.io.FixedLenFeature([], tf.string, "none"),
                "n": tf.io.FixedLenFeature([], tf.int64, 0),
            },
        )

    def up_and_down(x: tf.Tensor) -> tf.Tensor:
        return tf.stack([x, 1.0 - x], 1)

    def classify(inputs: tf.Tensor) -> Outputs:
        features = parsed(inputs)
        x = features["x"] + features["bias"]
        return {"classes": tf.tile([["up", "down"]], [tf.size(x), 1]), "scores": up_and_down(x)}

    def regress(inputs: tf.Tensor) -> Outputs:
        features = parsed(inputs)
        y = 2.0 * features["x"] + features["bias"] + tf.cast(features["n"], tf.float32)
        return {"outputs": y[:, tf.newaxis]}

    def wide(inputs: tf.Tensor) -> Outputs:
        x = parsed(inputs)["x"]
        return {"outputs": tf.stack([x, x], 1)}

    def predict(inputs: tf.Tensor) -> Outputs:
        features = parsed(inputs)
        return {"x": features["x"], "tag": features["tag"]}

    serialized = takes(inputs=([None], tf.string))
    signatures = {
        "classify": serialized(classify),
        "scores_only": serialized(lambda inputs: {"scores": up_and_down(parsed(inputs)["x"])}),
        "classes_only": serialized(lambda inputs: {"classes": parsed(inputs)["tag"][:, tf.newaxis]}),
        "regress": serialized(regress),
        "regress_flat": serialized(lambda inputs: {"outputs": 3.0 * parsed(inputs)["x"]}),
        "regress_wide": serialized(wide),
        "predict": serialized(predict),
    }
    save(path, {**signatures, "serving_default": signatures["regress"]})

    def name_methods(graph: meta_graph_pb2.MetaGraphDef) -> None:
        for name in ("classify", "scores_only", "classes_only"):
            graph.signature_def[name].method_name = CLASSIFY
        for name in ("serving_default", "regress", "regress_flat", "regress_wide"):
            graph.signature_def[name].method_name = REGRESS

    rewrite(path, name_methods)


# -------------------------------------------------------------------- failures


def failing(path: pathlib.Path) -> None:
    def positive(x: tf.Tensor) -> Outputs:
        checked = tf.debugging.Assert(tf.reduce_all(x > 0.0), ["x must be positive", x])
        with tf.control_dependencies([checked]):
            return {"y": tf.sqrt(x)}

    def busy(seconds: tf.Tensor) -> Outputs:
        """Keeps one thread at work for so many seconds."""
        until = tf.timestamp() + tf.cast(tf.reduce_max(seconds), tf.float64)
        rounds = tf.while_loop(lambda _: tf.timestamp() < until, lambda count: [count + 1], [0], parallel_iterations=1)
        with tf.control_dependencies(rounds):
            return {"done": tf.identity(seconds)}

    save(
        path,
        {
            "serving_default": takes(x=([None], tf.float32))(positive),
            "divide": takes(x=([None], tf.int32), y=([None], tf.int32))(lambda x, y: {"q": x // y}),
            "busy": takes(seconds=([None], tf.float32))(busy),
            "lookup": takes(index=([None], tf.int32))(lambda index: {"value": tf.gather([10, 20, 30], index)}),
            "inverse": takes(m=([None, None], tf.float32))(lambda m: {"inverse": tf.linalg.inv(m)}),
        },
    )


# -------------------------------------------------------------------- defaults and shapes


def defaults(path: pathlib.Path) -> None:
    vector = ([None], tf.float32)
    save(
        path,
        {
            "serving_default": takes(x=vector, k=vector)(lambda x, k: {"y": k * x}),
            "scalar": takes(x=vector, k=([], tf.float32))(lambda x, k: {"y": k * x}),
        },
    )

    def give_defaults(graph: meta_graph_pb2.MetaGraphDef) -> None:
        for signature, value in (("serving_default", [10.0]), ("scalar", 100.0)):
            proto = tf.make_tensor_proto(value, tf.float32)
            graph.signature_def[signature].defaults["k"].CopyFrom(proto)

    rewrite(path, give_defaults)


def shapes(path: pathlib.Path) -> None:
    vector, index = ([None], tf.float32), ([None], tf.int32)
    specials = ["nan", "inf", "-inf", "-0.0", "1e-7", "16777217", "0.1", "1"]

    def picks(values: list[str], dtype: tf.DType) -> object:
        table = [float(value) for value in values]
        return takes(i=index)(lambda i: {"v": tf.gather(tf.constant(table, dtype), i)})

    def constant(x: tf.Tensor) -> Outputs:
        return {"table": tf.add([[1, 2], [3, 4], [5, 6]], 0 * tf.size(x))}

    integers = [0, -1, 2**53 + 1, 2**63 - 1, -(2**63)]
    save(
        path,
        {
            "serving_default": takes(x=vector)(lambda x: {"total": tf.reduce_sum(x)}),
            "uneven": takes(x=vector)(lambda x: {"same": tf.identity(x), "double": tf.concat([x, x], 0)}),
            "constant": takes(x=vector)(constant),
            "empty": takes(x=vector)(lambda x: {"none": tf.boolean_mask(x, x > 1e30)}),
            "specials": picks([*specials, "3.4e38", "1e-45", "123456.789", "1e10"], tf.float32),
            "doubles": picks([*specials, "1.7e308", "5e-324", f"{1 / 3}", "1e22"], tf.float64),
            "longs": takes(i=index)(lambda i: {"v": tf.gather(tf.constant(integers, tf.int64), i)}),
            "no_inputs": takes()(lambda: {"answer": tf.constant([42.0])}),
            "cube": takes(x=([None, 2, 3], tf.float32))(
                lambda x: {"sum": tf.reduce_sum(x, [1, 2]), "t": tf.transpose(x, [0, 2, 1])}
            ),
        },
    )


# -------------------------------------------------------------------- what is no model


def broken(path: pathlib.Path) -> None:
    path.mkdir(parents=True)
    (path / "saved_model.pb").write_bytes(NOT_A_MODEL)


def plain_file(path: pathlib.Path) -> None:
    path.write_text("a file where a directory should be\n")


def empty_directory(path: pathlib.Path) -> None:
    path.mkdir(parents=True)


def other_tag(path: pathlib.Path) -> None:
    linear(1.0, 0.0)(path)

    def tag(graph: meta_graph_pb2.MetaGraphDef) -> None:
        graph.meta_info_def.ClearField("tags")
        graph.meta_info_def.tags.append("other")

    rewrite(path, tag)


VERSIONS: dict[str, Callable[[pathlib.Path], None]] = {
    "arithmetic/1": linear(2.0, 1.0),
    "arithmetic/2": linear(3.0, -1.0),
    "arithmetic/3": linear(0.5, 10.0),
    "tensors/1": tensors,
    "two_inputs/1": two_inputs,
    "strings/1": strings,
    "images/1": images,
    "examples/1": examples,
    "failing/1": failing,
    "defaults/1": defaults,
    "shapes/1": shapes,
    "no_default/1": linear(7.0, 0.0, "seven"),
    # Names that read as numbers are versions, others are not.
    "odd_dirs/00000007": linear(1.0, 7.0),
    "odd_dirs/2": linear(1.0, 2.0),
    **{f"odd_dirs/{name}": linear(1.0, 99.0) for name in ("abc", "3.5", "-4", "v9", "1e3", " 8")},
    "file_version/1": linear(1.0, 1.0),
    "file_version/11": plain_file,
    "broken/1": broken,
    "half_broken/1": linear(1.0, 1.0),
    "half_broken/2": broken,
    "no_file/1": empty_directory,
    "empty": empty_directory,
    "other_tag/1": other_tag,
}


def make(folder: pathlib.Path) -> None:
    """Writes all models; what is in the folder already goes."""
    shutil.rmtree(folder, ignore_errors=True)
    for name, write in VERSIONS.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        write(path)


if __name__ == "__main__":
    make(pathlib.Path(sys.argv[1]).absolute())
