"""A command that is killed at any moment, or told to end, and given again, ends as if nothing had happened.

In the long form (``tox -e soak``) ANYTIME_BENCH_KILLS is their number.
"""

from __future__ import annotations

import random
import signal

import pytest
from aftermath import Aftermath, differences
from soak import SECONDS, is_long, kills

pytestmark = pytest.mark.slow

KILLS = kills(2)

TOLD = max(1, kills(1) // 2)

AT_MOST = 10
"""Seconds in which a command ends that is told to."""

UNHEARING = 2.0
"""Seconds of a new interpreter in which signals may do what they do to any program of Python."""

TOGETHER = 3
"""Kills of one strategy on one stream, one after the other."""

STRATEGIES = {
    "APP": (),
    "dense": (),
    "RigL": ("--set", "every=5"),
    "APP-buffer": ("--replay", "buffer", "--buffer-size", "60"),
    "DER": ("--buffer-size", "60"),
    "EMA": (),
    "distillation": (),
    "growing-ensemble": (),
    "EWC": (),
    "APP-reference": (),
}
"""Strategy -> options that make it remember something; what stands behind a hyphen may be the replay's name."""

STREAMS = {
    "digits": ("--stream", "digits", "--megabatches", "3", "--epochs", "3", "--checkpoint-every", "0"),
    # With images that are made and cached first.
    "synthetic": (
        *("--stream", "synthetic", "--megabatches", "3", "--epochs", "2", "--model", "cnn", "--resolution", "12"),
        *("--shots", "24", "--test-shots", "8", "--batch-size", "16", "--checkpoint-every", "0"),
    ),
}

MOMENTS = [
    *(("benchmark.running.checkpoint:os.fsync", call, "before") for call in (1, 2, 7)),
    *(("benchmark.running.checkpoint:_read", call, "after") for call in (1, 5)),
    *(("benchmark.running.checkpoint:_sync_folder", call, "before") for call in (1, 4)),
    *(("mlflow:MlflowClient.log_batch", call, when) for call in (1, 2, 4, 6) for when in ("before", "after")),
    *(("mlflow:MlflowClient.create_run", 1, when) for when in ("before", "after")),
    *(("mlflow:MlflowClient.set_terminated", 1, when) for when in ("before", "after")),
    *(("mlflow:MlflowClient.log_artifacts", 1, when) for when in ("before", "after")),
    *(("benchmark.running.checkpoint:CheckpointFile.remove", 1, when) for when in ("before", "after")),
    *(("avalanche.training.templates:SupervisedTemplate.eval_epoch", call, "after") for call in (1, 3)),
    ("strategies.pruning.plugin:PruningPlugin.batches_of", 2, "after"),
    *(("benchmark.command.session:publish", 1, when) for when in ("before", "after")),
]
"""Calls that a command is killed at."""


def arguments_of(strategy: str, stream: str) -> tuple[str, ...]:
    name = "APP" if strategy == "APP-buffer" else strategy
    return (*STREAMS[stream], "--strategy", name, *STRATEGIES[strategy])


@pytest.fixture(scope="module")
def undisturbed(killing, tmp_path_factory):
    """Function: (strategy, stream) -> results, duration and board of the command that nobody kills."""
    known = {}

    def of(strategy, stream):
        if (strategy, stream) not in known:
            folder = tmp_path_factory.mktemp("undisturbed")
            ended = killing(arguments_of(strategy, stream), folder)
            assert ended["code"] == 0, (folder / "said.txt").read_text()
            after = Aftermath(folder)
            known[strategy, stream] = after.results(), ended["seconds"], after.board()
        return known[strategy, stream]

    return of


@pytest.mark.parametrize("number", range(KILLS))
def test_a_killed_command_goes_on_to_the_same_end(killing, undisturbed, tmp_path, number):
    draw = random.Random(number)
    pair = number // TOGETHER
    strategy, stream = list(STRATEGIES)[pair % len(STRATEGIES)], list(STREAMS)[pair % len(STREAMS)]
    expected, seconds, _ = undisturbed(strategy, stream)
    if number % 2:
        at, call, when = MOMENTS[number // 2 % len(MOMENTS)]
        kill = {"at": at, "call": call, "when": when}
    else:
        kill = {"after": draw.uniform(0, seconds)}
    arguments = arguments_of(strategy, stream)
    first = killing(arguments, tmp_path, kill)["code"]
    assert first in (-9, 0), f"{kill}: {(tmp_path / 'said.txt').read_text()}"
    for _ in range(draw.choice((0, 0, 1))):
        killing(arguments, tmp_path, {"after": draw.uniform(0, seconds)})
    assert_undisturbed_end(killing, arguments, tmp_path, expected, kill)


def assert_undisturbed_end(killing, arguments, folder, expected, kill):
    """The command, given once more, leaves what it would have left if nothing had happened."""
    last = killing(arguments, folder)["code"]
    said = (folder / "said.txt").read_text()
    assert last == 0, f"{kill}: {said}"
    after = Aftermath(folder)
    results = after.results()
    assert results.keys() == expected.keys()
    for identity, result in results.items():
        assert differences(result, expected[identity]) == [], f"{kill}: {said}"
    assert {run.info.status for run in after.runs()} == {"FINISHED"}, said
    assert after.scratch() == []
    pages = folder / "results" / "leaderboards"
    assert (pages / "README.md").is_file() and not list(pages.glob(".*"))


@pytest.mark.parametrize("number", range(TOLD))
def test_a_command_that_is_told_to_end_does_so_soon_and_goes_on_to_the_same_end(
    killing, undisturbed, tmp_path, record_property, number
):
    draw = random.Random(1000 + number)
    pair = number // TOGETHER
    strategy, stream = list(STRATEGIES)[pair % len(STRATEGIES)], list(STREAMS)[pair % len(STREAMS)]
    expected, seconds, _ = undisturbed(strategy, stream)
    told = signal.SIGTERM if number % 2 else signal.SIGINT
    if number % 4 == 3:
        # The imports, too, which what is forked has behind it.
        kill = {"after": draw.uniform(0, seconds + 8), "fresh": True}
    elif number % 4:
        at, call, when = MOMENTS[draw.randrange(len(MOMENTS))]
        kill = {"at": at, "call": call, "when": when}
    else:
        kill = {"after": draw.uniform(0, seconds)}
    kill["number"] = told
    arguments = arguments_of(strategy, stream)
    ended = killing(arguments, tmp_path, kill)
    said = (tmp_path / "said.txt").read_text()
    if not (kill.get("fresh") and kill["after"] < UNHEARING):
        assert ended["code"] in (128 + told, 0) and "Traceback" not in said, f"{kill}: {said}"
    if (tmp_path / "results" / "mlflow.db").exists():
        assert {run.info.status for run in Aftermath(tmp_path).runs()} <= {"KILLED", "FINISHED"}, f"{kill}: {said}"
    if ended["code"]:
        record_property(SECONDS, ended["left"])
        assert not is_long() or ended["left"] <= AT_MOST, kill
    assert_undisturbed_end(killing, arguments, tmp_path, expected, kill)


SURROUNDINGS = {
    "as they were": [{}, {}],
    "the clock set back": [
        {"clock": 5 * 3600, "environment": {"TZ": "Asia/Kolkata", "LC_ALL": "tr_TR.UTF-8"}},
        {"clock": -5 * 3600, "environment": {"TZ": "America/St_Johns", "LC_ALL": "C"}},
    ],
    "the clock set forward": [
        {"clock": -30 * 86400, "environment": {"TZ": "Pacific/Kiritimati", "LC_ALL": "C"}},
        {"clock": 30 * 86400, "environment": {"TZ": "Etc/GMT+12", "LC_ALL": "de_DE.UTF-8"}},
    ],
}
"""What surrounds the two commands."""


@pytest.mark.parametrize("around", list(SURROUNDINGS)[: None if is_long() else 2])
def test_one_that_is_told_to_end_is_saved_where_it_was_and_goes_on_from_there(killing, undisturbed, tmp_path, around):
    expected, _, board = undisturbed("APP", "digits")
    before, afterwards = SURROUNDINGS[around]
    # Saved by nothing but the signal: of the other reasons one comes later and the other asks for more time.
    arguments = [*arguments_of("APP", "digits"), "--checkpoint-every", "60"]
    del arguments[arguments.index("0") - 1 : arguments.index("0") + 1]
    at = {"at": "avalanche.training.templates:SupervisedTemplate.backward", "call": 5, "when": "before"}
    told = killing(arguments, tmp_path, {**at, "number": 15}, **before)
    after = Aftermath(tmp_path)
    [run] = after.runs()
    assert (told["code"], run.info.status, run.data.tags["anytime_bench.failure"]) == (143, "KILLED", "interrupted")
    assert (tmp_path / "results" / "checkpoints" / run.info.run_id / "checkpoint").is_file()
    assert killing(arguments, tmp_path, **afterwards)["code"] == 0
    after = Aftermath(tmp_path)
    assert "goes on where it was interrupted" in after.said
    [result], [original] = after.results().values(), expected.values()
    assert differences(result, original) == [] and after.scratch() == []
    assert after.board() == board
