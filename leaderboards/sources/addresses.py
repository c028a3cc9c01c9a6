"""Addresses that runs are read from: MLflow stores, which of them are files, and folders of records."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import quote, urlparse

from mlflow.store.db.db_types import DATABASE_ENGINES, SQLITE
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError

from leaderboards.errors import BoardError

WORDS = ("databricks", "databricks-uc", "uc")
"""Addresses without a scheme that MLflow knows."""

RECORDS = "records:"
"""What the address of a folder of records begins with; the rest is its path, as it is."""

FORMS = "a store is a database, such as sqlite:///PATH, or a server, http://HOST:PORT"


def check_address(uri: str) -> None:
    """Refuse what cannot be the address of a store; nothing is asked for it.

    Raises:
        BoardError: there is no such store, or it would be gone with the command.
    """
    try:
        parts = urlparse(uri)
        is_server = parts.scheme in ("http", "https")
        if is_server and (not parts.hostname or parts.port == 0):
            raise ValueError("no host")
    except ValueError as error:
        raise BoardError(f"{uri} is no address of a tracking server: write http://HOST:PORT") from error
    if uri.startswith(RECORDS):
        raise BoardError(f"runs cannot be tracked in records ({uri!r}): {FORMS}")
    # A single letter is a drive.
    if uri not in WORDS and (len(parts.scheme) < 2 or parts.scheme == "file"):
        raise BoardError(f"runs cannot be tracked in a folder ({uri!r}): {FORMS}")
    sqlite_file(uri)


def records_folder(uri: str) -> Path | None:
    """The folder of an address of records, there or not; None for any other address.

    Raises:
        BoardError: it names no folder.
    """
    if not uri.startswith(RECORDS):
        return None
    path = uri.removeprefix(RECORDS)
    if not path or "\0" in path:
        raise BoardError(f"{uri!r} names no folder of records: write {RECORDS}PATH")
    return Path(path)


def is_database(uri: str) -> bool:
    """Whether MLflow opens the store itself, rather than ask a server."""
    return _kind(uri) in DATABASE_ENGINES


def sqlite_file(uri: str) -> Path | None:
    """The file of an sqlite store, there or not; None for any other store.

    Raises:
        BoardError: the address is of an sqlite store without a file.
    """
    if _kind(uri) != SQLITE:
        return None
    try:
        url = make_url(uri)
        url.get_dialect()
        if url.host or url.port or url.username:
            raise ValueError("a server")
    except (ArgumentError, ValueError) as error:
        raise BoardError(f"{uri} is no address of an sqlite store: write sqlite:///PATH, with three slashes") from error
    if "?" in uri:
        raise BoardError(f"{uri}: what follows the ? would be lost: write sqlite:///PATH, without options")
    if not url.database or url.database.startswith((":memory:", "file:")):
        raise BoardError(f"{uri} names no file, the runs would be lost with the command: write sqlite:///PATH")
    return Path(url.database)


def sqlite_address(file: Path) -> str:
    """The address of an sqlite store in ``file``.

    Raises:
        BoardError: the path has characters that no address can have.
    """
    path = str(file)
    try:
        # Versions of SQLAlchemy differ in whether they decode a path. With its slashes written as %2F, MLflow finds
        # no folder in it that it would have to make.
        for written in (path, quote(path, safe="")):
            uri = f"sqlite:///{written}"
            if "?" not in written and make_url(uri).database == path:
                return uri
    except UnicodeEncodeError:
        pass
    raise BoardError(f"{path!r} cannot be the address of a store: choose a folder without such characters")


def _kind(uri: str) -> str:
    return urlparse(uri).scheme.partition("+")[0]
