"""The command that a page gives for a run makes that run: the same identity, by the command's own parser."""

from __future__ import annotations

import shlex
from itertools import product
from pathlib import Path

import click
import pytest

from benchmark.command.options import collect_given
from benchmark.config.profiles import PROFILES, resolve
from benchmark.run import main
from leaderboards.render.rerun import OPTIONS, rerun_command
from leaderboards.sources.collect import collect
from strategies.registry import OPTIONS as DECLARED
from strategies.registry import STRATEGIES

PUBLISHED = Path(__file__).parents[2] / "leaderboards" / "published" / "records"


def identity(line, seed):
    """Protocol, variant and seed of the run that a line of a shell starts."""
    words = shlex.split(line)
    while "=" in words[0]:
        words.pop(0)
    assert words[:3] == ["python", "-m", "benchmark.run"]
    options = main.make_context("run", [*words[3:], "--seed", str(seed)], resilient_parsing=False).params
    names = {parameter.name for parameter in main.params if getattr(parameter, "heading", "Run") != "Run"}
    given = collect_given({name: value for name, value in options.items() if name in names})
    return resolve(given, profile=options["profile"] or "demo").identity()


def test_published_runs_are_made_again_by_their_commands():
    runs = collect(f"records:{PUBLISHED}").runs.to_dict("records")
    assert len(runs) >= 35
    for run in runs:
        again = identity(rerun_command(run["protocol"], run["variant"], run), run["seed"])
        assert again.protocol | {"protocol_version": run["protocol"]["protocol_version"]} == run["protocol"]
        assert (again.variant, again.seed) == (run["variant"], run["seed"])


CASES = [
    {"strategy": "APP", "shots": "all", "milestones": [0.2, 0.5], "nested": False},
    {"strategy": "APP", "megabatches": "unknown", "lr": 1e-05, "stratified": True, "carry_momentum": True},
    {"strategy": "OSP", "scope": "custom", "layer_density": {"conv*": 0.5, "a b;c": 2.0}},
    {"strategy": "GMP", "replay": "buffer", "buffer_size": 77, "optimizer": "adamw", "lr_schedule": "cosine"},
    {"strategy": "OSP", "structure": "2:4", "precision": "bf16", "wait": 3},
    {"strategy": "dense", "ties": "loss"},
    {"strategy": "APP", "stream": "split_digits", "replay": "buffer", "buffer_size": 70, "shots": None},
    {"strategy": "dense", "stream": "split_digits", "scenario": "alma", "augment": True, "shots": None},
    {"strategy": "Naive", "stream": "rotated_digits", "scenario": "blurry", "blur": 20, "shots": None},
]


@pytest.mark.parametrize(
    ("given", "profile"),
    [*product(CASES, sorted(PROFILES)), *(({"strategy": name}, "demo") for name in STRATEGIES.names())],
)
def test_any_run_is_made_again_by_its_command(given, profile):
    special = STRATEGIES.load(given["strategy"]).test_config
    config = resolve({"stream": "digits", "data": "real", "seed": 3, **special, **given}, profile=profile)
    own = config.identity()
    line = rerun_command(own.protocol, own.variant, {"profile": profile, "threads": "1", "compiled": "no"})
    assert line.startswith("OMP_NUM_THREADS=1 python -m benchmark.run --profile ") and identity(line, 3) == own


def test_the_options_of_a_variant_are_those_that_strategies_declare():
    assert {*DECLARED, "strategy", "tau", "replay"} == OPTIONS


def test_what_records_say_is_one_word_and_no_command():
    odd = "$(reboot); `id` && 'x' \n| rm -rf \x1b[2J"
    line = rerun_command(
        {"stream": odd, odd: odd}, {"strategy": odd, odd: [odd, None]}, {"threads": odd, "profile": odd}
    )
    words = shlex.split(line)
    assert "\n" not in line and "\x1b" not in line and words[:4] == ["python", "-m", "benchmark.run", "--profile"]
    assert len(words) == 13 and [word for word in words if "reboot" in word] == [
        words[place] for place in (4, 6, 7, 8, 10, 12)
    ]


def test_an_option_of_the_command_that_left_images_out_or_compiled():
    said = {"compiled": "yes", "skipped_images": "2", "max_pixels": "100"}
    line = rerun_command({"stream": "s"}, {"strategy": "t"}, said)
    assert line == "python -m benchmark.run --stream s --strategy t --compile --skip-corrupt --max-pixels 100"


def test_the_parser_of_these_tests_refuses_what_the_command_does():
    with pytest.raises(click.UsageError):
        identity("python -m benchmark.run --stream digits --strategy APP --no-such 1", 0)
