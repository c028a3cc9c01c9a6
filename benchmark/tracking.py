"""MLflow tracking: a logger for Avalanche that works with any strategy, and the record of one run."""

from __future__ import annotations

import logging
import platform
import re
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path
from typing import Any
from urllib.parse import urlparse
from urllib.request import url2pathname

import torch
from avalanche.logging import BaseLogger
from mlflow import MlflowClient
from mlflow.entities import Metric, Param, RunTag

from benchmark.errors import UsageError
from leaderboards.errors import BoardError
from leaderboards.store import PREFIX, reaching

BATCH = 1000
"""Metric points of one request, the most that MLflow takes."""

PARAM_LENGTH = 500


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

    def artifacts(self) -> str:
        """Address of the run's files: a path where the store is on this machine."""
        address = str(self.client.get_run(self.run_id).info.artifact_uri)
        return url2pathname(urlparse(address).path) if address.startswith("file:") else address

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
        self.uri = tracking_uri or f"sqlite:///{(output / 'mlflow.db').resolve()}"
        # MLflow and alembic report every table they make; a reader of this command has no use for it.
        for name in ("mlflow", "alembic"):
            logging.getLogger(name).setLevel(logging.WARNING)
        try:
            with reaching(self.uri):
                # The boards go there, wherever the runs are tracked: better to know now than after training.
                output.mkdir(parents=True, exist_ok=True)
                with tempfile.TemporaryFile(dir=output):
                    pass
                self.client = MlflowClient(self.uri)
                self.experiment_id = self._experiment(experiment, output)
        except OSError as error:
            raise UsageError(f"cannot write to {output}: {error.strerror}; choose a folder with --output") from error
        except BoardError as error:
            raise UsageError(str(error)) from error

    def _experiment(self, name: str, output: Path) -> str:
        found = self.client.get_experiment_by_name(name)
        if found is None:
            # A server knows where its artifacts go; anything else would freeze a path relative to this folder.
            served = urlparse(self.uri).scheme in ("http", "https", "databricks")
            artifacts = None if served else (output / "artifacts").resolve().as_uri()
            return str(self.client.create_experiment(name, artifact_location=artifacts))
        if found.lifecycle_stage != "active":
            raise UsageError(f"the MLflow experiment {name!r} is deleted: restore it or name another one")
        return str(found.experiment_id)

    @contextmanager
    def run(self, name: str, params: Mapping[str, Any], tags: Mapping[str, str]) -> Iterator[MLflowLogger]:
        """A run that ends FINISHED, KILLED when interrupted, or FAILED with the reason as a tag.

        The traceback of a failure is the artifact ``failure.txt``.
        """
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
            self.client.log_batch(run_id, tags=[RunTag(PREFIX + "failure", reason[:PARAM_LENGTH])])
            self.client.set_terminated(run_id, "KILLED" if interrupted else "FAILED")
            if not interrupted:
                self.client.log_text(run_id, traceback.format_exc(), "failure.txt")
            raise
        self.client.set_terminated(run_id, "FINISHED")


def provenance(device: str = "cpu") -> dict[str, str]:
    """Where results come from: commit, a hash of uncommitted changes, versions, and the hardware of ``device``."""
    commit, changes = _git("rev-parse", "HEAD"), _uncommitted()
    tags = {
        "commit": commit.decode().strip() if commit else "unknown",
        "dirty": sha256(changes).hexdigest()[:12] if changes else "clean" if commit else "unknown",
        "python": platform.python_version(),
        "hardware": torch.cuda.get_device_name(device) if device.startswith("cuda") else _processor(),
        "threads": str(torch.get_num_threads()),
        "platform": f"{platform.system()} {platform.machine()}",
    }
    for package in ("torch", "torchvision", "avalanche-lib", "mlflow", "numpy"):
        tags[f"version.{package}"] = version(package)
    return {PREFIX + name: value for name, value in tags.items()}


def _uncommitted() -> bytes:
    """Changes to tracked files, and new files of the packages with their contents."""
    changes = _git("diff", "HEAD") or b""
    for name in (_git("ls-files", "--others", "--exclude-standard", "-z", "--", "*.py") or b"").split(b"\0"):
        path = Path(__file__).parent / name.decode()
        if name and path.is_file():
            changes += name + path.read_bytes()
    return changes


def _git(*arguments: str) -> bytes | None:
    folder = Path(__file__).parent
    try:
        return subprocess.run(["git", *arguments], cwd=folder, capture_output=True, timeout=20, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return None


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or sys.platform
