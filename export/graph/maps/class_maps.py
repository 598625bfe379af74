"""The most probable class of each pixel of a picture, without a map of each class at the picture's size."""

import tensorflow as tf

_FEW_BORDERS = 1 / 16
"""Up to which share of a map only the pixels between different classes are computed one by one."""


def most_probable(maps: tf.Tensor, scale: tf.Tensor, size: tf.Tensor, dtype: tf.DType, at_once: int) -> tf.Tensor:
    """Returns where which of the resized maps is the largest, `dtype` [B, H, W]; ties go to the lower index.

    A pixel lies between four of the map. Where one class is the most probable in all four, it is so at the pixel, since
    that is their weighted mean. So only pixels at the borders of classes are interpolated, if these are few.

    Args:
        maps: float32 [B, h, w, K].
        scale: float32 [2], from the maps' height and width to the image's.
        size: int32 [2], the image's height and width, or less of it from the top left corner.
        dtype: of the result.
        at_once: how many values of the resized maps may be held.
    """
    # From each of the map's pixels to the next, and from the edges outwards, lies a cell.
    classes = tf.pad(tf.argmax(maps, -1, output_type=tf.int32), [[0, 0], [1, 1], [1, 1]], "SYMMETRIC")
    cells = classes[:, :-1, :-1]
    is_border = (cells != classes[:, 1:, :-1]) | (cells != classes[:, :-1, 1:]) | (cells != classes[:, 1:, 1:])
    share = tf.reduce_mean(tf.cast(is_border, tf.float32))
    return tf.cond(
        share <= _FEW_BORDERS,
        lambda: _at_borders(maps, tf.cast(cells, dtype), is_border, scale, size, at_once),
        lambda: _in_strips(maps, scale, size, dtype, at_once),
    )


def _at_borders(
    maps: tf.Tensor, cells: tf.Tensor, is_border: tf.Tensor, scale: tf.Tensor, size: tf.Tensor, at_once: int
) -> tf.Tensor:
    """Returns the cells' classes at the image's size, and those of pixels in border cells, [B, h + 1, w + 1] both."""
    rows, columns = (_positions(size[axis], scale[axis]) for axis in (0, 1))
    cell_rows, cell_columns = (tf.cast(tf.floor(at), tf.int32) + 1 for at in (rows, columns))

    def enlarge(values: tf.Tensor) -> tf.Tensor:
        return tf.gather(tf.gather(values, cell_columns, axis=2), cell_rows, axis=1)

    found, places = enlarge(cells), tf.cast(tf.where(enlarge(is_border)), tf.int32)
    last = tf.shape(maps)[1:3] - 1
    # A few of each pixel's values are held.
    step = tf.maximum(1, at_once // (8 * tf.shape(maps)[3]))

    def some(index: tf.Tensor, done: tf.TensorArray) -> tuple[tf.Tensor, tf.TensorArray]:
        batch, row, column = tf.unstack(places[index * step : (index + 1) * step], axis=1)
        at = tf.stack([tf.gather(rows, row), tf.gather(columns, column)], 1)
        lower = tf.floor(at)
        corner, (down, right) = tf.cast(lower, tf.int32), tf.unstack((at - lower)[..., tf.newaxis], axis=1)

        def corner_at(below: int, beside: int) -> tf.Tensor:
            place = tf.clip_by_value(corner + tf.constant([below, beside]), 0, last)
            return tf.gather_nd(maps, tf.concat([batch[:, tf.newaxis], place], 1))

        upper = corner_at(0, 0) * (1.0 - right) + corner_at(0, 1) * right
        under = corner_at(1, 0) * (1.0 - right) + corner_at(1, 1) * right
        best = tf.argmax(upper * (1.0 - down) + under * down, -1, output_type=tf.int32)
        return index + 1, done.write(index, tf.cast(best, cells.dtype))

    count = (tf.shape(places)[0] + step - 1) // step
    done = tf.TensorArray(cells.dtype, count, element_shape=[None], infer_shape=False)
    _, done = tf.while_loop(lambda index, _: index < count, some, (0, done), parallel_iterations=1)
    return tf.cond(count > 0, lambda: tf.tensor_scatter_nd_update(found, places, done.concat()), lambda: found)


def _positions(length: tf.Tensor, scale: tf.Tensor) -> tf.Tensor:
    """Returns where each of so many pixels lies in the map, float32 from -0.5."""
    return (tf.range(tf.cast(length, tf.float32)) + 0.5) / scale - 0.5


def _in_strips(maps: tf.Tensor, scale: tf.Tensor, size: tf.Tensor, dtype: tf.DType, at_once: int) -> tf.Tensor:
    """Interpolates all pixels, some rows at once."""
    batch, classes = tf.shape(maps)[0], tf.shape(maps)[3]
    height, width = size[0], size[1]
    rows = tf.maximum(1, at_once // tf.maximum(1, batch * width * classes))
    strips = (height + rows - 1) // rows

    def strip(index: tf.Tensor, done: tf.TensorArray) -> tuple[tf.Tensor, tf.TensorArray]:
        top = index * rows
        part = tf.raw_ops.ScaleAndTranslate(
            images=maps,
            size=[tf.minimum(rows, height - top), width],
            scale=scale,
            translation=[-tf.cast(top, tf.float32), 0.0],
            kernel_type="triangle",
            antialias=False,
        )
        best = tf.cast(tf.argmax(part, -1, output_type=tf.int32), dtype)
        # Rows first, so that the strips can be joined along the leading axis.
        return index + 1, done.write(index, tf.transpose(best, [1, 0, 2]))

    done = tf.TensorArray(dtype, strips, element_shape=[None, None, None], infer_shape=False)
    _, done = tf.while_loop(lambda index, _: index < strips, strip, (0, done), parallel_iterations=1)
    return tf.transpose(done.concat(), [1, 0, 2])
