"""Rows: read them from anywhere, name their columns and labels, hold some out, draw a few to learn from."""
