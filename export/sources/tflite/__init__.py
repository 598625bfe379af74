"""TensorFlow Lite files, read into TensorFlow's own ops: float, dynamically quantised, and fully quantised ones."""
