"""What becomes of a run that was asked for: trained, gone on with, or left alone because it is done."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from benchmark.errors import UsageError
from benchmark.recording.code import code_differences
from benchmark.recording.ledger import Earlier, State
from benchmark.running.keeper import EVERY

Rerun = Literal["never", "failed", "always"]
Code = Literal["same", "any"]


@dataclass(frozen=True)
class Policy:
    """What is done about runs that were begun before.

    Attributes:
        rerun: which of the runs that have ended are trained anew: none, the failed ones, or all.
        code: whether a finished run counts as done whatever code and libraries it was trained with.
        anyway: whether an interrupted run goes on with other code or libraries.
        checkpoint_every: seconds after which a training is saved in the middle of a megabatch.

    Raises:
        UsageError: these are no seconds.
    """

    rerun: Rerun = "failed"
    code: Code = "same"
    anyway: bool = False
    checkpoint_every: float = EVERY

    def __post_init__(self) -> None:
        if not 0 <= self.checkpoint_every < math.inf:
            raise UsageError("--checkpoint-every takes minutes: a number from 0 on, and an end to it")


@dataclass(frozen=True)
class Course:
    """What becomes of a run.

    Attributes:
        action: what is done.
        why: a line about it, for the user; may be empty.
        run_id: of the run that is gone on with, or left.
        failed: whether what is left has failed.
        state: of the earlier run that decided this; empty where there was none.
    """

    action: Literal["train", "go on", "leave"]
    why: str = ""
    run_id: str | None = None
    failed: bool = False
    state: State | Literal[""] = ""


def choose_course(
    earlier: Sequence[Earlier], now: Mapping[str, str], policy: Policy, has_checkpoint: Callable[[str], bool]
) -> Course:
    """What becomes of a run, given the earlier ones of its identity, newest first.

    Args:
        earlier: see :meth:`benchmark.recording.ledger.Ledger.of`.
        now: tags of code and libraries, without prefix, as they would be recorded now.
        policy: what is to be done.
        has_checkpoint: whether the run of an id has a checkpoint.

    Raises:
        UsageError: an interrupted run could only go on with other code.
    """
    if policy.rerun == "always":
        return Course("train", state=earlier[0].state if earlier else "")
    of_state: dict[str, list[Earlier]] = {}
    for run in earlier:
        of_state.setdefault(run.state, []).append(run)
    other_code = ""
    for run in of_state.get("finished", ()):
        differences = code_differences(run.tags, now)
        if not differences or policy.code == "any":
            return Course("leave", "is done already (--rerun always trains it again)", run.run_id, state="finished")
        other_code = other_code or f"was done with other code: {'; '.join(differences)} (--code any takes it as done)"
    for run in of_state.get("under way", ()):
        return Course("leave", "is under way in another process", run.run_id, state="under way")
    interrupted = sorted(of_state.get("interrupted", ()), key=lambda run: not has_checkpoint(run.run_id))
    for run in interrupted[:1]:
        differences = code_differences(run.tags, now)
        if not differences or (policy.anyway and has_checkpoint(run.run_id)):
            return Course("go on", "goes on where it was interrupted", run.run_id, state="interrupted")
        if has_checkpoint(run.run_id):
            name = run.tags.get("name", run.run_id)
            raise UsageError(
                f"the run {name} was interrupted with other code ({'; '.join(differences)}): "
                "go back to that code, go on with --resume-anyway, or start anew with --rerun always"
            )
    for run in of_state.get("failed", ()):
        if policy.rerun == "never":
            reason = run.tags.get("failure", "no reason recorded")
            return Course("leave", f"has failed: {reason}", run.run_id, failed=True, state="failed")
    return Course("train", other_code, state=earlier[0].state if earlier else "")
