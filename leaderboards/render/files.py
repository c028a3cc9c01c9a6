"""Writing files so that none is ever half there."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path

from leaderboards.drafts import clear_dead_drafts, draft_folder
from leaderboards.errors import BoardError


def write_all(texts: Mapping[str, str | bytes], folder: Path, *, outdated: Iterable[str] = ()) -> None:
    """Write files (path within ``folder`` -> content), in this order, once all of them are on the disk.

    What is ``outdated`` (paths as well) is removed then, with folders that are empty thereby; and what processes that
    were killed while they wrote there have left.

    Raises:
        BoardError: the folder cannot be written.
    """
    try:
        clear_dead_drafts(folder)
        # A folder of its own: another command may write the same files.
        with draft_folder(folder) as drafts:
            for place in sorted({Path(name).parent for name in texts} - {Path()}):
                for top in (drafts, folder):
                    (top / place).mkdir(parents=True, exist_ok=True)
            for name, text in texts.items():
                (drafts / name).write_bytes(text if isinstance(text, bytes) else text.encode())
            for name in texts:
                (drafts / name).replace(folder / name)
        for name in outdated:
            path = folder / name
            path.unlink(missing_ok=True)
            if path.parent != folder:
                # Only where nothing else is in it.
                with suppress(OSError):
                    path.parent.rmdir()
    except OSError as error:
        raise BoardError(f"cannot write to {folder}: {error.strerror}") from error
