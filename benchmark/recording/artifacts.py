"""Files of a run: a list of writers, some of which write for every run and some where they were asked for."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import torch

from benchmark.console import say
from benchmark.errors import Unwritten
from benchmark.metrics.continual import ContinualLearning
from benchmark.recording.logger import MLflowLogger
from benchmark.recording.slim import SlimNetwork
from benchmark.recording.trace import StepTrace
from benchmark.recording.writer import ArtifactWriter, Finished
from leaderboards.drafts import clear_dead_drafts, draft_folder
from strategies.learning.roles import handed_over, network_per_task


class Configuration(ArtifactWriter):
    """``config.json``: every field."""

    def write(self, run: Finished, folder: Path) -> None:
        """Write it."""
        (folder / "config.json").write_text(run.config.model_dump_json(indent=2) + "\n", encoding="utf-8")


class SkippedImages(ArtifactWriter):
    """``skipped.txt``: images that were left out, where there are any."""

    def write(self, run: Finished, folder: Path) -> None:
        """Write it."""
        if run.data.skipped:
            (folder / "skipped.txt").write_text("\n".join(run.data.skipped) + "\n", encoding="utf-8")


class StateDict(ArtifactWriter):
    """``state_dict.pt``: weights and buffers of the last predictor; of networks by task, what all of them use."""

    def write(self, run: Finished, folder: Path) -> None:
        """Write it."""
        with handed_over(run.strategy):
            state = {name: value.cpu().contiguous() for name, value in run.strategy.model.state_dict().items()}
            torch.save(state, folder / "state_dict.pt")


class PruningMasks(ArtifactWriter):
    """``masks.pt``: its masks, if anything was pruned; ``task_masks.pt``: those of each task, by its number."""

    def write(self, run: Finished, folder: Path) -> None:
        """Write it."""
        if run.masks is not None:
            run.masks.save(folder / "masks.pt")
        networks = network_per_task(run.strategy)
        if networks is not None:
            named = {task: {n: m.cpu().contiguous() for n, m in one.items()} for task, one in networks.masks.items()}
            torch.save(named, folder / "task_masks.pt")


class AccuracyMatrix(ArtifactWriter):
    """``accuracy_matrix.json``: of a stream that shifts, right answers on each experience after each, as counts."""

    def write(self, run: Finished, folder: Path) -> None:
        """Write it."""
        metric = next((one for one in run.strategy.evaluator.metrics if isinstance(one, ContinualLearning)), None)
        if metric is not None and metric.matrix.correct:
            text = json.dumps(asdict(metric.matrix)) + "\n"
            (folder / "accuracy_matrix.json").write_text(text, encoding="utf-8")


ALWAYS: tuple[type[ArtifactWriter], ...] = (Configuration, SkippedImages, StateDict, PruningMasks, AccuracyMatrix)
"""Writers of every run."""

OPTIONAL: dict[str, type[ArtifactWriter]] = {"slim": SlimNetwork, "trace": StepTrace}
"""Name -> writer of what has to be asked for."""


def make_writers(names: Sequence[str]) -> list[ArtifactWriter]:
    """Writers for one run: those of every run, then those asked for by name."""
    return [writer() for writer in (*ALWAYS, *(OPTIONAL[name] for name in names))]


def write_artifacts(writers: Sequence[ArtifactWriter], run: Finished, logger: MLflowLogger) -> list[str]:
    """Let all writers write, and record their files; returns their lines for the reader.

    Raises:
        Unwritten: the disk is full, or a folder cannot be written.
    """
    lines = []
    place = logger.artifacts()
    try:
        scratch = Path(tempfile.gettempdir())
        clear_dead_drafts(scratch)
        with draft_folder(scratch) as drafts:
            folder = drafts / "files"
            folder.mkdir()
            for writer in writers:
                try:
                    line = writer.write(run, folder)
                except ValueError as error:
                    say(f"Note: {error}.")
                else:
                    lines += [] if line is None else [line.format(place=place)]
            logger.client.log_artifacts(logger.run_id, str(folder))
    except OSError as error:
        reason = error.strerror or str(error)
        raise Unwritten(
            f"its files could not be written to {place}: {reason}; make room and give the command again"
        ) from error
    return lines
