"""What holds for all tests."""

from __future__ import annotations

import pytest

from benchmark.engines.avalanche_settings import write_avalanche_settings


def pytest_configure(config):
    """Before the workers, which all import Avalanche at once, are started."""
    if not hasattr(config, "workerinput"):
        write_avalanche_settings()


def pytest_collection_modifyitems(items):
    """What takes longest begins first: at the end, the other workers would wait for it."""
    items.sort(key=lambda item: item.path.name != "test_types.py")


@pytest.fixture(scope="session")
def preloaded():
    """The process that commands are forked from."""
    from commands import preloading

    with preloading() as process:
        yield process


@pytest.fixture(scope="session", autouse=True)
def copied_stores():
    """New stores are copies, unless a test makes them otherwise."""
    from ready_store import use_copies

    use_copies()
