"""An Avalanche logger that writes to an MLflow run and works with any strategy."""

from __future__ import annotations

import re
import time
from collections import Counter
from collections.abc import Mapping
from urllib.parse import urlparse
from urllib.request import url2pathname

import torch
from avalanche.logging import BaseLogger
from mlflow import MlflowClient
from mlflow.entities import Metric, RunTag

from benchmark.recording.spool import left_over
from leaderboards.record import PREFIX

BATCH = 1000
"""Metric points of one request, the most that MLflow takes."""


class MLflowLogger(BaseLogger):
    """Writes the metric values of any Avalanche strategy to an MLflow run.

    Points are collected and sent in batches: after each megabatch's training, after each evaluation, and on
    :meth:`flush`. The step is the metric's x value: the megabatch for anytime series, the iteration for training
    curves. Names are made legal for MLflow; values that are not single numbers are passed over.

    Attributes:
        emitted: (name, step) -> how many points there were, over the whole run.
        is_put_back: false as long as an earlier run that goes on has not been put back to where it was.
    """

    def __init__(self, client: MlflowClient, run_id: str, artifact_uri: str, *, is_put_back: bool = True):
        super().__init__()
        self.client = client
        self.run_id = run_id
        self.is_put_back = is_put_back
        self.emitted: Counter[tuple[str, int]] = Counter()
        self._recorded: Counter[tuple[str, int]] = Counter()
        self._artifact_uri = artifact_uri
        self._points: list[Metric] = []

    def go_on(self, tags: Mapping[str, str]) -> None:
        """The run has been put back: no point is recorded again that it has, and ``tags`` describe it from now on.

        To be called before the first point. Where the code was another one, the tag ``resumed_from_code`` says so.
        """
        run = self.client.get_run(self.run_id)
        for name in run.data.metrics:
            self._recorded.update((name, m.step) for m in self.client.get_metric_history(self.run_id, name))
        before, now = (described.get(PREFIX + "code", "") for described in (run.data.tags, tags))
        changed = {PREFIX + "resumed_from_code": before} if before != now else {}
        self.client.log_batch(self.run_id, tags=[RunTag(name, text) for name, text in {**tags, **changed}.items()])
        self.is_put_back = True

    def log_single_metric(self, name: str, value: object, x_plot: int) -> None:
        """Collect one point."""
        if torch.is_tensor(value) and value.numel() == 1:
            value = value.item()
        if isinstance(value, int | float) and not isinstance(value, bool):
            point = legal_name(name), int(x_plot)
            self.emitted[point] += 1
            if self.emitted[point] <= self._recorded[point]:
                return
            self._points.append(Metric(point[0], float(value), now_ms(), point[1]))
            if len(self._points) >= BATCH:
                self.flush()

    def after_training_exp(self, strategy: object, metric_values: object, **kwargs: object) -> None:
        """Send what a megabatch's training has emitted."""
        self.flush()

    def after_eval(self, strategy: object, metric_values: object, **kwargs: object) -> None:
        """Send what an evaluation has emitted."""
        self.flush()

    def artifacts(self) -> str:
        """Address of the run's files: a path where the store is on this machine."""
        address = self._artifact_uri
        return url2pathname(urlparse(address).path) if address.startswith("file:") else address

    @property
    def undelivered(self) -> str:
        """Once the run has ended, a line about what its server has not got, and how to deliver it; or empty."""
        return left_over(self.client)

    def flush(self) -> None:
        """Send the collected points."""
        points, self._points = self._points, []
        if points:
            self.client.log_batch(self.run_id, metrics=points)


def legal_name(name: str) -> str:
    """``name`` with every character that MLflow refuses replaced by an underscore."""
    return re.sub(r"[^\w\-. /:]", "_", name, flags=re.ASCII).strip("/")


def now_ms() -> int:
    """Milliseconds since the epoch."""
    return int(time.time() * 1000)
