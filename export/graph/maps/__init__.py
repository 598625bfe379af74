"""From a picture to the model's size and back: resizing, and masks as bits."""
