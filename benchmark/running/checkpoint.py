"""Checkpoint files: one a run, whole at any moment, readable by their owner alone."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Collection, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from benchmark.errors import UsageError

SCHEMA = 1
"""Bumped when files of the version before cannot be read any more."""

MAGIC = b"anytime-bench checkpoint\n"

NAME = "checkpoint"
DRAFT = "checkpoint.draft"

HEADER_LIMIT = 2**20
"""Bytes of a header that is no damage."""


class Damaged(Exception):
    """The file is no checkpoint, or not what was written; the message says in what."""


class CheckpointFile:
    """The checkpoint of one run, in a folder of its own: a header of JSON in one line, then the state.

    A new one is written beside the old one, brought to the disk, read back, and only then takes its place.
    """

    def __init__(self, folder: Path):
        self.folder = folder
        self.path = folder / NAME

    def __str__(self) -> str:
        return str(self.path)

    def exists(self) -> bool:
        """Whether there is one, whole or damaged."""
        return self.path.is_file()

    def write(self, about: Mapping[str, Any], state: bytes) -> None:
        """Take the place of the last one, with ``about`` in the header.

        Raises:
            OSError: it cannot be written; the last one is still there.
        """
        header = {**about, "schema": SCHEMA}
        header["sha256"] = _checksum(header, state)
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        draft = self.folder / DRAFT
        try:
            with open(draft, "wb", opener=_owner_only) as file:
                file.write(MAGIC + json.dumps(header).encode() + b"\n")
                file.write(state)
                file.flush()
                os.fsync(file.fileno())
            if _read(draft)[1] != state:
                raise OSError(5, "what was read back is not what was written")
            draft.replace(self.path)
        except (Damaged, OSError) as error:
            draft.unlink(missing_ok=True)
            if isinstance(error, Damaged):
                raise OSError(5, str(error)) from error
            raise
        _sync_folder(self.folder)

    def read(self) -> tuple[dict[str, Any], bytes]:
        """Header and state.

        Raises:
            Damaged: it is not there, not what was written, or of another schema.
            UsageError: others than its owner could have written it.
        """
        _check_owner(self.path)
        return _read(self.path)

    def remove(self) -> None:
        """Remove it and its folder."""
        shutil.rmtree(self.folder, ignore_errors=True)


def clear_checkpoints(folder: Path, over: Collection[str]) -> None:
    """Remove checkpoints of runs that nothing goes on with, by their ids."""
    for run_id in over:
        if (folder / run_id).is_dir():
            CheckpointFile(folder / run_id).remove()


def _read(path: Path) -> tuple[dict[str, Any], bytes]:
    try:
        with path.open("rb") as file:
            if file.read(len(MAGIC)) != MAGIC:
                raise Damaged("it is no checkpoint")
            header = json.loads(file.readline(HEADER_LIMIT))
            if header["schema"] != SCHEMA:
                raise Damaged(f"it is of schema {header['schema']}, and this is {SCHEMA}")
            state = file.read()
            if header["sha256"] != _checksum(header, state):
                raise Damaged("its checksum is another one")
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise Damaged(" ".join(f"{type(error).__name__}: {error}".split())) from error
    return header, state


def _checksum(header: Mapping[str, Any], state: bytes) -> str:
    """Over all that the header says, itself left out, and the state."""
    said = json.dumps({name: value for name, value in header.items() if name != "sha256"}, sort_keys=True)
    return hashlib.sha256(said.encode() + b"\n" + state).hexdigest()


def _owner_only(path: str, flags: int) -> int:
    return os.open(path, flags, mode=0o600)


def _check_owner(path: Path) -> None:
    if not hasattr(os, "geteuid") or not path.exists():
        return
    about = path.stat()
    if about.st_uid != os.geteuid() or about.st_mode & 0o022:
        raise UsageError(
            f"the checkpoint {path} could have been written by others, and reading it could run what they wrote: "
            "remove it, or make it your own and writable by you alone (chmod 600)"
        )


def _sync_folder(folder: Path) -> None:
    """Bring a renaming to the disk, where the system can."""
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
