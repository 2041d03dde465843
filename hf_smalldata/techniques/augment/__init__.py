"""Augmentation: training rows drawn anew each epoch, changed in ways that keep their label."""
