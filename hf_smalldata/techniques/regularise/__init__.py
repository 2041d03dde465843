"""Regularisation: what keeps a large network from learning few rows by heart."""
