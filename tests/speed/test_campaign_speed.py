"""What a campaign costs beside its runs: two workers beside one, a thousand small cells, and a second start."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from statistics import median

import psutil
import pytest
import yaml
from mlflow import MlflowClient

pytest.importorskip("ray", reason="Ray is an extra package")

pytestmark = pytest.mark.speed

CELLS = int(os.environ.get("ANYTIME_BENCH_CELLS", "1000"))
"""Of the large campaign."""

CAMPAIGNS = {
    "16 runs on digits": {"stream": "digits", "strategy": ["dense", "APP"], "seed": list(range(8))},
    "6 runs of the main job, shortened": {
        "stream": "restricted_imagenet_fewshot",
        "profile": "demo",
        "strategy": ["dense", "APP"],
        "seed": [0, 1, 2],
        "epochs": 1,
        "shots": 200,
    },
}

TRIVIAL = {"stream": "digits", "model": "mlp", "megabatches": 2, "epochs": 1, "shots": 20, "test_shots": 10}


def sweep(folder: Path, name: str, options: dict, *arguments: str, **watch) -> float:
    """Seconds that the command takes for a campaign; ``watch`` is passed on to :class:`Watch`."""
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "campaign.yaml"
    file.write_text(yaml.safe_dump({"name": name, **options}))
    environment = os.environ | {"OMP_NUM_THREADS": "1", "ANYTIME_BENCH_CACHE": str(folder.parent / "cache")}
    command = [sys.executable, "-m", "benchmark.sweep", str(file), "--output", str(folder / "results"), *arguments]
    start = time.perf_counter()
    with subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, env=environment
    ) as run:
        watching = Watch(run.pid, folder / "results", **watch) if watch else None
        _, said = run.communicate()
    assert run.returncode == 0, said
    if watching is not None:
        watching.join()
    return time.perf_counter() - start


def runs_of(folder: Path) -> list:
    """Finished runs of a campaign."""
    client = MlflowClient(f"sqlite:///{folder / 'results' / 'mlflow.db'}")
    found, token = [], None
    while True:
        page = client.search_runs(["1"], "attributes.status = 'FINISHED'", max_results=1000, page_token=token)
        found += [run for run in page if run.data.params]
        token = page.token
        if not token:
            return found


def seconds_of(folder: Path) -> float:
    """From the start of a campaign's first run to the end of its last one."""
    infos = [run.info for run in runs_of(folder)]
    return (max(one.end_time for one in infos) - min(one.start_time for one in infos)) / 1000


class Watch(threading.Thread):
    """Memory of a command and of each of its workers, in turns; ``seen`` holds (finished cells, head, workers)."""

    def __init__(self, pid: int, results: Path, seen: list):
        super().__init__(daemon=True)
        self.process, self.results, self.seen = psutil.Process(pid), results, seen
        self.start()

    def run(self) -> None:
        while self.process.is_running() and self.process.status() != psutil.STATUS_ZOMBIE:
            try:
                head, *others = [(one, one.memory_info().rss) for one in [self.process, *self.process.children(True)]]
                workers = sorted((rss for one, rss in others if "work" in one.name()), reverse=True)[:2]
                finished = len(list((self.results / "artifacts").glob("*")))
                self.seen.append((finished, head[1], sum(workers)))
            except psutil.Error:
                pass
            time.sleep(1)


@pytest.mark.parametrize("name", CAMPAIGNS)
@pytest.mark.parametrize("engine", ["ray", "processes"])
def test_two_workers_beside_one(name, engine, tmp_path, report):
    options = CAMPAIGNS[name]
    warm = {**options, "strategy": "dense", "seed": 0}
    sweep(tmp_path / "warm", "warm", warm, "--engine", "processes", "--jobs", "1")
    whole, inner = {}, {}
    for jobs in (1, 2):
        folder = tmp_path / f"{engine}-{jobs}"
        # A single process needs no pool: what is compared is one worker beside two.
        whole[jobs] = sweep(folder, "speed", options, "--engine", engine, "--jobs", str(jobs))
        inner[jobs] = seconds_of(folder)
    note = f"whole commands {whole[1] / whole[2]:.2f} ({whole[1]:.0f} s, {whole[2]:.0f} s)"
    report(f"{name}, one worker / two ({engine})", inner[1] / inner[2], ">= 1.85", note=note)


def test_many_small_cells(tmp_path, report):
    """Overhead of a cell, memory of head and workers, and what a second start costs."""
    options = {**TRIVIAL, "strategy": "dense", "seed": list(range(CELLS))}
    folder, seen = tmp_path / "many", []
    whole = sweep(folder, "many", options, seen=seen)
    runs = runs_of(folder)
    assert len(runs) == CELLS
    ended = sorted(run.info.end_time for run in runs)
    rate = 2 * (ended[-1] - ended[CELLS // 10]) / 1000 / (CELLS - CELLS // 10)
    own = median(run.data.metrics["time/train_seconds"] for run in runs)
    note = f"{CELLS} cells, two workers, whole command {whole:.0f} s"
    report("a small cell beyond its own training, warm worker", rate - own, "<= 0.5", unit=" s", note=note)
    # While boards are made there are no workers any more.
    early = [(head, workers) for finished, head, workers in seen if 0.08 < finished / CELLS < 0.12 and workers]
    late = [(head, workers) for finished, head, workers in seen if finished / CELLS > 0.9 and workers]
    for place, what in enumerate(("head", "workers")):
        growth = median(one[place] for one in late) / median(one[place] for one in early)
        report(f"memory of the {what}, {CELLS} cells / {CELLS // 10}", growth, "<= 1.05")
    again = sweep(folder, "many", options)
    report(f"a second start, {CELLS} cells finished", again, "<= 10", unit=" s")
