"""Unlabelled rows with labels of a model's own."""
