"""What came out: leaderboards computed from the MLflow store alone."""
