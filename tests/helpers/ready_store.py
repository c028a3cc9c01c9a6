"""New stores that are copies of one that was made before: MLflow takes two seconds for each, and tests need hundreds.

How a store is really made is tested in ``tests/tracking/test_new_store.py``, and by commands in new interpreters.
"""

from __future__ import annotations

import shutil
import sqlite3
import tempfile
from contextlib import closing
from functools import cache
from pathlib import Path

from benchmark.recording import creation

make_by_mlflow = creation._make


def use_copies() -> None:
    """From now on this process, and what is forked from it, copies new stores."""
    _template()
    creation._make = copy_store


def copy_store(file: Path, artifacts: str, cache: Path | None) -> None:
    """Put a new store in the place of ``file``; no command before has to have made an empty one."""
    draft = file.with_name(f".{file.name}.new")
    shutil.copyfile(_template(), draft)
    with closing(sqlite3.connect(draft)) as database, database:
        database.execute("UPDATE experiments SET artifact_location = ?", (f"{artifacts}/0",))
    draft.replace(file)


@cache
def _template() -> Path:
    # Kept as long as the process: the system clears its folder of temporary files.
    template = Path(tempfile.mkdtemp(prefix="store-")) / "mlflow.db"
    make_by_mlflow(template, "artifacts", None)
    return template
