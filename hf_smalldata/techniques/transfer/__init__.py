"""Transfer: which parts of the pretrained network learn, and how fast."""
