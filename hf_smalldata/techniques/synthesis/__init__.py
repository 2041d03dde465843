"""Made rows and made features: generators, and the keeper that decides which of their rows are learnt from."""
