"""How good a model is, and how surely that is known: metrics, their intervals, and baselines to beat."""
