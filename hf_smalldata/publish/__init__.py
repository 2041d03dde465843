"""A Run or a study's model on the Hub: its card, what goes up, and the upload. Nothing here trains."""
