"""One run, from a configuration to a result: the library entry (docs/library.md)."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from typing import Any

import torch
from avalanche.core import SupervisedPlugin
from avalanche.training.determinism.rng_manager import RNGManager

from benchmark.console import say
from benchmark.recording.artifacts import Finished, make_writers, write_artifacts
from benchmark.recording.record import describe_run
from benchmark.recording.store import Store
from benchmark.running.build import build_strategy, make_evaluator
from benchmark.running.keeper import Keeping, make_keeper
from benchmark.running.prepare import Prepared
from benchmark.running.result import RunResult
from benchmark.running.train import train
from benchmark.streams.build import build_stream
from leaderboards.record import PREFIX
from strategies.pruning.masks import EmptyLayerWarning
from strategies.pruning.structures.filters import UnreachableDensityWarning
from strategies.seeds import derived_seed


def run(
    prepared: Prepared,
    *,
    store: Store | None = None,
    profile: str = "",
    plugins: Sequence[SupervisedPlugin] = (),
    artifacts: Sequence[str] = (),
    keeping: Keeping | None = None,
    resume: str | None = None,
    tell: Callable[[], Mapping[str, str]] = dict,
) -> RunResult:
    """Train the strategy over the stream, test after each megabatch, and record it all in ``store``.

    Args:
        prepared: what :func:`benchmark.running.prepare.prepare` returned.
        store: MLflow store; None records nothing.
        profile: name of the profile the configuration started from, recorded as a tag.
        plugins: further Avalanche plugins, such as progress bars.
        artifacts: names of further files to record, see :data:`benchmark.recording.artifacts.OPTIONAL`.
        keeping: how the run is saved while it trains; None: not at all. ``plugins`` are never saved.
        resume: id of the MLflow run, with the same identity, to go on with, from its checkpoint if it has one.
        tell: gives tags, without prefix, that say how far the run is; it is asked every minute.

    Raises:
        UsageError: the strategy cannot be run as it was asked for, or the checkpoint must not be used.
        Interrupted: the process was told to end, and the run has been saved.
        Diverged: loss or weights stopped being finite.
    """
    config = prepared.config
    RNGManager.set_random_seeds(derived_seed(config.seed, "global") % 2**32)
    stream = build_stream(config, prepared.data, prepared.device)
    writers = make_writers(artifacts)
    record = describe_run(config, stream, profile, prepared.device)
    tracked = store.run(record, resume=resume, tell=tell) if store else nullcontext(None)
    files: list[str] = []
    with readable_warnings(), tracked as logger, ExitStack() as leaving:
        # A run that goes on does so with as many threads as it was begun with; those after it have their own.
        leaving.callback(torch.set_num_threads, torch.get_num_threads())
        evaluator = make_evaluator(logger)
        strategy = build_strategy(config, stream, prepared.device, evaluator, plugins)
        keeper = None
        if keeping is not None and logger is not None:
            others = [*evaluator.loggers, stream.loader, *plugins]
            about = {**record.own_tags(), "device": prepared.device}
            keeper = make_keeper(keeping, logger.run_id, about, strategy, stream.scenario, others, logger)
        if keeper is not None:
            strategy = keeper.restore(strategy)
        if resume is not None and logger is not None:
            logger.go_on({**record.tags, PREFIX + "threads": str(torch.get_num_threads())})
        with ExitStack() as watched:
            own = list(strategy.plugins)
            for writer in writers:
                watched.enter_context(writer.watching(strategy, prepared.device))
            done, after_megabatch = 0, None
            if keeper is not None:
                keeper.surroundings.leave_out(p for p in strategy.plugins if not any(p is one for one in own))
                watched.enter_context(keeper.watching(strategy))
                done, after_megabatch = keeper.done, keeper.after_megabatch
            train(strategy, stream.scenario, config.megabatches, done=done, after_megabatch=after_megabatch)
        if logger is not None:
            files = write_artifacts(writers, Finished(config, strategy, stream.data), logger)
    if keeper is not None:
        keeper.file.remove()
    measured = strategy.evaluator.get_all_metrics()
    series = {name: (list(steps), list(values)) for name, (steps, values) in measured.items()}
    if logger is None:
        return RunResult(config, series)
    return RunResult(config, series, logger.run_id, tuple(files), logger.undelivered)


@contextmanager
def readable_warnings() -> Iterator[None]:
    """Warnings about pruning as plain notes; none about what Avalanche deprecates, which no user of ours can mend."""
    with warnings.catch_warnings():
        show = warnings.showwarning

        def shown(message: Warning | str, category: type[Warning], *place: Any, **more: Any) -> None:
            if issubclass(category, EmptyLayerWarning | UnreachableDensityWarning):
                say(f"Note: {message}.")
            elif not issubclass(category, DeprecationWarning):
                show(message, category, *place, **more)

        warnings.showwarning = shown
        yield
