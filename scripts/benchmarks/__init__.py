"""The benchmark suite: everything that is put in a ratio is measured in turn, in one run."""
