"""From a configuration to a result: the library entry.

>>> from benchmark.config import resolved
>>> from benchmark.experiment import prepare, run
>>> config = resolved({"stream": "digits", "strategy": "APP", "epochs": 1}, profile="demo")
>>> prepared = prepare(config, data_root="data", cache=".cache")
>>> run(prepared).final("test/accuracy")   # doctest: +SKIP
"""

from __future__ import annotations

import json
import os
import shlex
import shutil
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import torch
from avalanche.core import SupervisedPlugin
from avalanche.training.determinism.rng_manager import RNGManager
from avalanche.training.plugins import EvaluationPlugin
from avalanche.training.templates import SupervisedTemplate
from torch import nn

from benchmark.config import RunConfig, fingerprint
from benchmark.console import say
from benchmark.errors import UsageError
from benchmark.metrics.anytime import AnytimePerformance
from benchmark.metrics.compute import Compute, Resources
from benchmark.metrics.gap import CleanGap, ReferenceGap
from benchmark.metrics.size import ModelSize
from benchmark.models.build import model_factory
from benchmark.recording.slim import SlimFile, write_slim
from benchmark.recording.trace import StepTrace, traced
from benchmark.running.memory import return_freed
from benchmark.streams.build import Stream, build_stream, check_stream, load_data
from benchmark.streams.loading.images import StreamData, StreamRequest
from benchmark.tracking import PREFIX, MLflowLogger, Store, provenance
from strategies.anytime import Learner, Pruning
from strategies.learning.execution import Executed, Execution
from strategies.pruning.distributions import unmatched
from strategies.pruning.masks import EmptyLayerWarning, prunable_weights
from strategies.pruning.plugin import PruningPlugin
from strategies.pruning.structures.filters import UnreachableDensityWarning
from strategies.registry import SCORES, STRATEGIES
from strategies.seeds import derived_seed

EVAL_BATCH = 256
"""Images of an evaluation batch on a CPU, which gains nothing from larger ones."""

GPU_EVAL_PIXELS = 1024 * 32 * 32
"""Pixels of an evaluation batch on a GPU."""


@dataclass(frozen=True)
class Prepared:
    """A run whose images were found and whose stream can be made; ``config.data`` is real or synthetic."""

    config: RunConfig
    data: StreamData
    device: str


@dataclass(frozen=True)
class RunResult:
    """What came out of one run.

    Attributes:
        config: of the run.
        series: metric name -> (steps, values); the step of an anytime series is the megabatch, from 1.
        run_id: of the MLflow run, if it was tracked.
        slim: sizes of the slim network's file, if one was written.
        traced_steps: training steps in the trace's file; 0 if none was written.
        artifacts: address of the run's files, if it was tracked.
    """

    config: RunConfig
    series: dict[str, tuple[list[int], list[float]]]
    run_id: str | None
    slim: SlimFile | None = None
    traced_steps: int = 0
    artifacts: str | None = None

    def final(self, name: str) -> float:
        """Last value of a metric.

        Raises:
            KeyError: the run has no such metric.
        """
        return self.series[name][1][-1]

    def at(self, name: str, megabatch: int) -> float | None:
        """Value of an anytime series after ``megabatch``, from 1; None where it has none."""
        steps, values = self.series.get(name, ([], []))
        return dict(zip(steps, values, strict=True)).get(megabatch)


def prepare(
    config: RunConfig, *, data_root: str | Path, cache: str | Path, loaded: dict[Any, StreamData] | None = None
) -> Prepared:
    """Find and decode the images and make sure that the stream can be made of them; trains nothing.

    ``loaded`` keeps image sets between calls, for grids.

    Raises:
        UsageError: anything about data, stream or device that the user has to mend.
    """
    request = StreamRequest(Path(data_root), Path(cache), config.resolution, config.skip_corrupt)
    loaded = {} if loaded is None else loaded
    key = (config.stream, config.data, request)
    if key not in loaded:
        loaded[key] = load_data(config, request)
    data = loaded[key]
    device = _device(config.device)
    if config.precision == "bf16" and device.startswith("cuda") and not torch.cuda.is_bf16_supported():
        raise UsageError(f"--precision bf16, but {torch.cuda.get_device_name(device)} has no bfloat16: use fp32")
    config = config.model_copy(update={"data": data.source})
    check_stream(config, data)
    _check_parts(config, data)
    return Prepared(config, data, device)


