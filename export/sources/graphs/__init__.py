"""Graphs of TensorFlow 1 that are no SavedModels: frozen ones, and those of TensorFlow.js."""
