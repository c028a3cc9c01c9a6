"""``--jobs``: several runs at once give what they give one after the other, and end as those do."""

from __future__ import annotations

import os
import re
import signal
import time

import pytest
from commands import environment_of, fresh
from mlflow import MlflowClient

from leaderboards.record import PREFIX

pytestmark = pytest.mark.slow

SMALL = ("--stream", "digits", "--megabatches", "2", "--epochs", "1", "--model", "cnn")

EXTRAS = ("--structure", "filters", "--score", "l2", "--density", "0.3", "--slim", "--profile-trace")

MEASURED = ("time/", "memory/")
"""Metrics that no two runs share."""

ILL = """
import os, signal
from strategies.registry import STRATEGIES

@STRATEGIES.register("lost", options=())
def lost(learner, pruning):
    \"\"\"Takes its process along, as a lack of memory does.\"\"\"
    os.kill(os.getpid(), signal.SIGKILL)

@STRATEGIES.register("broken", options=())
def broken(learner, pruning):
    \"\"\"Hears a Ctrl-C before the command does, and raises.\"\"\"
    os.kill(os.getpid(), signal.SIGINT)
    print("half a thought")
    raise RuntimeError("out of ideas")
"""


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """A folder with the package of ill strategies installed."""
    folder = tmp_path_factory.mktemp("site")
    (folder / "ill-1.0.dist-info").mkdir()
    (folder / "ill.py").write_text(ILL)
    (folder / "ill-1.0.dist-info" / "METADATA").write_text("Name: ill\nVersion: 1.0\nSummary: Strategies that fail\n")
    (folder / "ill-1.0.dist-info" / "entry_points.txt").write_text(
        "[anytime_bench.strategies]\nlost = ill:lost\nbroken = ill:broken\n"
    )
    return str(folder)


@pytest.fixture(scope="module")
def launched(start_command):
    """Function: start the command in ``folder``, as the leader of a process group.

    The process that others are forked from is forked itself, unless it is to be a ``new_forkserver``.
    """
    processes = []

    def launch(folder, *arguments, new_forkserver=False):
        process = start_command(folder, *arguments, forkserver=not new_forkserver)
        processes.append(process)
        return process

    yield launch
    for process in processes:
        if not gone(process.pid, seconds=0):
            os.killpg(process.pid, signal.SIGKILL)


def gone(group, seconds=90):
    """Whether no process of ``group`` is left, at the latest after some seconds."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return True
        if time.monotonic() > deadline:
            return False
        time.sleep(0.1)


class Recorded:
    """What a finished command printed and recorded."""

    def __init__(self, folder, ended):
        self.folder = folder
        self.stdout, self.stderr, self.code = ended.stdout, ended.stderr, ended.returncode
        self.client = MlflowClient(f"sqlite:///{folder / 'results' / 'mlflow.db'}")
        found = self.client.search_runs([e.experiment_id for e in self.client.search_experiments()])
        self.runs = {
            (run.data.params["strategy"], int(run.data.params["epochs"])): run for run in found if run.data.params
        }
        [self.group] = [run for run in found if not run.data.params]

    def metrics(self, run):
        return {
            name: [(point.step, point.value) for point in self.client.get_metric_history(run.info.run_id, name)]
            for name in run.data.metrics
            if not name.startswith(MEASURED)
        }

    def summaries(self):
        """Name -> summary, without what no two runs share, such as the address of their files."""
        shown = re.sub(r"\S+/artifacts/\w+|Time \(s\) \S+", "", self.stdout.partition("\n\n")[0])
        before, *rest = re.split(r"^Run \d+, (.*?): ", shown, flags=re.M)
        assert not before.strip()
        return dict(zip(rest[::2], map(str.strip, rest[1::2]), strict=True))


@pytest.fixture(scope="module")
def in_turn(launched, tmp_path_factory):
    folder = tmp_path_factory.mktemp("in_turn")
    return Recorded(folder, launched(folder, *SMALL, *EXTRAS, "--strategy", "APP", "--strategy", "dense").end())


@pytest.fixture(scope="module")
def at_once(cache, site, tmp_path_factory):
    """The same two runs, with two that fail between them, in new interpreters, as a user's are."""
    folder = tmp_path_factory.mktemp("at_once")
    strategies = [part for name in ("APP", "lost", "broken", "dense") for part in ("--strategy", name)]
    environment = {**environment_of(cache, site), "OMP_NUM_THREADS": "2"}
    arguments = (*SMALL, *EXTRAS, *strategies, "--jobs", "2")
    return Recorded(folder, fresh("benchmark.run", *arguments, folder=folder, environment=environment))


def test_the_threads_are_shared(in_turn, at_once):
    for finished in (in_turn, at_once):
        assert {run.data.tags[PREFIX + "threads"] for run in finished.runs.values()} == {"1"}


