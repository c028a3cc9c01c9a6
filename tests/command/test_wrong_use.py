"""Wrong use of the command is one line: of options that have one value and are given twice, and of all others."""

from __future__ import annotations

import click
import pytest

from benchmark.errors import LONGEST_LINE
from benchmark.run import main

RUN = ("--stream", "digits", "--strategy", "APP")

ONCE = [one for one in main.params if not one.multiple]


def line(*arguments: str) -> str:
    """What the command says of arguments that it refuses."""
    with pytest.raises(click.UsageError) as caught:
        main.make_context("benchmark.run", list(arguments))
    assert caught.value.ctx is None
    return caught.value.format_message()


@pytest.mark.parametrize("option", ONCE, ids=lambda option: option.opts[0])
def test_one_that_has_one_value_is_refused_when_given_twice(option):
    flag = option.opts[0]
    words = getattr(option.type, "choices", ["1"])
    given = [flag] if option.is_flag else [flag, words[0]]
    assert f"{flag} is given more than once" in line(*RUN, *given, *given)


def test_all_that_make_no_grid_have_one_value():
    flags = {one.opts[0] for one in ONCE}
    assert {"--data", "--device", "--milestones", "--profile", "--config", "--output", "--jobs", "--nested"} <= flags
    assert not flags & {"--seed", "--strategy", "--val-fraction", "--set", "--layer-density"}


def test_yes_and_no_contradict_each_other():
    assert "--nested is given more than once" in line(*RUN, "--nested", "--no-nested")


def test_others_are_a_grid():
    context = main.make_context("benchmark.run", [*RUN, "--seed", "0", "--seed=1", "--val-fraction", "0.1", "--jobs=2"])
    assert (context.params["seed"], context.params["jobs"]) == ((0, 1), 2)


@pytest.mark.parametrize(
    "given", [("--epochs", "9" * 5000), ("--" + "x" * 5000,), ("a\n" * 5000,), ("--jobs", "\u202e" * 999), ("--lr", "")]
)
def test_wrong_use_is_one_line_that_can_be_read(given):
    said = line(*RUN, *given)
    assert len(said) <= LONGEST_LINE and said.isprintable()
    assert all(len(word) < 90 for word in said.split())


MANY = [part for seed in range(200) for part in ("--seed", str(seed), "--epochs", str(seed + 1))]

REFUSED = {
    "repeated": ([*RUN, "--data", "real", "--data", "synthetic"], "--data is given more than once"),
    "aliases": (["--config", "bomb.yaml"], "an alias (*name) stands for another value"),
    "too many runs": ([*RUN, *MANY], "make 40,000 runs"),
    "a long value": ([*RUN, "--model", "m" * 10_000], "unknown model 'mmm"),
    "no number": ([*RUN, "--lr", "nan"], "--lr: Input should be a finite number, not nan"),
    "an endless file": ([*RUN, "--config", "/dev/zero"], "cannot read /dev/zero"),
}


@pytest.mark.slow
@pytest.mark.parametrize("case", REFUSED)
def test_the_command_says_one_line_and_writes_nothing(called, tmp_path, case):
    arguments, message = REFUSED[case]
    bomb = tmp_path / "bomb.yaml"
    bomb.write_text("a: &a [x, x]\nb: &b [*a, *a]\nstream: [*b, *b]\n")
    code, out, err = called(*arguments)
    assert (code, out) == (2, "") and message in err
    assert err.startswith("Error: ") and err.count("\n") == 1 and len(err) <= LONGEST_LINE + len("Error: \n")
    assert list(tmp_path.iterdir()) == [bomb]
