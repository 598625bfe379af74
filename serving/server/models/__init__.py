"""Models: which versions there are, how they are loaded, and how long they live."""
