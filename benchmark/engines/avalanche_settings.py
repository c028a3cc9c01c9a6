"""Avalanche's settings file, which it writes when it is imported for the first time, and not at once.

Of several processes that do so together one reads what another has half written, and a process that is killed there
leaves an empty file, with which Avalanche can never be imported again.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

from benchmark.errors import UsageError

SETTINGS = Path(".avalanche", "config.json")
"""Its place in the user's home; Avalanche knows no other."""


def write_avalanche_settings() -> None:
    """Make sure that the file is there and whole; one that is damaged is replaced by Avalanche's defaults.

    Raises:
        UsageError: it cannot be written.
    """
    path = Path("~").expanduser() / SETTINGS
    try:
        json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            text = json.dumps({"dataset_location": str(path.parent / "data")}, indent=4)
            with tempfile.NamedTemporaryFile("w", dir=path.parent, delete=False, encoding="utf-8") as draft:
                draft.write(text)
            Path(draft.name).replace(path)
        except OSError as error:
            raise UsageError(
                f"Avalanche needs the file {path}, which cannot be written ({error.strerror}): set HOME to a folder "
                "that can be written"
            ) from error
