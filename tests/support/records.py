"""TFRecords of labelled pictures, as others write them."""

import io

import tensorflow as tf
from PIL import Image


def png(pixels):
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def example(features):
    """A tf.Example, serialised, of bytes features by their names."""
    feature = {name: tf.train.Feature(bytes_list=tf.train.BytesList(value=[value])) for name, value in features.items()}
    return tf.train.Example(features=tf.train.Features(feature=feature)).SerializeToString()


def labelled_example(pixels, label):
    return encoded_example(png(pixels), label)


def encoded_example(image, label):
    return example({"image/encoded": image, "image/segmentation/class/encoded": png(label)})


def write_records(path, records, compression=""):
    path.parent.mkdir(parents=True, exist_ok=True)
    with tf.io.TFRecordWriter(str(path), compression) as writer:
        for record in records:
            writer.write(record)
