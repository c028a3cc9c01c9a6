"""Whether a file is an MLflow store that can be used: better known before MLflow tries to mend it."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from functools import cache
from importlib.resources import as_file, files
from pathlib import Path

from mlflow.version import VERSION

PATIENCE = 20.0
"""Seconds to wait for another program that writes, as long as MLflow waits."""

VERSIONS = "alembic_version"
"""The table of one row and one column that says which version all others are of."""


def flaw(file: Path) -> str | None:
    """Why a file cannot be used as a store, in words that follow its path; None where it can be. The file is only read.

    MLflow completes a store that lacks tables, and fails half-way where that is no store of its own version.
    """
    if file.is_dir():
        return "is a folder and no MLflow store"
    try:
        if not file.stat().st_size:
            return "is empty and no MLflow store"
        with closing(sqlite3.connect(f"{file.resolve().as_uri()}?mode=rw", uri=True, timeout=PATIENCE)) as database:
            found = {name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
            tables = _tables()
            for name in found & tables:
                database.execute(f'SELECT * FROM "{name}" LIMIT 1').fetchall()
            versions = database.execute(f"SELECT * FROM {VERSIONS}").fetchall() if "alembic_version" in found else []
    except OSError as error:
        return f"cannot be read ({error.strerror})"
    except sqlite3.OperationalError as error:
        return f"cannot be read ({error})"
    except sqlite3.DatabaseError as error:
        return f"is damaged or no MLflow store ({error})"
    missing = tables - found
    if missing == tables:
        return "is no MLflow store (it has none of its tables)"
    if len(versions) != 1:
        return "is damaged or half made (it does not say which version of MLflow it is of)"
    [(version,)] = versions
    newest, known = _revisions()
    if version not in known:
        return f"is of a later version of MLflow than the one installed, {VERSION}"
    if version != newest:
        return "is half made, or of an earlier version of MLflow (then 'mlflow db upgrade' brings a copy up to date)"
    if missing:
        return f"is damaged (it lacks MLflow's table {min(missing)})"
    return None


# A second is spent on imports here, which those need not wait for who look at no store.
@cache
def _tables() -> frozenset[str]:
    """Names of all tables of MLflow."""
    import mlflow.store.db.utils  # noqa: F401  (it imports them all)
    from mlflow.store.db.base_sql_model import Base

    return frozenset(Base.metadata.tables)


@cache
def _revisions() -> tuple[str | None, frozenset[str]]:
    """The newest version of MLflow's tables, and all that there have been."""
    from alembic.script import ScriptDirectory

    with as_file(files("mlflow.store") / "db_migrations") as folder:
        scripts = ScriptDirectory(str(folder))
        return scripts.get_current_head(), frozenset(one.revision for one in scripts.walk_revisions())
