"""Replays recorded requests, and compares the answers with TensorFlow Serving's."""
