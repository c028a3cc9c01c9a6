"""The seam between what is run and where: a job, a place, an outcome, and the one function that carries a job out."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import torch

from benchmark.config.run_config import ALMA, RunConfig
from benchmark.console import say
from benchmark.errors import UsageError
from benchmark.recording.code import code_fingerprint
from benchmark.recording.heartbeat import WORKER
from benchmark.recording.ledger import Ledger
from benchmark.recording.provenance import library_versions
from benchmark.recording.spool import wait_until_served
from benchmark.recording.store import Store
from benchmark.running.checkpoint import CheckpointFile
from benchmark.running.claim import claim
from benchmark.running.course import Course, Policy, choose_course
from benchmark.running.interruption import Interruption
from benchmark.running.keeper import Keeping
from benchmark.running.prepare import Prepared, prepare
from benchmark.running.progress import RunProgress
from benchmark.running.result import RunResult
from benchmark.running.run import run
from benchmark.streams.loading.images import StreamData
from leaderboards.record import PREFIX
from strategies.learning.divergence import Diverged


@dataclass(frozen=True)
class Job:
    """One run of a command; can be sent to another process.

    Attributes:
        number: among the command's runs, from 1.
        config: of the run, as it was prepared.
        profile: name of the profile that completed the configuration.
        artifacts: names of the files to record beside the usual ones.
    """

    number: int
    config: RunConfig
    profile: str
    artifacts: tuple[str, ...] = ()

    @property
    def title(self) -> str:
        """One line that names the run."""
        config = self.config
        kind = "" if config.scenario == ALMA else f", {config.scenario}"
        return (
            f"{config.strategy} on {config.stream} ({config.data} images){kind}, {config.megabatches} megabatches, "
            f"{config.model}, seed {config.seed}"
        )


@dataclass(frozen=True)
class Place:
    """Where runs find their images, and the store and experiment that they are recorded in.

    Attributes:
        data_root, cache: folders of images, and of decoded ones.
        output: folder of the store and the boards.
        tracking_uri, experiment: the MLflow store and experiment, which exist already.
        parent: id of the MLflow run that all runs of the command belong to.
        worker: what the engine calls the process or task that carries runs out here; an attempt that follows a lost
            one bears the same name, and goes on with what that left.
        policy: what is done about runs that were begun before.
    """

    data_root: Path
    cache: Path
    output: Path
    tracking_uri: str
    experiment: str
    parent: str | None = None
    worker: str | None = None
    policy: Policy = field(default_factory=Policy)

    @property
    def checkpoints(self) -> Path:
        """Folder of what runs are gone on with."""
        return self.output / "checkpoints"


@dataclass(frozen=True)
class Failure:
    """Why a run came to nothing, in one line, and whether its process is to run nothing else."""

    reason: str
    unfit: bool = False


@dataclass(frozen=True)
class Left:
    """A run that was left alone: why, which one of the store it is, and whether that one has failed."""

    reason: str
    run_id: str | None = None
    failed: bool = False


Outcome = RunResult | Failure | Left


class Engine(Protocol):
    """What carries jobs out: yields each with what has become of it, in the order in which they end.

    It has to be closed if it is left early; what it began then ends. A job that fails, or whose process is lost, fails
    alone.
    """

    def __call__(
        self, jobs: Sequence[Job], place: Place, store: Store, loaded: dict[Any, StreamData]
    ) -> Generator[tuple[Job, Outcome], None, None]:
        """Carry out ``jobs``; ``loaded`` are image sets that this process has read."""


def course_of(prepared: Prepared, ledger: Ledger, place: Place) -> Course:
    """What becomes of a run, as far as the store knows.

    Raises:
        UsageError: it was interrupted, and could only go on with other code.
    """
    now = {"code": code_fingerprint(prepared.config), **library_versions()}
    identity = prepared.config.identity(prepared.data.fingerprint).key
    return choose_course(
        ledger.of(identity), now, place.policy, lambda run_id: CheckpointFile(place.checkpoints / run_id).exists()
    )


def carry_out(
    job: Job,
    place: Place,
    loaded: dict[Any, StreamData] | None = None,
    interruption: Interruption | None = None,
) -> Outcome:
    """Prepare, train, test and record one run, in this process; any engine can call it.

    A run that is done is left alone, also one that another process has done or begun meanwhile, and one that was
    interrupted goes on.

    Args:
        job: which run.
        place: where its images and its store are.
        loaded: image sets that this process has read, kept for its next jobs.
        interruption: whether this process was told to end.

    Returns:
        The result, or why there is none. Only an interruption (KeyboardInterrupt, SystemExit) is raised.
    """
    progress = RunProgress(job.config)
    keeping = Keeping(
        place.checkpoints, place.policy.checkpoint_every, interruption or Interruption(), place.policy.anyway
    )
    try:
        prepared = prepare(job.config, data_root=place.data_root, cache=place.cache, loaded=loaded)
        tags = {} if place.worker is None else {PREFIX + WORKER: place.worker}
        wait_until_served(place.tracking_uri)
        store = Store(place.tracking_uri, place.output, place.experiment, parent=place.parent, tags=tags)
        identity = prepared.config.identity(prepared.data.fingerprint).key
        with claim(place.checkpoints, identity) as is_ours:
            if not is_ours:
                return Left("is under way in another process")
            ledger = Ledger(store.client, store.experiment_id, identity, own=place.worker)
            course = course_of(prepared, ledger, place)
            if course.action == "leave":
                return Left(course.why, course.run_id, course.failed)
            return run(
                prepared,
                store=store,
                profile=job.profile,
                plugins=[progress],
                artifacts=job.artifacts,
                keeping=keeping,
                resume=course.run_id,
                tell=progress.tell,
            )
    except (Diverged, UsageError) as error:
        return Failure(str(error))
    except Exception as error:
        # After some errors of CUDA a process fails whatever it runs.
        unfit = torch.cuda.is_initialized()
        if _is_lack_of_memory(error):
            return Failure(
                "out of memory: lower --batch-size, --resolution or --jobs, or take a smaller --model", unfit
            )
        return Failure(f"{type(error).__name__}: {error} (its artifact failure.txt says where)", unfit)
    finally:
        progress.close()


def _is_lack_of_memory(error: Exception) -> bool:
    """Whether the memory of the host or of a device was too small; PyTorch has no class of its own for the former."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and "DefaultCPUAllocator" in str(error)


def announce(job: Job, jobs: int) -> None:
    """Say that a job of so many begins."""
    epochs = "1 epoch" if job.config.epochs == 1 else f"{job.config.epochs} epochs"
    say(f"Run {job.number} of {jobs}: {job.title} (profile {job.profile}, {epochs})")
