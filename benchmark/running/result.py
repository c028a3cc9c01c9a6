"""What came out of one run."""

from __future__ import annotations

from dataclasses import dataclass

from benchmark.config.run_config import RunConfig


@dataclass(frozen=True)
class RunResult:
    """What came out of one run.

    Attributes:
        config: of the run, as it was prepared.
        series: metric name -> (steps, values); the step of an anytime series is the megabatch, from 1.
        run_id: of the MLflow run, if it was tracked.
        files: a line for each file that was asked for beside the usual ones.
        undelivered: a line about what the tracking server has not got of the run; empty where it has all.
    """

    config: RunConfig
    series: dict[str, tuple[list[int], list[float]]]
    run_id: str | None = None
    files: tuple[str, ...] = ()
    undelivered: str = ""

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
