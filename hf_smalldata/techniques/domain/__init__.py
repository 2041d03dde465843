"""Labels of one domain, rows of another."""
