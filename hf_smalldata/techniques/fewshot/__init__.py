"""Few-shot learning: representations and heads from a handful of rows a class."""
