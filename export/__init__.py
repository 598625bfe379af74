"""From a segmentation model to a SavedModel for TensorFlow Serving."""
