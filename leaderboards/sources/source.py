"""What kind of source an address names."""

from __future__ import annotations

from leaderboards.sources.addresses import records_folder
from leaderboards.sources.recorded import RecordedRuns
from leaderboards.sources.rows import Source
from leaderboards.sources.tracked import TrackedRuns


def source(uri: str) -> Source:
    """The source at an address: ``records:DIR`` is a folder of records, anything else an MLflow store.

    Raises:
        BoardError: ``uri`` names no folder. Whether there is anything to be read is seen by reading.
    """
    folder = records_folder(uri)
    return TrackedRuns(uri) if folder is None else RecordedRuns(folder)