def run(
    prepared: Prepared,
    *,
    store: Store | None = None,
    profile: str = "",
    plugins: Sequence[SupervisedPlugin] = (),
    slim: bool = False,
    trace: bool = False,
) -> RunResult:
    """Train the strategy over the stream, test after each megabatch, and record it all in ``store``.

    Args:
        prepared: what :func:`prepare` returned.
        store: MLflow store; None records nothing.
        profile: name of the profile the configuration started from, recorded as a tag.
        plugins: further Avalanche plugins, such as progress bars.
        slim: also record the network without its removed channels, see :mod:`benchmark.recording.slim`.
        trace: also record a profile of some training steps, see :mod:`benchmark.recording.trace`.
    """
    config = prepared.config
    RNGManager.set_random_seeds(derived_seed(config.seed, "global") % 2**32)
    stream = build_stream(config, prepared.data, prepared.device)
    name = f"{config.stream} {config.strategy} seed {config.seed}"
    tracked = (
        store.run(name, _params(config), _tags(config, stream, profile, prepared.device))
        if store
        else nullcontext(None)
    )
    with _readable_warnings(), tracked as logger:
        evaluator = evaluator_for(config, logger)
        strategy = build_strategy(config, stream, prepared.device, evaluator, plugins)
        experiences = {experience.last_megabatch: experience for experience in stream.scenario.train_stream}
        with traced(strategy, prepared.device) if trace else nullcontext() as recorded:
            for megabatch in range(1, config.megabatches + 1):
                if megabatch in experiences:
                    strategy.train(experiences[megabatch], eval_streams=[])
                    return_freed()
                strategy.eval(stream.scenario.test_stream)
        written = _log_artifacts(logger, config, strategy, stream.data, slim, recorded) if logger else None
    series = {name: (list(steps), list(values)) for name, (steps, values) in evaluator.get_all_metrics().items()}
    if logger is None:
        return RunResult(config, series, None)
    return RunResult(config, series, logger.run_id, written, recorded.steps if recorded else 0, logger.artifacts())


def evaluator_for(config: RunConfig, logger: MLflowLogger | None) -> EvaluationPlugin:
    """All metrics of a run; without a logger nothing is recorded outside of it."""
    size = ModelSize(config.megabatches)
    metrics = [AnytimePerformance(), size, ReferenceGap(), Resources(), CleanGap(), Compute()]
    return EvaluationPlugin(*metrics, loggers=[logger] if logger else [_Silent()])


