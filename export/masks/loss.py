"""The loss over a mask: as a function, and as a Keras loss for `compile()` and `fit()`.

Both are Σ(loss·mask)/Σmask, in float32. Use them as `maskport.export.masks.masked_loss` and `MaskedLoss`.
"""

import functools
import inspect
import math
from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf

from .shapes import align_mask, require_same_shape

# Keras' losses that treat every channel alone, and average over the last axis.
_ELEMENTWISE = frozenset(
    {
        keras.losses.binary_crossentropy,
        keras.losses.binary_focal_crossentropy,
        keras.losses.hinge,
        keras.losses.huber,
        keras.losses.log_cosh,
        keras.losses.mean_absolute_error,
        keras.losses.mean_absolute_percentage_error,
        keras.losses.mean_squared_error,
        keras.losses.mean_squared_logarithmic_error,
        keras.losses.poisson,
        keras.losses.squared_hinge,
    }
)

# Keras' losses that make one value of all channels of a pixel: a mask cannot weigh the channels one by one.
_CLASS_COUPLED = frozenset(
    {
        keras.losses.categorical_crossentropy,
        keras.losses.categorical_focal_crossentropy,
        keras.losses.categorical_hinge,
        keras.losses.cosine_similarity,
        keras.losses.kl_divergence,
    }
)


def masked_loss(
    y_true: Any,
    y_pred: Any,
    mask: Any,
    *,
    loss: Any = "binary_crossentropy",
    from_logits: bool = False,
) -> tf.Tensor:
    """Averages a per-pixel loss over where a mask is 1.

    Where the mask is 0, neither the value nor the gradient depends on `y_true` and `y_pred`, be they NaN or a
    label that marks pixels to ignore. An all-zero mask gives 0 and gradients of 0.

    Args:
        y_true: targets of any numeric dtype, usually [batch, height, width, channels]; for a loss that takes
            class indices, [batch, height, width] with or without a last dimension of 1.
        y_pred: predictions, in the shape of `y_true` (either may lack a last dimension of 1); for a loss that
            takes class indices, [batch, height, width, classes].
        mask: bool, or weights in [0, 1]. In the shape of `y_true`: weighs the loss of each element. In that
            shape without its last dimension, or with a last dimension of 1: weighs the loss of each pixel,
            averaged over the last dimension of `y_true`.
        loss: a per-pixel Keras loss: its name, its function, or a `keras.losses.Loss` (whose own reduction is
            not used).
        from_logits: whether `y_pred` holds logits rather than probabilities. A `Loss` object has its own.

    Returns:
        Scalar float32 Σ(loss·mask)/Σmask.

    Raises:
        ValueError: the shapes do not fit together, or `loss` does not give one value per pixel.
        tf.errors.InvalidArgumentError: the shapes turn out not to fit when a graph runs.
    """
    losses, weights = _weigh(y_true, y_pred, mask, _resolve_loss(loss, from_logits))
    return tf.math.divide_no_nan(tf.reduce_sum(losses * weights), tf.reduce_sum(weights))


