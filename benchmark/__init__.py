"""What is run: streams, models, metrics, tracking, and the command that brings them together."""
