"""One call of the command: plan the runs, check them all, carry them out, refresh the boards."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import click
import yaml

from benchmark.command.options import merged
from benchmark.command.summary import summary
from benchmark.config import PRUNING, RunConfig, load_file
from benchmark.config.grid import expanded
from benchmark.console import say
from benchmark.errors import UsageError
from benchmark.experiment import Prepared, RunResult, prepare
from benchmark.jobs import Failure, Job, Place, at_once, in_turn
from benchmark.recording.slim import PROGRAM, can_be_slimmed, check_slim
from benchmark.recording.trace import TRACE
from benchmark.streams.build import source_of
from benchmark.streams.loading.images import StreamData
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

    def plan(
        self, given: Mapping[str, Any], config_file: Path | None, profile: str | None, *, slim: bool = False
    ) -> list[Planned]:
        """All runs that were asked for; flags win over the file. With ``slim`` one of them has to lose channels.

        Raises:
            UsageError: an option is missing, unknown or out of range.
        """
        runs: dict[str, Planned] = {}
        documents = [merged(document, dict(given)) for document in (load_file(config_file) if config_file else [{}])]
        asked = [document.get("strategy", []) for document in documents]
        strategies = [str(name) for names in asked for name in (names if isinstance(names, list) else [names])]
        for options in documents:
            own_profile = options.pop("profile", None)
            for needed in ("stream", "strategy"):
                if needed not in options:
                    raise UsageError(f"--{needed} is missing: --list shows what there is")
            for name, config in expanded(
                options, profile=profile or own_profile, data_root=self.data_root, beside=strategies
            ):
                runs.setdefault(name + config.model_dump_json(), (name, config))
        self.notes = unused_options({config.strategy: config for _, config in runs.values()}.values(), given)
        if slim:
            self.notes += check_slim([config for _, config in runs.values()])
        return list(runs.values())

    def describe(self, runs: Sequence[Planned]) -> str:
        """What would run, as a configuration file that ``--config`` takes."""
        parts = [f"# {note}" for note in self.notes]
        for number, (profile, config) in enumerate(runs, start=1):
            source = source_of(config.stream, config.data, self.data_root)
            density = f", density {config.density:.4f}" if "tau" in config.options() else ""
            parts.append(f"# run {number} of {len(runs)}: {source} images{density}")
            fields = {"profile": profile, **config.model_dump(mode="json")}
            parts.append(yaml.safe_dump(fields, sort_keys=False).rstrip())
            parts.append("---")
        return "\n".join(parts[:-1])

    def execute(
        self, runs: Sequence[Planned], *, jobs: int = 1, slim: bool = False, profile_trace: bool = False
    ) -> int:
        """Check all runs, then carry them out, ``jobs`` at a time; returns how many failed.

        ``slim`` records the networks that lose whole channels without them, too; ``profile_trace`` a profile of some
        training steps of each run.

        Raises:
            UsageError: a run cannot start; none has been started then.
        """
        prepared = self._prepare(runs)
        store = Store(self.tracking_uri, self.output, self.experiment)
        planned = [
            Job(number, one.config, profile, slim and can_be_slimmed(one.config), profile_trace)
            for number, (one, (profile, _)) in enumerate(zip(prepared, runs, strict=True), start=1)
        ]
        place = Place(self.data_root, self.cache, self.output, store.uri, self.experiment)
        processes = min(jobs, len(planned))
        work = in_turn(planned, prepared, store) if processes == 1 else at_once(planned, processes, place, store)
        failed = 0
        with closing(work) as outcomes:
            for ended, (job, outcome) in enumerate(outcomes, start=1):
                if isinstance(outcome, Failure):
                    failed += 1
                    rest = ", the others go on" if ended < len(planned) else ""
                    say(f"Run {job.number} failed{rest}: {outcome.reason}")
                    continue
                for part in (f"\n{job.title}\n\n{summary(outcome)}", *_files(outcome)):
                    click.echo(f"{part}\n")
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


def _files(result: RunResult) -> Iterator[str]:
    """A line for each file that was asked for beside the usual ones."""
    if result.slim is not None:
        sizes = f"{result.slim.bytes:,} bytes, {result.slim.whole_bytes:,} with the removed channels"
        yield f"Slim network:  {result.artifacts}/{PROGRAM} ({sizes})"
    if result.traced_steps:
        steps = f"{result.traced_steps} training steps; ui.perfetto.dev and chrome://tracing open it"
        yield f"Trace:         {result.artifacts}/{TRACE} ({steps})"
