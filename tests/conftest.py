"""What holds for all tests."""

from __future__ import annotations

from benchmark.engines.avalanche_settings import write_avalanche_settings


def pytest_configure(config):
    """Before the workers, which all import Avalanche at once, are started."""
    if not hasattr(config, "workerinput"):
        write_avalanche_settings()
