"""Importing this imports all that a process needs that carries out runs; others, forked from it, need not do so."""

from benchmark.engines.imports import unused_packages_hidden

with unused_packages_hidden():
    # MLflow imports the second one with the first run that it records.
    import mlflow.store.tracking.sqlalchemy_store  # noqa: F401

    import benchmark.engines.processes  # noqa: F401
