"""What becomes of a run that was begun before."""

from __future__ import annotations

import itertools

import pytest

from benchmark.errors import UsageError
from benchmark.recording.ledger import Earlier
from benchmark.running.course import Policy, choose_course

CODE = {"code": "c1", "version.torch": "2", "version.torchvision": "0", "version.avalanche-lib": "0.6"}
CODE |= {"version.numpy": "2"}
OTHER = {**CODE, "code": "c2"}


def earlier(state, run_id="r", tags=CODE, started=0):
    return Earlier(run_id, state, state == "under way", started, {**tags, "name": "a run", "failure": "diverged"})


def course(runs, policy=None, checkpoints=(), now=CODE):
    return choose_course(runs, now, policy or Policy(), lambda run_id: run_id in checkpoints)


def test_what_was_never_begun_is_trained():
    assert course([]).action == "train" and not course([]).why


def test_what_is_done_is_left_unless_all_is_to_be_trained_anew():
    for runs in itertools.permutations([earlier("finished", "f"), earlier("failed"), earlier("interrupted")]):
        assert (course(runs).action, course(runs).run_id) == ("leave", "f")
        assert course(runs, Policy(rerun="always")).action == "train"


def test_what_was_done_with_other_code_is_trained_again_and_said():
    again = course([earlier("finished", tags=OTHER)])
    assert again.action == "train" and "c2" in again.why and "--code any" in again.why
    assert course([earlier("finished", tags=OTHER)], Policy(code="any")).action == "leave"
    assert course([earlier("finished", tags={})]).action == "train", "records that do not say it"


def test_a_failed_run_is_trained_again_unless_never():
    assert course([earlier("failed")]).action == "train"
    left = course([earlier("failed")], Policy(rerun="never"))
    assert left.action == "leave" and left.failed and "diverged" in left.why


def test_what_another_process_does_is_left():
    assert course([earlier("under way"), earlier("interrupted")]).action == "leave"


def test_an_interrupted_run_goes_on_and_of_several_the_one_with_a_checkpoint():
    runs = [earlier("interrupted", "new", started=2), earlier("interrupted", "old", started=1)]
    assert (course(runs).action, course(runs).run_id) == ("go on", "new")
    assert course(runs, checkpoints={"old"}).run_id == "old"


def test_it_does_not_go_on_with_other_code_unless_told():
    runs = [earlier("interrupted", "r", tags={**OTHER, "version.torch": "1"})]
    with pytest.raises(UsageError, match=r"c2 -> c1; torch 1 -> 2.*--resume-anyway.*--rerun always"):
        course(runs, checkpoints={"r"})
    assert course(runs, Policy(anyway=True), checkpoints={"r"}).action == "go on"
    # Nothing is lost where there is no checkpoint.
    assert course(runs).action == "train"


@pytest.mark.parametrize("seconds", [float("nan"), float("inf"), -1.0])
def test_what_is_no_time_is_refused(seconds):
    with pytest.raises(UsageError, match="--checkpoint-every"):
        Policy(checkpoint_every=seconds)
