"""Importing this imports all that a process needs that carries out runs; others, forked from it, need not do so."""

from benchmark.engines.imports import libraries_imported

with libraries_imported():
    # MLflow imports the second one with the first run that it records.
    import mlflow.store.tracking.sqlalchemy_store  # noqa: F401

    import benchmark.engines.processes  # noqa: F401
