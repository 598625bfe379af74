"""The reference's toy networks as TensorFlow models, saved in every way that people save models."""

import keras
import numpy as np
import tensorflow as tf


def keras_model(network, size=(None, None), batch=None, activation=None, channels=None, output_names=()):
    """A functional Keras model of a `reference.Toy`."""
    channels = channels or network.kernel.shape[2]
    image = keras.Input((*size, channels), batch_size=batch, name="picture")
    convolution = keras.layers.Conv2D(
        network.kernel.shape[3], 3, network.stride, "same", activation=activation, name="toy_convolution"
    )
    outputs = convolution(image)
    if output_names:
        outputs = {name: outputs if i == 0 else outputs * 0.5 for i, name in enumerate(output_names)}
    model = keras.Model(image, outputs, name="toy")
    convolution.set_weights([network.kernel, network.bias])
    return model


class ToyModule(tf.Module):
    """A tf.Module of a `reference.Toy`; channels-first on request, with a dict or a tuple as output."""

    def __init__(self, network, shape, channels_first=False, form="tensor", dtype=tf.float32):
        super().__init__()
        self.kernel = tf.Variable(network.kernel)
        self.bias = tf.Variable(network.bias)
        self.stride = network.stride
        self.channels_first = channels_first
        self.form = form
        self.run = tf.function(self._run, input_signature=[tf.TensorSpec(shape, dtype, name="pixels")])

    def _run(self, pixels):
        x = tf.cast(pixels, tf.float32)
        if self.channels_first:
            x = tf.transpose(x, [0, 2, 3, 1])
        y = tf.nn.conv2d(x, self.kernel, self.stride, "SAME") + self.bias
        if self.channels_first:
            y = tf.transpose(y, [0, 3, 1, 2])
        return {"tensor": y, "dict": {"logits": y, "size": tf.shape(y)}, "tuple": (tf.shape(y), y)}[self.form]


def save_tf1(network, directory, size, graphs=({"serve"},)):
    """A TensorFlow 1 SavedModel, with variables and the classic builder: the same graph under each set of tags."""
    v1 = tf.compat.v1
    with tf.Graph().as_default(), v1.Session() as session:
        pixels = v1.placeholder(tf.float32, [None, *size, network.kernel.shape[2]], name="pixels")
        kernel = v1.get_variable("kernel", initializer=network.kernel, use_resource=False)
        bias = v1.get_variable("bias", initializer=network.bias, use_resource=False)
        answer = tf.nn.conv2d(pixels, kernel, network.stride, "SAME") + bias
        session.run(v1.global_variables_initializer())
        signature = v1.saved_model.signature_def_utils.predict_signature_def({"pixels": pixels}, {"map": answer})
        builder = v1.saved_model.Builder(str(directory))
        builder.add_meta_graph_and_variables(session, list(graphs[0]), {"segment": signature})
        for tags in graphs[1:]:
            builder.add_meta_graph(list(tags), {f"segment {' '.join(sorted(tags))}": signature})
        builder.save()


def moving_model(shift=0.0):
    """A Keras model that says 0.25 + red / 2 + `shift`, and by up to 0.02 something else unless its graph is optimized.

    TensorFlow's optimizer makes one factor of 0.1 and 10, which leaves no rounding error to be multiplied.
    """
    image = keras.Input((None, None, 3))
    red = keras.layers.Conv2D(1, 1, use_bias=False)
    last = keras.layers.Conv2D(1, 1)
    rounding = red(image) * 0.1 * 10.0 - red(image)
    model = keras.Model(image, last(keras.layers.Concatenate()([red(image), rounding])), name="moving")
    red.set_weights([np.array([1, 0, 0], np.float32).reshape(1, 1, 3, 1)])
    last.set_weights([np.array([0.5, 3e5], np.float32).reshape(1, 1, 2, 1), np.array([0.25 + shift], np.float32)])
    return model


class CropAndConcat(keras.layers.Layer):
    """The middle of a U-Net's skip connection beside what comes from below, at any size."""

    def call(self, below, skipped):
        """[B, h, w, C] and [B, H, W, D] to [B, h, w, D + C]."""
        height, width = tf.unstack(tf.shape(below)[1:3])
        top, left = (tf.shape(skipped)[1] - height) // 2, (tf.shape(skipped)[2] - width) // 2
        below.set_shape([None, None, None, below.shape[3]])
        return tf.concat([skipped[:, top : top + height, left : left + width], below], -1)

    def compute_output_spec(self, below, skipped):
        """Of the shape of what comes from below."""
        return keras.KerasTensor((*below.shape[:3], below.shape[3] + skipped.shape[3]))


def valid_unet(levels, size=None, channels=3, features=4, seed=0, squeezes=False):
    """A U-Net of "valid" convolutions as its paper has it, with random weights; they depend on the seed alone."""
    keras.utils.set_random_seed(seed)

    def block(x, features):
        for _ in range(2):
            x = keras.layers.Conv2D(features, 3, activation="relu", kernel_initializer="he_normal")(x)
        if squeezes:
            mean = keras.layers.GlobalAveragePooling2D(keepdims=True)(x)
            x = x * keras.layers.Conv2D(features, 1, activation="sigmoid")(mean)
        return x

    image = keras.Input((size, size, channels), name="picture")
    x, skips = image, []
    for level in range(levels):
        x = block(x, features << level)
        skips.append(x)
        x = keras.layers.MaxPooling2D()(x)
    x = block(x, features << levels)
    for level in reversed(range(levels)):
        x = keras.layers.Conv2DTranspose(features << level, 2, 2)(x)
        x = block(CropAndConcat()(x, skips[level]), features << level)
    return keras.Model(image, keras.layers.Conv2D(1, 1, activation="sigmoid")(x), name="valid_unet")
