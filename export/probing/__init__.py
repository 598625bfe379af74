"""Running a model once before it is exported: what its answers are, and how they lie over its input."""
