"""Reaching an MLflow store, with one clear line where that fails."""

from __future__ import annotations

import logging
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlparse

from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from sqlalchemy import create_engine

from leaderboards.errors import BoardError
from leaderboards.sources.addresses import check_address, is_database, sqlite_file
from leaderboards.sources.soundness import flaw

FOREIGN = ("sqlalchemy", "alembic", "sqlite3")
"""Packages whose errors MLflow lets through; they share no base with its own."""


@contextmanager
def reaching(uri: str) -> Iterator[None]:
    """Turn whatever goes wrong with a store into one line.

    A server is tried once beforehand, because MLflow's own client would retry for minutes; so is a database.

    Raises:
        BoardError: the store cannot be reached, read or written, or ``uri`` is no address of one.
    """
    check_address(uri)
    parts = urlparse(uri)
    if parts.scheme in ("http", "https"):
        try:
            port = parts.port or (443 if parts.scheme == "https" else 80)
            socket.create_connection((parts.hostname or "", port), timeout=5).close()
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or error
            raise BoardError(
                f"no tracking server answers at {uri} ({reason}): start it, or mend the address"
            ) from error
    try:
        with _quiet():
            if is_database(uri) and sqlite_file(uri) is None:
                _connect(uri)
            yield
    except MlflowException as error:
        raise BoardError(f"cannot use the tracking store {uri}: {str(error).strip().splitlines()[0]}") from error
    except Exception as error:
        if type(error).__module__.partition(".")[0] in FOREIGN:
            raise BoardError(f"cannot use the tracking store {uri}: {str(error).splitlines()[0]}") from error
        raise


@contextmanager
def reading(uri: str) -> Iterator[MlflowClient]:
    """A client of a store that is there, with one line for whatever goes wrong.

    Raises:
        BoardError: the store cannot be reached or read, or there is none.
    """
    with reaching(uri):
        file = sqlite_file(uri)
        if file is not None:
            if not file.exists():
                # MLflow would create it.
                raise BoardError(f"there is no store {uri}: name the one your runs were tracked in")
            reason = flaw(file)
            if reason is not None:
                raise BoardError(f"{file} {reason}: name the store your runs were tracked in")
        yield MlflowClient(uri)


def _connect(uri: str) -> None:
    try:
        engine = create_engine(uri)
    except ModuleNotFoundError as error:
        raise BoardError(f"the tracking store {uri} needs a driver: install {error.name}") from error
    with engine.connect():
        pass
    engine.dispose()


@contextmanager
def _quiet() -> Iterator[None]:
    """MLflow prints the traceback of an error of its database, which it then raises."""
    logger = logging.getLogger("mlflow.store.db.utils")
    before = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(before)
