"""A new sqlite store: whole or not there at all, whoever makes it at the same time or is stopped while doing so."""

from __future__ import annotations

import hashlib
import os
import shutil
import sqlite3
import tempfile
from contextlib import closing, suppress
from importlib.metadata import version
from pathlib import Path

from filelock import FileLock, Timeout

from benchmark.errors import UsageError
from leaderboards.drafts import clear_dead_drafts, draft_folder
from leaderboards.sources.addresses import sqlite_address
from leaderboards.sources.soundness import flaw

BESIDE = ("-journal", "-wal", "-shm")
"""Ends of the names of files beside a database: changes that sqlite has yet to make or to take back."""

PATIENCE = 300.0
"""Seconds to wait for another command that makes the same store, which takes it some seconds."""

ADVICE = "move it away, or name another store with --output or --tracking-uri"


def try_to_write(folder: Path) -> None:
    """Write for a moment where ``folder`` is, or would be made.

    Raises:
        OSError: nothing can be written there.
    """
    there = next(one for one in (folder.absolute(), *folder.absolute().parents) if one.exists())
    with tempfile.TemporaryFile(dir=there):
        pass


def check_store(file: Path) -> None:
    """Make sure that runs can be recorded in an sqlite store, which need not be there yet; nothing stays written.

    Raises:
        UsageError: the file is no MLflow store, or one that cannot be used, or left its changes behind.
    """
    try:
        if file.exists():
            reason = flaw(file) or (None if os.access(file, os.W_OK) else "cannot be written")
            if reason is not None:
                raise UsageError(f"{file} {reason}: {ADVICE}")
        else:
            _check_beside(file)
        try_to_write(file.parent)
    except OSError as error:
        raise _unwritable(file, error) from error


def make_store(file: Path, artifacts: str, cache: Path | None = None) -> None:
    """Make an sqlite store unless it is there. It is made under another name, and gets its own once it is whole.

    Commands that start together wait for the first of them. What one that was killed has left is cleared away by the
    next.

    Args:
        file: of the store; its folder is made.
        artifacts: address of the files of runs that name no experiment.
        cache: folder of an empty store, which the first one that is made leaves there for others to begin with: MLflow
            takes a second or two for all its tables.

    Raises:
        UsageError: see :func:`check_store`; or the folder cannot be written.
    """
    file = file.resolve()
    check_store(file)
    if file.exists():
        return
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(file.with_name(f".{file.name}.lock"), timeout=PATIENCE):
            if not file.exists():
                _make(file, artifacts, cache)
    except Timeout as error:
        raise UsageError(f"another command has been making {file} for minutes: end it, or wait for it") from error
    except OSError as error:
        raise _unwritable(file, error) from error


def _check_beside(file: Path) -> None:
    """Refuse changes that a store has left behind which is gone: sqlite would apply them to the new one."""
    left = next((one for end in BESIDE if (one := Path(f"{file}{end}")).exists()), None)
    # Another command may have made the store since, and be writing to it.
    if left is not None and not file.exists():
        raise UsageError(f"{left} belongs to a store that is not there: bring that back, or {ADVICE}")


def _unwritable(file: Path, error: OSError) -> UsageError:
    advice = "name another store with --output or --tracking-uri"
    return UsageError(f"cannot write to {file.parent}: {error.strerror}; {advice}")


def _make(file: Path, artifacts: str, cache: Path | None) -> None:
    # It takes a second to import, which those need not wait for who record on a server.
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    draft = file.with_name(f".{file.name}.new")
    _clear(draft)
    try:
        empty = _empty_store(cache) if cache is not None else None
        if empty is not None:
            shutil.copyfile(empty, draft)
        SqlAlchemyStore(sqlite_address(draft), artifacts).engine.dispose()
        if cache is not None and empty is None:
            # A cache that cannot be written, or is full, saves no time, and that is all.
            with suppress(OSError, sqlite3.Error):
                _keep_empty(draft, cache)
        draft.replace(file)
    finally:
        _clear(draft)


def _empty_store(cache: Path) -> Path | None:
    """A whole store without anything in it, of the installed version of MLflow, if the cache has one."""
    for file in cache.glob(f"{_name_empty()}*.db"):
        with suppress(OSError):
            if file.stem == _name_empty() + _digest(file):
                return file
            file.unlink()
    return None


def _keep_empty(new: Path, cache: Path) -> None:
    clear_dead_drafts(cache)
    with draft_folder(cache) as drafts:
        draft = Path(shutil.copyfile(new, drafts / "store.db"))
        with closing(sqlite3.connect(draft)) as database:
            # MLflow makes the default experiment where it finds none, with the place of its artifacts.
            database.execute("DELETE FROM experiments")
            database.commit()
            database.execute("VACUUM")
        # Two first stores at once differ by the time they were made at.
        if _empty_store(cache) is None:
            draft.replace(cache / f"{_name_empty()}{_digest(draft)}.db")


def _name_empty() -> str:
    return f"empty-store-mlflow-{version('mlflow')}-"


def _digest(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()[:16]


def _clear(draft: Path) -> None:
    for end in ("", *BESIDE):
        Path(f"{draft}{end}").unlink(missing_ok=True)
