"""From what a file's model takes and answers to one picture in and one map out: which tensors, and how they lie."""
