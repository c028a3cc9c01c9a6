"""Reaching an MLflow store, with one clear line where that fails."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlparse

from mlflow.exceptions import MlflowException

from leaderboards.errors import BoardError


@contextmanager
def reaching(uri: str) -> Iterator[None]:
    """Turn whatever goes wrong with a store into one line.

    A server is tried once beforehand, because MLflow's own client would retry for minutes.

    Raises:
        BoardError: the store cannot be reached, read or written.
    """
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
        yield
    except MlflowException as error:
        raise BoardError(f"cannot use the tracking store {uri}: {str(error).strip().splitlines()[0]}") from error
    except Exception as error:
        # SQLAlchemy's errors share no base with the above, and MLflow lets them through.
        if type(error).__module__.startswith("sqlalchemy"):
            raise BoardError(f"cannot use the tracking store {uri}: {str(error).splitlines()[0]}") from error
        raise