def test_runs_at_once_give_the_same_bits_as_in_turn(in_turn, at_once):
    import torch

    assert in_turn.code == 0 and "Traceback" not in in_turn.stderr, in_turn.stderr
    assert in_turn.group.info.status == "FINISHED"
    for name, run in in_turn.runs.items():
        same = at_once.runs[name]
        assert in_turn.metrics(run) == at_once.metrics(same) and "test/accuracy" in run.data.metrics
        state, same_state = (
            torch.load(f"{one.info.artifact_uri.removeprefix('file://')}/state_dict.pt", weights_only=True)
            for one in (run, same)
        )
        assert state.keys() == same_state.keys()
        assert all(torch.equal(value, same_state[key]) for key, value in state.items())


def test_what_is_shown_is_the_same_at_once_as_in_turn(in_turn, at_once):
    shown = in_turn.summaries()
    assert len(shown) == 2 and at_once.summaries() == shown
    assert sum("Slim network:" in text for text in shown.values()) == 1
    assert all("Trace:" in text for text in shown.values())
    for number in (1, 4):
        assert f"run {number}: megabatch 2 of 2 trained in" in at_once.stderr
    boards = [folder / "results" / "leaderboards" / "README.md" for folder in (in_turn.folder, at_once.folder)]
    assert all(board.is_file() for board in boards)


def test_a_lost_process_and_a_failure_are_those_of_their_runs_alone(at_once):
    assert at_once.code == 1 and "Traceback" not in at_once.stderr, at_once.stderr
    failures = re.findall(r"^Run (\d) failed(?:, the others go on)?: (.*)$", at_once.stderr, flags=re.M)
    assert sorted(number for number, _ in failures) == ["2", "3"]
    assert dict(failures)["2"].startswith("its process was killed")
    assert dict(failures)["3"].startswith("RuntimeError: out of ideas")
    assert "run 3: half a thought" in at_once.stderr and "half a thought" not in at_once.stdout
    ends = {name: (r.info.status, r.data.tags.get(PREFIX + "failure")) for (name, _), r in at_once.runs.items()}
    assert at_once.group.info.status == "FAILED"
    status, reason = ends.pop("lost")
    assert status == "FAILED" and "killed" in reason
    assert ends == {
        "broken": ("FAILED", "RuntimeError: out of ideas"), "APP": ("FINISHED", None), "dense": ("FINISHED", None)
    }  # fmt: skip


def what_is_left(process, folder):
    """What a command has recorded once no process of its group is left."""
    process.end()
    assert gone(process.pid)
    # The others may have gone on when the command itself had ended.
    return Recorded(folder, process.end())


@pytest.mark.parametrize("way", ["ctrl-c", "SIGKILL"])
def test_no_process_outlives_an_interrupted_command_and_runs_under_way_are_killed(launched, tmp_path, way):
    epochs = ("--epochs", "1", "--epochs", "5000", "--epochs", "5001")
    process = launched(tmp_path, *SMALL[:4], "--model", "cnn", "--strategy", "dense", *epochs, "--jobs", "2")
    process.wait_for("run 2: about", "run 3: about")
    if way == "ctrl-c":
        for _ in range(2):  # A terminal interrupts all processes of the group, and a user may be impatient.
            os.killpg(process.pid, signal.SIGINT)
    else:
        os.kill(process.pid, signal.SIGKILL)
    ended = what_is_left(process, tmp_path)
    assert "Traceback" not in ended.stderr
    if way == "ctrl-c":
        assert ended.code == 130 and ended.stderr.splitlines()[-1].startswith("Interrupted")
    statuses = {epochs: run.info.status for (_, epochs), run in ended.runs.items()}
    assert statuses == {1: "FINISHED", 5000: "KILLED", 5001: "KILLED"} and ended.group.info.status == "KILLED"


@pytest.mark.parametrize("early", [True, False])
def test_sigterm_while_processes_start_leaves_none_behind(launched, tmp_path, early):
    """Early: while the one that others are forked from imports libraries, which a forked one need not do."""
    seeds = ("--seed", "0", "--seed", "1")
    process = launched(tmp_path, *SMALL, "--strategy", "dense", *seeds, "--jobs", "2", new_forkserver=early)
    process.wait_for("2 runs at once" if early else "Run 2 of 2")
    os.kill(process.pid, signal.SIGTERM)
    ended = what_is_left(process, tmp_path)
    assert ended.code == 143 and "Traceback" not in ended.stderr, ended.stderr
    assert ended.group.info.status == "KILLED"
    # A forked process may have begun its run by the time that the signal comes.
    assert {run.info.status for run in ended.runs.values()} <= (set() if early else {"KILLED"})


@pytest.mark.parametrize("jobs", ["0", "two"])
def test_a_wrong_number_of_jobs_is_one_line(command, tmp_path, jobs):
    done = command(*SMALL, "--strategy", "dense", "--jobs", jobs)
    assert done.returncode == 2 and "'--jobs'" in done.stderr and len(done.stderr.splitlines()) == 1
    assert not list(tmp_path.iterdir())
