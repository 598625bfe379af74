"""The messages of TensorFlow Serving that the client speaks."""
