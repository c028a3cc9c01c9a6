"""MLflow store -> one tidy table, a row a finished run, and the glossary of its metrics."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from mlflow import MlflowClient
from mlflow.entities import Run

from leaderboards.errors import BoardError
from leaderboards.glossary import Glossary, from_tags
from leaderboards.record import EARLIER, PREFIX, identity_key
from leaderboards.store import reaching

NEEDED = ("stream", "stream_label", "data", "data_fingerprint", "protocol", "variant", "seed")

PAGE = 1000


METRIC = "metrics."
"""Of the columns that hold the last values of metrics."""


@dataclass(frozen=True)
class Records:
    """What a store holds.

    Attributes:
        runs: a row a finished run, oldest first. Columns: ``run_id``, ``started`` (UTC), the tags without their
            prefix (``protocol``, completed with what earlier runs had, ``variant`` and ``variant_defaults`` as
            dictionaries, ``seed`` as an integer), ``identity``, ``density``, the final density that was asked for, and
            ``metrics.NAME`` with the last value of each metric.
        glossary: what the metrics mean; every metric of the runs is in it.
    """

    runs: pd.DataFrame
    glossary: Glossary


def collect(*tracking_uris: str, experiment: str | None = None) -> Records:
    """All finished benchmark runs of one or several stores. Failed, killed and unfinished runs never enter.

    Args:
        tracking_uris: any MLflow stores.
        experiment: name of one experiment; None reads all.

    Raises:
        BoardError: a store or the experiment cannot be read.
    """
    rows: list[dict[str, Any]] = []
    glossary = Glossary()
    for uri in tracking_uris:
        found, said = _read(uri, experiment)
        rows += found
        glossary |= said
    earlier = dict(EARLIER)
    for row in rows:
        earlier |= row.pop("earlier")
    for row in rows:
        row["protocol"] = earlier | row["protocol"]
        row["identity"] = identity_key(
            protocol=row["protocol"],
            variant=row["variant"],
            seed=row["seed"],
            data_fingerprint=row["data_fingerprint"],
        )
    runs = pd.DataFrame(rows)
    measured = [name.removeprefix(METRIC) for name in runs.columns if name.startswith(METRIC)]
    return Records(runs, glossary.completed(measured))


def _read(tracking_uri: str, experiment: str | None) -> tuple[list[dict[str, Any]], Glossary]:
    path = tracking_uri.removeprefix("sqlite:///")
    if path != tracking_uri and not Path(path).is_file():
        # MLflow would create it.
        raise BoardError(f"there is no store {tracking_uri}: name the one your runs were tracked in")
    rows: list[dict[str, Any]] = []
    glossary = Glossary()
    with reaching(tracking_uri):
        client = MlflowClient(tracking_uri)
        experiments = client.search_experiments()
        chosen = [e for e in experiments if experiment in (None, e.name)]
        if not chosen:
            names = ", ".join(repr(e.name) for e in experiments)
            raise BoardError(f"no experiment {experiment!r} in {tracking_uri}: there are {names or 'none'}")
        for one in chosen:
            glossary |= from_tags(one.tags)
        token = None
        while True:
            page = client.search_runs(
                [one.experiment_id for one in chosen],
                "attributes.status = 'FINISHED'",
                max_results=PAGE,
                page_token=token,
                order_by=["start_time ASC"],
            )
            rows += [row for run in page if (row := _row(run)) is not None]
            token = page.token
            if not token:
                break
    return rows, glossary


def latest_per_seed(runs: pd.DataFrame) -> pd.DataFrame:
    """One run of each identity: repeating a run must not count as another seed; the newest stays."""
    if runs.empty:
        return runs
    return runs[~runs.identity.duplicated(keep="last")].reset_index(drop=True)


def _row(run: Run) -> dict[str, Any] | None:
    tags = {name.removeprefix(PREFIX): value for name, value in run.data.tags.items() if name.startswith(PREFIX)}
    if any(name not in tags for name in NEEDED):
        return None
    started = pd.Timestamp(run.info.start_time, unit="ms", tz="UTC")
    parsed: dict[str, Any] = {
        "protocol": json.loads(tags["protocol"]),
        "variant": json.loads(tags["variant"]),
        "variant_defaults": json.loads(tags.get("variant_defaults", "{}")),
        "seed": int(tags["seed"]),
        "earlier": json.loads(tags.get("earlier", "{}")),
    }
    # The field was there from the first version on; a store that other programs write to may lack it.
    parsed["density"] = float(run.data.params.get("density", "nan"))
    metrics = {f"{METRIC}{name}": value for name, value in run.data.metrics.items()}
    return {"run_id": run.info.run_id, "started": started, **tags, **parsed, **metrics}
