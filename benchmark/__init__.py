"""What is run: streams, models, metrics, tracking, and the command that brings them together."""

import os

# Who measures here does not report elsewhere, and an end of a command does not wait for it; "false" asks for it.
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
