"""What ``--profile-trace`` writes: some training steps as a trace that a browser's trace viewer opens."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from avalanche.core import SupervisedPlugin
from avalanche.training.templates import SupervisedTemplate
from torch.profiler import ProfilerActivity, profile, record_function, schedule

from benchmark.recording.writer import ArtifactWriter, Finished

TRACE = "trace.json.gz"

WARM_UP_STEPS = 5
RECORDED_STEPS = 20

PLUGINS = "plugins and metrics"

BEFORE_PLUGINS = {
    "before_train_dataset_adaptation": "start of megabatch",
    "before_training_epoch": PLUGINS,
    "before_training_iteration": PLUGINS,
    "before_forward": PLUGINS,
    "after_forward": PLUGINS,
    "before_backward": PLUGINS,
    "after_backward": PLUGINS,
    "before_update": PLUGINS,
    "after_update": PLUGINS,
    "after_training_iteration": PLUGINS,
    "after_training_epoch": "selection",
    "after_training_exp": "end of megabatch",
    "before_eval": "test",
}
"""Hook of Avalanche's loop -> the phase that begins before any plugin has seen it."""

AFTER_PLUGINS = {
    "before_training_epoch": "batch",
    "before_training_iteration": "zero gradients",
    "before_forward": "forward",
    "after_forward": "loss",
    "before_backward": "backward",
    "before_update": "optimiser step",
    "after_training_iteration": "batch",
}
"""Hook -> the phase that begins once all plugins are done with it."""


class _Phases(SupervisedPlugin):
    """Calls ``begin`` at each hook in ``phases``, with the phase and what the hook is called with."""

    def __init__(self, phases: Mapping[str, str], begin: Callable[..., None]):
        super().__init__()
        for hook, phase in phases.items():
            setattr(self, hook, partial(begin, phase))


class StepRecorder(SupervisedPlugin):
    """Profiles the first training steps of a strategy, and whatever lies between them, with its phases by name.

    Recording begins after some steps of warm-up, at most half of the first megabatch's, and ends after
    ``RECORDED_STEPS`` steps or when it is stopped. Has no influence on results.

    Attributes:
        steps: training steps that were recorded.
    """

    def __init__(self, device: str):
        super().__init__()
        self.steps = 0
        self._activities = [ProfilerActivity.CPU]
        if device.startswith("cuda"):
            self._activities.append(ProfilerActivity.CUDA)
        else:
            # The profiler's library would report on standard error that it finds no GPU.
            os.environ.setdefault("KINETO_LOG_LEVEL", "99")
        self._profile: profile | None = None
        self._running = False
        self._phase: record_function | None = None
        self._warm_up = 0

    def before_training_exp(self, strategy: SupervisedTemplate, *args: object, **kwargs: object) -> None:
        """At the first megabatch, start the profiler's own warm-up."""
        if self._profile is not None:
            return
        self._warm_up = min(WARM_UP_STEPS, len(strategy.dataloader) * strategy.train_epochs // 2)
        # The profiler's first step is what precedes the first training step: it always has one to warm up.
        planned = schedule(wait=0, warmup=1 + self._warm_up, active=RECORDED_STEPS, repeat=1)
        self._profile = profile(activities=self._activities, schedule=planned)
        self._profile.start()
        self._running = True

    def before_training_iteration(self, strategy: SupervisedTemplate, *args: object, **kwargs: object) -> None:
        """Move the profiler on by a step."""
        if self._profile is None or not self._running:
            return
        self._end_phase()
        self._profile.step()
        self.steps = max(0, min(self._profile.step_num - self._warm_up, RECORDED_STEPS))
        self._running = self._profile.step_num <= self._warm_up + RECORDED_STEPS

    def begin(self, phase: str, *args: object, **kwargs: object) -> None:
        """End the phase under way; ``phase`` begins. Whatever else a hook hands over does not matter."""
        self._end_phase()
        if self._running:
            self._phase = record_function(phase)
            self._phase.__enter__()

    def stop(self) -> None:
        """End the recording; harmless where there is none."""
        self._end_phase()
        if self._profile is not None and self._running:
            self._running = False
            self._profile.stop()

    def export(self, path: Path) -> None:
        """Write gzipped JSON of the Trace Event Format.

        Raises:
            ValueError: no training step was recorded.
        """
        if self._profile is None or not self.steps:
            raise ValueError("no trace was written: the run trained no step")
        self._profile.export_chrome_trace(str(path))

    def _end_phase(self) -> None:
        if self._phase is not None:
            self._phase.__exit__(None, None, None)
            self._phase = None


class StepTrace(ArtifactWriter):
    """``trace.json.gz``: some training steps, for a browser's trace viewer."""

    @contextmanager
    def watching(self, strategy: SupervisedTemplate, device: str) -> Iterator[StepRecorder]:
        """Record what ``strategy`` trains in this context, which also ends the recording, whatever happens."""
        self._recorder = recorder = StepRecorder(device)
        # What the other plugins do at a hook lies between the first of our plugins and the last. The clock stays last
        # of all, as Avalanche wants it.
        strategy.plugins[:0] = [recorder, _Phases(BEFORE_PLUGINS, recorder.begin)]
        strategy.plugins.insert(-1, _Phases(AFTER_PLUGINS, recorder.begin))
        try:
            yield recorder
        finally:
            recorder.stop()

    def write(self, run: Finished, folder: Path) -> str:
        """Write it.

        Raises:
            ValueError: no training step was recorded.
        """
        self._recorder.export(folder / TRACE)
        opened = "ui.perfetto.dev and chrome://tracing open it"
        return f"Trace:         {{place}}/{TRACE} ({self._recorder.steps} training steps; {opened})"
