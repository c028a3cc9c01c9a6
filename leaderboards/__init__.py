"""What came out: leaderboards computed from what runs have recorded, and from nothing else."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from leaderboards.numbers.frames import Frames

# As the benchmark has it: nothing is reported elsewhere unless "false" asks for it.
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")


def load(source: str, *, experiment: str | None = None) -> Frames:
    """The runs that boards count, the newest of each identity, and their series, as flat pandas tables.

    Args:
        source: an MLflow store, such as ``sqlite:///results/mlflow.db``, or a folder of records, ``records:DIR``.
        experiment: name of one experiment of MLflow; None reads all.

    Raises:
        BoardError: the source or the experiment cannot be read.
    """
    # Whoever imports a module of this package should not wait for pandas and MLflow.
    from leaderboards.numbers.frames import frames

    return frames(source, experiment=experiment)
