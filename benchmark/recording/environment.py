"""What is installed where a campaign is carried out."""

from __future__ import annotations

import platform
from hashlib import sha256
from importlib.metadata import distributions

from mlflow import MlflowClient


def environment() -> str:
    """Python and all installed packages with their versions, a line each, as pip's ``--requirement`` reads them.

    Names and versions alone: where a package was installed from is nobody's business.
    """
    # Each look at the metadata of a package reads its file.
    read = [one.metadata for one in distributions()]
    found = {one["Name"]: one["Version"] for one in read if one["Name"]}
    lines = [f"{name}=={found[name]}" for name in sorted(found, key=str.casefold)]
    return "\n".join([f"# Python {platform.python_version()}, {platform.system()} {platform.machine()}", *lines]) + "\n"


def write_environment(client: MlflowClient, run_id: str) -> None:
    """Make it a file of a run, ``environment-DIGEST.txt``.

    Commands of one campaign that find the same packages write the same file: a second one says that they changed.
    """
    said = environment()
    client.log_text(run_id, said, f"environment-{sha256(said.encode()).hexdigest()[:8]}.txt")
