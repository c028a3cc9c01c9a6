"""One run: prepared, built, trained, and its result."""