def build_strategy(
    config: RunConfig,
    stream: Stream,
    device: str,
    evaluator: EvaluationPlugin | None,
    plugins: Sequence[SupervisedPlugin] = (),
) -> SupervisedTemplate:
    """The configured strategy, untrained."""
    learner = Learner(
        make_model=_models(config, stream.data),
        megabatches=len(stream.scenario.train_stream) if config.known_length else None,
        epochs=config.epochs,
        batch_size=config.batch_size,
        eval_batch_size=max(1, GPU_EVAL_PIXELS // config.resolution**2) if device.startswith("cuda") else EVAL_BATCH,
        lr=config.lr,
        momentum=config.momentum,
        weight_decay=config.weight_decay,
        milestones=config.milestones,
        lr_decay=config.lr_decay,
        carry_momentum=config.carry_momentum,
        replay=config.replay,
        buffer_size=config.buffer_size,
        val_fraction=config.val_fraction,
        ties=config.ties,
        seed=config.seed,
        device=device,
        execution=Execution(config.precision, config.compile),
        evaluator=evaluator,
        loader=stream.loader,
        plugins=plugins,
    )
    entry = STRATEGIES.load(config.strategy)
    pruning = Pruning(**{field.name: getattr(config, field.name) for field in fields(Pruning)})
    strategy: SupervisedTemplate = entry.target(learner, pruning, **config.settings)
    if learner.execution != Execution() and not isinstance(strategy, Executed):
        asked = "--compile" if config.compile else f"--precision {config.precision}"
        raise UsageError(f"the strategy {config.strategy} runs its network in its own way: leave out {asked}")
    return strategy


def _models(config: RunConfig, data: StreamData) -> Callable[[int], nn.Module]:
    return model_factory(
        config.model,
        classes=len(data.classes),
        channels=data.train.pixels.shape[1],
        resolution=config.resolution,
        seed=config.seed,
    )


def _check_parts(config: RunConfig, data: StreamData) -> None:
    compiler = shlex.split(os.environ.get("CXX", "clang++" if sys.platform == "darwin" else "g++"))[0]
    if config.compile and not shutil.which(compiler):
        raise UsageError(
            f"--compile needs a C++ compiler, and there is no {compiler}: install it or leave out --compile"
        )
    check = SCORES.load(config.score).traits.get("check")
    if check is not None and "score" in config.options():
        try:
            check(_models(config, data)(0))
        except ValueError as error:
            raise UsageError(f"--score {config.score} with --model {config.model}: {error}") from error
    if config.layer_density:
        layers = prunable_weights(_models(config, data)(0))
        for pattern in unmatched(config.layer_density, layers):
            names = ", ".join(name.removesuffix(".weight") for name in layers)
            raise UsageError(f"--layer-density {pattern}: {config.model} has no such layer; it has {names}")


@contextmanager
def _readable_warnings() -> Iterator[None]:
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


class _Silent:
    """A logger that writes nothing: Avalanche warns where there is none."""

    def log_metrics(self, metric_values: object) -> None:
        pass


def _device(name: str) -> str:
    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if name.startswith("cuda"):
        index = int(name.partition(":")[2] or 0)
        if index >= torch.cuda.device_count():
            raise UsageError(f"--device {name}, but PyTorch sees {torch.cuda.device_count()} CUDA devices: use cpu")
    return name


def _params(config: RunConfig) -> dict[str, Any]:
    return {**config.model_dump(mode="json"), "density": config.density}


def _tags(config: RunConfig, stream: Stream, profile: str, device: str) -> dict[str, str]:
    protocol, variant = config.protocol(), config.variant()
    own = {
        "stream": config.stream,
        "stream_label": stream.data.label,
        "data": stream.data.source,
        "data_version": str(stream.data.version),
        "data_fingerprint": stream.fingerprint,
        "skipped_images": str(len(stream.data.skipped)),
        "train_images": str(len(stream.data.train)),
        "test_images": str(len(stream.data.test)),
        "protocol": json.dumps(protocol, sort_keys=True),
        "protocol_fingerprint": fingerprint(protocol),
        "variant": json.dumps(variant, sort_keys=True),
        "variant_fingerprint": fingerprint(variant),
        "variant_defaults": json.dumps(config.usual(), sort_keys=True),
        "seed": str(config.seed),
        "profile": profile,
        "compiled": "yes" if config.compile else "no",
    }
    return {PREFIX + key: value for key, value in own.items()} | provenance(device)


def _log_artifacts(
    logger: MLflowLogger,
    config: RunConfig,
    strategy: SupervisedTemplate,
    data: StreamData,
    slim: bool,
    trace: StepTrace | None,
) -> SlimFile | None:
    """Configuration, last predictor's weights, its masks, its slim form, the trace, and the images left out."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        (root / "config.json").write_text(config.model_dump_json(indent=2) + "\n", encoding="utf-8")
        if data.skipped:
            (root / "skipped.txt").write_text("\n".join(data.skipped) + "\n", encoding="utf-8")
        state = {name: value.cpu().contiguous() for name, value in strategy.model.state_dict().items()}
        torch.save(state, root / "state_dict.pt")
        for plugin in strategy.plugins:
            if isinstance(plugin, PruningPlugin) and plugin.masks is not None:
                plugin.masks.save(root / "masks.pt")
        sizes = None
        if slim:
            try:
                sizes = write_slim(strategy, data, config.resolution, root)
            except ValueError as error:
                say(f"Note: no slim network was written: {error}.")
        if trace is not None:
            try:
                trace.write(root)
            except ValueError as error:
                say(f"Note: no trace was written: {error}.")
        logger.client.log_artifacts(logger.run_id, folder)
    return sizes
