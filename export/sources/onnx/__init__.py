"""ONNX files: read by `onnx`, turned into ops of TensorFlow. What is exported needs nothing of ONNX any more."""
