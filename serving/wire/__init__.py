"""TensorFlow Serving's messages that the client speaks (`messages`), and NumPy's way in and out (`tensors`)."""
