"""MLflow store -> one tidy table, a row a finished run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd
from mlflow import MlflowClient
from mlflow.entities import Run

from leaderboards.errors import BoardError
from leaderboards.store import PREFIX, reaching

NEEDED = ("stream", "stream_label", "data", "data_fingerprint", "protocol", "variant", "seed")

EARLIER = {"precision": "fp32"}
"""Protocol fields that came later -> the value that all earlier runs had, which do not record it."""

PAGE = 1000


def collect(tracking_uri: str, experiment: str | None = None) -> pd.DataFrame:
    """All finished benchmark runs of a store, oldest first.

    Failed, killed and unfinished runs never enter. Columns: ``run_id``, ``started`` (UTC), the tags without
    their prefix (``protocol``, completed from :data:`EARLIER`, ``variant`` and ``variant_defaults`` as dictionaries,
    ``seed`` as an integer), ``density``, the final density that was asked for, and ``metrics.NAME`` with the last
    value of each metric.

    Args:
        tracking_uri: any MLflow store.
        experiment: name of one experiment; None reads all.

    Raises:
        BoardError: the store or the experiment cannot be read.
    """
    path = tracking_uri.removeprefix("sqlite:///")
    if path != tracking_uri and not Path(path).is_file():
        # MLflow would create it.
        raise BoardError(f"there is no store {tracking_uri}: name the one your runs were tracked in")
    rows: list[dict[str, Any]] = []
    with reaching(tracking_uri):
        client = MlflowClient(tracking_uri)
        experiments = client.search_experiments()
        ids = [e.experiment_id for e in experiments if experiment in (None, e.name)]
        if not ids:
            names = ", ".join(repr(e.name) for e in experiments)
            raise BoardError(f"no experiment {experiment!r} in {tracking_uri}: there are {names or 'none'}")
        token = None
        while True:
            page = client.search_runs(
                ids, "attributes.status = 'FINISHED'", max_results=PAGE, page_token=token, order_by=["start_time ASC"]
            )
            rows += [row for run in page if (row := _row(run)) is not None]
            token = page.token
            if not token:
                break
    return pd.DataFrame(rows)


def latest_per_seed(runs: pd.DataFrame) -> pd.DataFrame:
    """One run for each (board, variant, seed): repeating a run must not count as another seed; the newest stays."""
    if runs.empty:
        return runs
    identities = zip(runs.data, runs.data_fingerprint, runs.protocol, runs.variant, runs.seed, strict=True)
    keys = pd.Series([json.dumps(identity, sort_keys=True) for identity in identities], index=runs.index)
    return runs[~keys.duplicated(keep="last")].reset_index(drop=True)


def _row(run: Run) -> dict[str, Any] | None:
    tags = {name.removeprefix(PREFIX): value for name, value in run.data.tags.items() if name.startswith(PREFIX)}
    if any(name not in tags for name in NEEDED):
        return None
    started = pd.Timestamp(run.info.start_time, unit="ms", tz="UTC")
    parsed: dict[str, Any] = {
        "protocol": EARLIER | json.loads(tags["protocol"]),
        "variant": json.loads(tags["variant"]),
        "variant_defaults": json.loads(tags.get("variant_defaults", "{}")),
        "seed": int(tags["seed"]),
    }
    # The field was there from the first version on; a store that other programs write to may lack it.
    parsed["density"] = float(run.data.params.get("density", "nan"))
    metrics = {f"metrics.{name}": value for name, value in run.data.metrics.items()}
    return {"run_id": run.info.run_id, "started": started, **tags, **parsed, **metrics}
