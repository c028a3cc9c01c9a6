"""Pruning = score x distribution x schedule, each a small pure piece; one plugin decides when."""
