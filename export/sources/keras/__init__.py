"""Keras models: files of Keras 3 and 2, and models in memory."""
