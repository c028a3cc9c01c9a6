"""One call of the command: plan the runs, check them all, run them one after the other, refresh the boards."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import click
import yaml

from benchmark.config import PRUNING, RunConfig, load_file
from benchmark.errors import UsageError
from benchmark.experiment import Prepared, prepare, run
from benchmark.grid import expanded
from benchmark.progress import say
from benchmark.run_progress import RunProgress
from benchmark.slim import PROGRAM, check_slim
from benchmark.streams.build import source_of
from benchmark.streams.images import StreamData
from benchmark.summary import summary
from benchmark.tracking import Store
from leaderboards.boards import write_boards
from leaderboards.errors import BoardError
from strategies.registry import STRATEGIES

Planned = tuple[str, RunConfig]


class Session:
    """Folders and store that the runs of one command share."""

    def __init__(self, data_root: Path, cache: Path, output: Path, tracking_uri: str | None, experiment: str):
        self.data_root = data_root
        self.cache = cache
        self.output = output
        self.tracking_uri = tracking_uri
        self.experiment = experiment
        self.notes: list[str] = []

    def plan(self, given: Mapping[str, Any], config_file: Path | None, profile: str | None) -> list[Planned]:
        """All runs that were asked for; flags win over the file.

        Raises:
            UsageError: an option is missing, unknown or out of range.
        """
        from_file = {name.replace("-", "_"): v for name, v in (load_file(config_file) if config_file else {}).items()}
        for one, other in (("tau", "density"), ("density", "tau")):
            if one in given:
                from_file.pop(other, None)
        profile = profile or from_file.pop("profile", None)
        from_file.pop("profile", None)
        options = {**from_file, **given}
        for needed in ("stream", "strategy"):
            if needed not in options:
                raise UsageError(f"--{needed} is missing: --list shows what there is")
        runs = expanded(options, profile=profile, data_root=self.data_root)
        self.notes = unused_options({config.strategy: config for _, config in runs}.values(), given)
        return runs

    def describe(self, runs: Sequence[Planned]) -> str:
        """What would run, as configuration files that ``--config`` takes."""
        parts = []
        for number, (profile, config) in enumerate(runs, start=1):
            source = source_of(config.stream, config.data, self.data_root)
            lines = [f"# run {number} of {len(runs)}: profile {profile}, {source} images, density {config.density:.4f}"]
            lines.append(yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False).rstrip())
            parts.append("\n".join(lines))
        return "\n---\n".join(parts)

    def execute(self, runs: Sequence[Planned], *, slim: bool = False) -> int:
        """Check all runs, then run them; returns how many failed.

        ``slim`` records each network without its removed channels, too.

        Raises:
            UsageError: a run cannot start; none has been started then.
        """
        if slim:
            check_slim([config for _, config in runs])
        prepared = self._prepare(runs)
        store = Store(self.tracking_uri, self.output, self.experiment)
        failed = 0
        for number, (one, (profile, _)) in enumerate(zip(prepared, runs, strict=True), start=1):
            say(f"Run {number} of {len(runs)}: {title(one.config)} (profile {profile}, {one.config.epochs} epochs)")
            progress = RunProgress(one.config)
            try:
                result = run(one, store=store, profile=profile, plugins=[progress], slim=slim)
            except Exception as error:
                failed += 1
                say(f"Run {number} failed, the next ones go on: {type(error).__name__}: {error} (see its failure.txt)")
                continue
            finally:
                progress.close()
            click.echo(f"\n{title(result.config)}\n\n{summary(result)}\n")
            if result.slim is not None:
                sizes = f"{result.slim.bytes:,} bytes, {result.slim.whole_bytes:,} with the removed channels"
                click.echo(f"Slim network:  {result.artifacts}/{PROGRAM} ({sizes})\n")
        self._report(store, len(runs) - failed)
        return failed

    def _prepare(self, runs: Sequence[Planned]) -> list[Prepared]:
        for config in {(config.stream, config.data): config for _, config in runs}.values():
            if source_of(config.stream, config.data, self.data_root) == "synthetic":
                why = "" if config.data == "synthetic" or config.stream == "synthetic" else self._why(config.stream)
                say(f"STAND-IN IMAGES: {config.stream} runs on procedurally made images, not on real ones{why}.")
        for note in self.notes:
            say(note)
        loaded: dict[Any, StreamData] = {}
        return [prepare(config, data_root=self.data_root, cache=self.cache, loaded=loaded) for _, config in runs]

    def _why(self, stream: str) -> str:
        return f" (no images of it in {self.data_root}/, and no public download; --data real explains)"

    def _report(self, store: Store, finished: int) -> None:
        if not finished:
            return
        folder = self.output / "leaderboards"
        try:
            index = write_boards([store.uri], folder, experiment=self.experiment)
        except BoardError as error:
            raise UsageError(
                f"the runs are tracked in {store.uri}, but their boards were not written: {error}"
            ) from error
        click.echo(f"MLflow store:  {store.uri}")
        click.echo(f"Leaderboards:  {index}")


def unused_options(configs: Iterable[RunConfig], given: Mapping[str, Any]) -> list[str]:
    """A line for each option that was given and that a strategy does not read: it would change nothing there."""
    notes = []
    for config in configs:
        used = {*config.options(), *({"density"} if "tau" in config.options() else ())}
        if STRATEGIES.load(config.strategy).traits.get("memory") != "own":
            used |= {"replay", *({"buffer_size"} if config.replay == "buffer" else ())}
        optional = (*PRUNING, "density", "replay", "buffer_size")
        unused = [f"--{name.replace('_', '-')}" for name in optional if name in given and name not in used]
        if unused:
            notes.append(f"Note: {config.strategy} does not use {', '.join(unused)}.")
    return notes


def title(config: RunConfig) -> str:
    """One line that names a run."""
    return (
        f"{config.strategy} on {config.stream} ({config.data} images), {config.megabatches} megabatches, "
        f"{config.model}, seed {config.seed}"
    )
