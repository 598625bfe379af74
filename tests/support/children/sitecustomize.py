"""What each Python begins with that tests start, as this folder stands in their PYTHONPATH."""

import gc

# Loading TensorFlow makes half a million objects that all stay; looking at them again and again, to find those that
# could go, takes a sixth of the time.
gc.set_threshold(50_000)
