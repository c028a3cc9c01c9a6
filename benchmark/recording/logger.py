"""An Avalanche logger that writes to an MLflow run and works with any strategy."""

from __future__ import annotations

import re
import time
from collections import Counter
from urllib.parse import urlparse
from urllib.request import url2pathname

import torch
from avalanche.logging import BaseLogger
from mlflow import MlflowClient
from mlflow.entities import Metric

from benchmark.recording.spool import left_over

BATCH = 1000
"""Metric points of one request, the most that MLflow takes."""


class MLflowLogger(BaseLogger):
    """Writes the metric values of any Avalanche strategy to an MLflow run.

    Points are collected and sent in batches: after each megabatch's training, after each evaluation, and on
    :meth:`flush`. The step is the metric's x value: the megabatch for anytime series, the iteration for training
    curves. Names are made legal for MLflow; values that are not single numbers are passed over.

    Attributes:
        emitted: (name, step) -> how many points there were, over the whole run.
    """

    def __init__(self, client: MlflowClient, run_id: str, artifact_uri: str):
        super().__init__()
        self.client = client
        self.run_id = run_id
        self.emitted: Counter[tuple[str, int]] = Counter()
        self._recorded: Counter[tuple[str, int]] = Counter()
        self._artifact_uri = artifact_uri
        self._points: list[Metric] = []

    def go_on(self) -> None:
        """Record no point again that the run has already; to be called before the first one."""
        for name in self.client.get_run(self.run_id).data.metrics:
            self._recorded.update((name, m.step) for m in self.client.get_metric_history(self.run_id, name))

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
