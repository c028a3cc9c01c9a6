"""MLflow tracking: a logger for Avalanche that works with any strategy, and the record of one run."""

from __future__ import annotations

import platform
import re
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

import torch
from avalanche.logging import BaseLogger
from mlflow import MlflowClient
from mlflow.entities import Metric, Param, RunTag
from mlflow.exceptions import MlflowException

from benchmark.errors import UsageError

BATCH = 1000
"""Metric points of one request, the most that MLflow takes."""

PARAM_LENGTH = 500

TAG_PREFIX = "anytime_bench."


class MLflowLogger(BaseLogger):
    """Writes the metric values of any Avalanche strategy to an MLflow run.

    Points are collected and sent in batches: after each megabatch's training, after each evaluation, and on
    :meth:`flush`. The step is the metric's x value: the megabatch for anytime series, the iteration for training
    curves. Names are made legal for MLflow; values that are not single numbers are passed over.
    """

    def __init__(self, client: MlflowClient, run_id: str):
        super().__init__()
        self.client = client
        self.run_id = run_id
        self._points: list[Metric] = []

    def log_single_metric(self, name: str, value: object, x_plot: int) -> None:
        """Collect one point."""
        if torch.is_tensor(value) and value.numel() == 1:
            value = value.item()
        if isinstance(value, int | float) and not isinstance(value, bool):
            self._points.append(Metric(legal_name(name), float(value), now_ms(), int(x_plot)))
            if len(self._points) >= BATCH:
                self.flush()

    def after_training_exp(self, strategy: object, metric_values: object, **kwargs: object) -> None:
        """Send what a megabatch's training has emitted."""
        self.flush()

    def after_eval(self, strategy: object, metric_values: object, **kwargs: object) -> None:
        """Send what an evaluation has emitted."""
        self.flush()

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
    import time

    return int(time.time() * 1000)


class Store:
    """An MLflow store that has been reached, with the experiment that runs go into.

    The default store is sqlite in the output folder; its artifact folder is given as an absolute address, because
    MLflow would freeze a relative one.
    """

    def __init__(self, tracking_uri: str | None, output: Path, experiment: str):
        """Reach the store and create the experiment if it is not there.

        Raises:
            UsageError: the store cannot be reached or written.
        """
        local = tracking_uri is None
        self.uri = tracking_uri or f"sqlite:///{(output / 'mlflow.db').resolve()}"
        _check_server(self.uri)
        try:
            if local:
                output.mkdir(parents=True, exist_ok=True)
            self.client = MlflowClient(self.uri)
            found = self.client.get_experiment_by_name(experiment)
            if found is None:
                artifacts = (output / "artifacts").resolve().as_uri() if local else None
                self.experiment_id = self.client.create_experiment(experiment, artifact_location=artifacts)
            elif found.lifecycle_stage != "active":
                raise UsageError(f"the MLflow experiment {experiment!r} is deleted: restore it or name another one")
            else:
                self.experiment_id = found.experiment_id
        except OSError as error:
            raise UsageError(f"cannot write to {output}: {error.strerror}; choose a folder with --output") from error
        except MlflowException as error:
            reason = str(error).strip().splitlines()[0]
            raise UsageError(f"cannot use the tracking store {self.uri}: {reason}") from error
        except Exception as error:  # SQLAlchemy's errors share no base with the above.
            if type(error).__module__.startswith("sqlalchemy"):
                raise UsageError(f"cannot use the tracking store {self.uri}: {str(error).splitlines()[0]}") from error
            raise

    @contextmanager
    def run(self, name: str, params: Mapping[str, Any], tags: Mapping[str, str]) -> Iterator[MLflowLogger]:
        """A run that ends FINISHED, FAILED with the reason as a tag, or KILLED when interrupted."""
        run_id = self.client.create_run(self.experiment_id, run_name=name, tags=dict(tags)).info.run_id
        logger = MLflowLogger(self.client, run_id)
        try:
            shown = {key: str(value)[:PARAM_LENGTH] for key, value in params.items()}
            self.client.log_batch(run_id, params=[Param(key, value) for key, value in shown.items()])
            yield logger
            logger.flush()
        except BaseException as error:
            interrupted = isinstance(error, KeyboardInterrupt | SystemExit)
            reason = "interrupted" if interrupted else f"{type(error).__name__}: {error}"
            self.client.log_batch(run_id, tags=[RunTag(TAG_PREFIX + "failure", reason[:PARAM_LENGTH])])
            self.client.set_terminated(run_id, "KILLED" if interrupted else "FAILED")
            raise
        self.client.set_terminated(run_id, "FINISHED")


def provenance() -> dict[str, str]:
    """Where results come from: commit, a hash of uncommitted changes, versions and hardware."""
    commit, diff = _git("rev-parse", "HEAD"), _git("diff", "HEAD")
    tags = {
        "commit": commit or "unknown",
        "dirty": sha256(diff.encode()).hexdigest()[:12] if diff else "clean" if commit else "unknown",
        "python": platform.python_version(),
        "hardware": _processor(),
        "threads": str(torch.get_num_threads()),
        "platform": f"{platform.system()} {platform.machine()}",
    }
    for package in ("torch", "torchvision", "avalanche-lib", "mlflow", "numpy"):
        tags[f"version.{package}"] = version(package)
    return {TAG_PREFIX + name: value for name, value in tags.items()}


def _git(*arguments: str) -> str | None:
    folder = Path(__file__).parent
    try:
        done = subprocess.run(["git", *arguments], cwd=folder, capture_output=True, text=True, timeout=20, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


def _processor() -> str:
    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or sys.platform


def _check_server(uri: str) -> None:
    """One quick try to reach a tracking server, because MLflow's own client retries for minutes."""
    parts = urlparse(uri)
    if parts.scheme not in ("http", "https"):
        return
    port = parts.port or (443 if parts.scheme == "https" else 80)
    try:
        socket.create_connection((parts.hostname or "", port), timeout=5).close()
    except OSError as error:
        raise UsageError(
            f"no tracking server answers at {uri} ({error.strerror or error}): start it, or mend --tracking-uri"
        ) from error