@keras.saving.register_keras_serializable(package="maskport")
class MaskedLoss(keras.losses.Loss):
    """`masked_loss` for `compile()` and `fit()`.

    The mask is the `sample_weight`, in one of the shapes that `masked_loss` takes (Keras' one weight per
    image is not one of them); or `ignore_value` marks pixels in `y_true`; with both, the mask is their
    product. With neither, the loss is the plain average.

    Args:
        loss: a per-pixel Keras loss: its name, its function, or a `keras.losses.Loss` object.
        from_logits: whether predictions are logits. A `Loss` object has its own.
        ignore_value: label of pixels that do not count, such as 255 or NaN; None if there is none.
        reduction: Keras' way of making one number of the weighted losses. The default divides by the sum of
            the mask; the others are for those who want Keras' own.
        name: of the loss.
    """

    def __init__(
        self,
        loss: Any = "binary_crossentropy",
        *,
        from_logits: bool = False,
        ignore_value: float | None = None,
        reduction: str | None = "mean_with_sample_weight",
        name: str = "masked_loss",
    ) -> None:
        super().__init__(name=name, reduction=reduction, dtype="float32")
        self.loss = loss
        self.from_logits = from_logits
        self.ignore_value = ignore_value
        self._per_pixel_loss = _resolve_loss(loss, from_logits)
        self._reduce = _Reduction(reduction=reduction, name=name, dtype="float32")

    def __call__(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> tf.Tensor:
        """Returns the loss of a batch; see `masked_loss` for the shapes.

        Args:
            y_true: targets.
            y_pred: predictions.
            sample_weight: the mask, or None.
        """
        losses, weights = _weigh(y_true, y_pred, sample_weight, self._per_pixel_loss, self.ignore_value)
        if losses.shape.rank == 0:
            losses, weights = losses[tf.newaxis], weights[tf.newaxis]  # Keras leaves a scalar undivided
        return self._reduce(weights, losses, sample_weight=weights)

    def call(self, y_true: Any, y_pred: Any) -> tf.Tensor:
        """Returns the losses before reduction, 0 where `ignore_value` marks them."""
        losses, weights = _weigh(y_true, y_pred, None, self._per_pixel_loss, self.ignore_value)
        return losses * weights

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments that make this loss again."""
        return {
            **super().get_config(),
            "loss": self.loss if isinstance(self.loss, str) else keras.losses.serialize(self.loss),
            "from_logits": self.from_logits,
            "ignore_value": self.ignore_value,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "MaskedLoss":
        """Makes the loss that `get_config` described."""
        loss = config["loss"]
        return cls(**{**config, "loss": loss if isinstance(loss, str) else keras.losses.deserialize(loss)})


class _Reduction(keras.losses.Loss):
    """Keras' own reduction of losses that are there already: it knows of distribution strategies too."""

    def call(self, y_true: tf.Tensor, y_pred: tf.Tensor) -> tf.Tensor:
        return y_pred


class _PerPixelLoss:
    """A Keras loss before reduction, from float32 y_true and y_pred to float32 losses, and what is known of it."""

    def __init__(self, call: Callable[[tf.Tensor, tf.Tensor], tf.Tensor], function: Any) -> None:
        self.call = call
        self.name = getattr(function, "__name__", type(function).__name__)
        self.is_elementwise = function in _ELEMENTWISE
        self.is_class_coupled = function in _CLASS_COUPLED
        self.takes_class_indices = function is keras.losses.sparse_categorical_crossentropy


def _resolve_loss(loss: Any, from_logits: bool) -> _PerPixelLoss:
    found = keras.losses.get(loss)
    if found is None:
        raise ValueError("loss must be a Keras loss: its name, its function or a Loss object; got None")
    if isinstance(found, keras.losses.Loss):
        if from_logits:
            raise ValueError(
                f"from_logits=True is for a loss function; give it to the Loss object itself: "
                f"{type(found).__name__}(from_logits=True)"
            )
        return _PerPixelLoss(found.call, getattr(found, "fn", found))
    call = found
    if from_logits:
        if "from_logits" not in inspect.signature(found).parameters:
            raise ValueError(f"the loss {getattr(found, '__name__', found)!r} has no from_logits")
        call = functools.partial(found, from_logits=True)
    return _PerPixelLoss(call, found)


def _weigh(
    y_true: Any, y_pred: Any, mask: Any, loss: _PerPixelLoss, ignore_value: float | None = None
) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns unreduced losses and their weights, both float32 and of one shape."""
    y_true = tf.cast(y_true, tf.float32)
    y_pred = tf.cast(y_pred, tf.float32)
    mask = tf.ones_like(y_true[..., :1]) if mask is None else tf.cast(mask, tf.float32)
    y_true, y_pred, mask = _settle_channel_axis(y_true, y_pred, mask, loss)
    if loss.is_elementwise or loss.is_class_coupled:
        y_pred = require_same_shape(y_pred, y_true, names=("y_pred", "y_true"))
    weights = align_mask(mask, y_true, name="y_true", may_drop_last=True)
    if ignore_value is not None:
        is_ignored = tf.math.is_nan(y_true) if math.isnan(ignore_value) else tf.equal(y_true, ignore_value)
        weights = tf.where(is_ignored, 0.0, weights)

    # A loss of 0 · NaN is NaN, and so is its gradient: what the mask leaves out is replaced before the loss.
    counts = tf.not_equal(weights, 0.0)
    y_true = tf.where(counts, y_true, 0.0)
    if y_true.shape.rank is None or y_pred.shape.rank is None:
        return _elements_of_unknown_rank(y_true, tf.where(counts, y_pred, 0.5), weights, loss)
    extra = y_pred.shape.rank - y_true.shape.rank
    if extra not in {0, 1}:
        raise ValueError(
            f"y_pred must have the rank of y_true, or one more; got y_true {y_true.shape}, y_pred {y_pred.shape}"
        )
    y_pred = tf.where(counts[..., tf.newaxis] if extra else counts, y_pred, 0.5)

    if extra == 0 and not _weighs_pixels(weights, y_true, loss):
        # Such losses average over the last axis, so they are given one of length 1.
        losses = loss.call(y_true[..., tf.newaxis], y_pred[..., tf.newaxis])
        if losses.shape.rank == y_true.shape.rank + 1:  # a loss of the user's own, that does not average
            losses = tf.squeeze(losses, axis=-1)
    else:
        losses = loss.call(y_true, y_pred)
        if losses.shape.rank == y_true.shape.rank - 1:
            weights = tf.squeeze(weights, axis=-1)
    if losses.shape.rank == weights.shape.rank:
        weights = _spread_over_channels(weights, losses)
    if losses.shape.rank is None or not losses.shape.is_compatible_with(weights.shape):
        raise ValueError(
            f"the loss {loss.name!r} does not give one value per pixel: "
            f"y_true {y_true.shape}, y_pred {y_pred.shape}, loss {losses.shape}"
        )
    known = getattr(losses, "_keras_mask", None)
    if known is not None:  # a loss with an `ignore_class`
        weights = weights * tf.cast(known, tf.float32)
    return tf.cast(losses, tf.float32), weights


def _settle_channel_axis(
    y_true: tf.Tensor, y_pred: tf.Tensor, mask: tf.Tensor, loss: _PerPixelLoss
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Makes up for a last dimension of 1 that one of the three has and another lacks."""
    true_rank, pred_rank = y_true.shape.rank, y_pred.shape.rank
    if true_rank is None or pred_rank is None:
        return y_true, y_pred, mask
    if pred_rank == true_rank + 1:
        # Labels without a channel axis beside predictions with one.
        if not loss.takes_class_indices and y_pred.shape[-1] == 1:
            y_pred = tf.squeeze(y_pred, axis=-1)
        if mask.shape.rank == pred_rank and mask.shape[-1] == 1:
            mask = tf.squeeze(mask, axis=-1)
    elif pred_rank == true_rank - 1 and y_true.shape[-1] == 1:
        y_pred = tf.expand_dims(y_pred, axis=-1)
    return y_true, y_pred, mask


def _weighs_pixels(weights: tf.Tensor, y_true: tf.Tensor, loss: _PerPixelLoss) -> bool:
    """Whether the mask has one weight for all channels of a pixel, as far as one can see yet."""
    if y_true.shape.rank == 0:
        return False
    if weights.shape[-1] is None:
        # Where channels are treated alone, weighing elements covers both cases (_spread_over_channels).
        # Otherwise the squeeze of the weights refuses any last dimension but 1 when the graph runs.
        return not loss.is_elementwise
    if weights.shape[-1] != 1 and loss.is_class_coupled:
        raise ValueError(
            f"the loss {loss.name!r} has one value for all channels of a pixel, which a mask of y_true's "
            f"shape {y_true.shape} cannot weigh one by one: leave out its last dimension, or make it 1"
        )
    return bool(weights.shape[-1] == 1)


def _spread_over_channels(weights: tf.Tensor, losses: tf.Tensor) -> tf.Tensor:
    """Shapes weights like the losses, giving each of a pixel's C channels 1/C of the pixel's weight.

    That is what averaging the losses over the channels first comes to.
    """
    if losses.shape.rank == 0 or weights.shape[-1] == losses.shape[-1] is not None:
        return weights
    share = tf.cast(tf.shape(weights)[-1] / tf.shape(losses)[-1], tf.float32)
    return tf.broadcast_to(weights * share, tf.shape(losses))


def _elements_of_unknown_rank(
    y_true: tf.Tensor, y_pred: tf.Tensor, weights: tf.Tensor, loss: _PerPixelLoss
) -> tuple[tf.Tensor, tf.Tensor]:
    if not loss.is_elementwise:
        raise ValueError(f"the loss {loss.name!r} needs y_true and y_pred of a known rank")
    weights = tf.reshape(_spread_over_channels(weights, y_true), [-1])
    return loss.call(tf.reshape(y_true, [-1, 1]), tf.reshape(y_pred, [-1, 1])), weights
