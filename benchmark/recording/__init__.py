"""What is kept of a run: the MLflow store, its tags, its files."""
