"""One run, from a configuration to a result: the library entry (docs/library.md)."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from typing import Any

from avalanche.core import SupervisedPlugin
from avalanche.training.determinism.rng_manager import RNGManager

from benchmark.console import say
from benchmark.recording.artifacts import Finished, make_writers, write_artifacts
from benchmark.recording.record import describe_run
from benchmark.recording.store import Store
from benchmark.running.build import build_strategy, make_evaluator
from benchmark.running.prepare import Prepared
from benchmark.running.result import RunResult
from benchmark.running.train import train
from benchmark.streams.build import build_stream
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
) -> RunResult:
    """Train the strategy over the stream, test after each megabatch, and record it all in ``store``.

    Args:
        prepared: what :func:`benchmark.running.prepare.prepare` returned.
        store: MLflow store; None records nothing.
        profile: name of the profile the configuration started from, recorded as a tag.
        plugins: further Avalanche plugins, such as progress bars.
        artifacts: names of further files to record, see :data:`benchmark.recording.artifacts.OPTIONAL`.

    Raises:
        UsageError: the strategy cannot be run as it was asked for.
        Diverged: loss or weights stopped being finite.
    """
    config = prepared.config
    RNGManager.set_random_seeds(derived_seed(config.seed, "global") % 2**32)
    stream = build_stream(config, prepared.data, prepared.device)
    writers = make_writers(artifacts)
    tracked = store.run(describe_run(config, stream, profile, prepared.device)) if store else nullcontext(None)
    files: list[str] = []
    with readable_warnings(), tracked as logger:
        evaluator = make_evaluator(logger)
        strategy = build_strategy(config, stream, prepared.device, evaluator, plugins)
        with ExitStack() as watched:
            for writer in writers:
                watched.enter_context(writer.watching(strategy, prepared.device))
            train(strategy, stream.scenario, config.megabatches)
        if logger is not None:
            files = write_artifacts(writers, Finished(config, strategy, stream.data), logger)
    series = {name: (list(steps), list(values)) for name, (steps, values) in evaluator.get_all_metrics().items()}
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
