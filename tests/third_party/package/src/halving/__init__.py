"""A strategy, a score and a stream that another party adds to anytime-bench through entry points."""
