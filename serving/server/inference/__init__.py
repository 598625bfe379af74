"""One loaded model's answers: tensors in, a run of its session, alone or merged with others, tensors out."""
