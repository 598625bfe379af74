"""Faster forms of a model, one of which is chosen by measuring."""
