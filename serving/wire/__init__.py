"""The messages of TensorFlow Serving that the client speaks, and NumPy's way in and out of them.

`messages` are the messages, `tensors` the conversion.
"""
