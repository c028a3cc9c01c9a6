"""Writing files so that none is ever half there."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory

from leaderboards.errors import BoardError


def write_all(texts: Mapping[str, str | bytes], folder: Path, *, outdated: Iterable[str] = ()) -> None:
    """Write files (path within ``folder`` -> content), in this order, once all of them are on the disk.

    What is ``outdated`` (paths as well) is removed then, with folders that are empty thereby.

    Raises:
        BoardError: the folder cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        # A folder of its own: another command may write the same files.
        with TemporaryDirectory(prefix=".new-", dir=folder) as drafts:
            for place in sorted({Path(name).parent for name in texts} - {Path()}):
                for top in (Path(drafts), folder):
                    (top / place).mkdir(parents=True, exist_ok=True)
            for name, text in texts.items():
                (Path(drafts) / name).write_bytes(text if isinstance(text, bytes) else text.encode())
            for name in texts:
                (Path(drafts) / name).replace(folder / name)
        for name in outdated:
            path = folder / name
            path.unlink(missing_ok=True)
            if path.parent != folder:
                # Only where nothing else is in it.
                with suppress(OSError):
                    path.parent.rmdir()
    except OSError as error:
        raise BoardError(f"cannot write to {folder}: {error.strerror}") from error
