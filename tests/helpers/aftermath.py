"""What commands have left behind in a folder: runs, results and scratch."""

from __future__ import annotations

from pathlib import Path

import torch
from mlflow import MlflowClient

UNSTABLE = ("time/", "memory/")
"""Series that no two runs have in common."""


class Aftermath:
    """What the commands in a folder have left behind."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.client = MlflowClient(f"sqlite:///{folder / 'results' / 'mlflow.db'}")

    @property
    def said(self) -> str:
        """What they have said, where that was written down there."""
        return (self.folder / "said.txt").read_text()

    def runs(self):
        """Benchmark runs of the store."""
        experiments = [one.experiment_id for one in self.client.search_experiments()]
        return [run for run in self.client.search_runs(experiments) if "anytime_bench.identity" in run.data.tags]

    def results(self):
        """Identity -> (history of each series, weights, masks) of each finished run."""
        found = {}
        for run in self.runs():
            if run.info.status != "FINISHED":
                continue
            identity = run.data.tags["anytime_bench.identity"]
            assert identity not in found, "the same run twice"
            history = {
                name: [(m.step, m.value) for m in self.client.get_metric_history(run.info.run_id, name)]
                for name in run.data.metrics
            }
            # How often there was a point counts for all series, what it says only where it can be repeated.
            history = {
                name: [step for step, _ in points] if name.startswith(UNSTABLE) else points
                for name, points in history.items()
            }
            place = Path(run.info.artifact_uri.removeprefix("file://"))
            files = {path.name: torch.load(path) for path in sorted(place.glob("*.pt"))}
            found[identity] = history, files
        return found

    def board(self) -> str:
        """What the one board shows before anything is unfolded: times and ids come after that."""
        [page] = [one for one in (self.folder / "results" / "leaderboards").glob("*.md") if one.name != "README.md"]
        return page.read_text(encoding="utf-8").partition("<details>")[0]

    def scratch(self):
        """Files that only a run under way may have."""
        results, cache, scratch = (self.folder / name for name in ("results", "cache", "tmp"))
        named = {"leaderboards", "artifacts", "mlflow.db", ".mlflow.db.lock"}
        odd = [path for path in results.iterdir() if path.name not in named and path.name != "checkpoints"]
        odd += list((results / "checkpoints").glob("*"))
        kept = {*cache.glob("*.json"), *cache.glob("*.npy"), *list(cache.glob("empty-store-*.db"))[:1]}
        odd += [path for path in cache.glob("*") if path not in kept]
        # PyTorch has a folder there for whatever a user of it compiles.
        return odd + [path for path in scratch.glob("*") if not path.name.startswith("torchinductor_")]


def differences(first, second) -> list[str]:
    """Names of the series and files in which two results differ, by a bit or more."""
    (history, files), (other_history, other_files) = first, second
    odd = [name for name in history.keys() | other_history.keys() if history.get(name) != other_history.get(name)]
    for name in files.keys() | other_files.keys():
        one, other = files.get(name, {}), other_files.get(name, {})
        if one.keys() != other.keys() or not all(torch.equal(value, other[key]) for key, value in one.items()):
            odd.append(name)
    return sorted(odd)
