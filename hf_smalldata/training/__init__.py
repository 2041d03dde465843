"""Training: a transformers.Trainer in which techniques have their hooks."""
