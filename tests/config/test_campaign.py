"""From the file of a campaign to its runs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from benchmark.command.session import Session
from benchmark.config.campaign import leaves_out, read_campaign
from benchmark.config.files import load_file
from benchmark.config.profiles import resolve
from benchmark.errors import UsageError

BASE = {"name": "trial", "stream": "digits", "strategy": ["dense", "APP"], "seed": [0, 1], "density": [0.5, 0.1]}


@pytest.fixture
def runs_of(tmp_path):
    """Function: what a file holds, options of the command line -> (strategy, density, seed) of each run."""

    def plan(content, **given):
        file = tmp_path / "campaign.yaml"
        file.write_text(yaml.safe_dump(content))
        campaign = read_campaign(load_file(file), given, None)
        planned = Session(tmp_path, tmp_path, tmp_path, None, "tests").plan_campaign(campaign, given, None)
        return [run.config for run in planned]

    return plan


def told(configs):
    return [(one.strategy, one.density if "density" in one.options() else None, one.seed) for one in configs]


def test_a_campaign_is_all_combinations_and_no_run_twice(runs_of):
    """The dense baseline has no density."""
    assert set(told(runs_of(BASE))) == {
        *(("dense", None, seed) for seed in (0, 1)),
        *(("APP", density, seed) for density in (0.5, 0.1) for seed in (0, 1)),
    }
    assert len(runs_of(BASE)) == 6


def test_blocks_add_runs_with_their_options_in_place_of_those_above(runs_of):
    more = runs_of({**BASE, "include": [{"strategy": "OSP", "density": 0.02}, {"seed": 7, "strategy": "dense"}]})
    assert sorted(map(str, set(told(more)) - set(told(runs_of(BASE))))) == sorted(
        map(str, [("OSP", 0.02, 0), ("OSP", 0.02, 1), ("dense", None, 7)])
    )
    alone = {"name": "blocks", "stream": "digits", "include": [{"strategy": "OSP"}, {"strategy": "dense", "seed": 3}]}
    assert [(one.strategy, one.seed) for one in runs_of(alone)] == [("OSP", 0), ("dense", 3)]


def test_a_block_replaces_what_says_the_same_in_other_words(runs_of):
    [run] = runs_of({"name": "tau", "stream": "digits", "tau": 3, "include": [{"strategy": "APP", "density": 0.25}]})
    assert run.density == 0.25


@pytest.mark.parametrize(
    "block",
    [
        {"strategy": "APP", "density": 0.1, "seed": 1},
        {"strategy": ["APP"], "density": "1e-1", "seed": [1, 5]},
        {"strategy": "APP", "tau": 10.318851158, "seed": 1},
    ],
)
def test_runs_that_have_all_values_of_a_block_are_left_out(runs_of, block):
    rest = runs_of({**BASE, "exclude": [block]})
    assert set(told(runs_of(BASE))) - set(told(rest)) == {("APP", 0.1, 1)} and len(rest) == 5


def test_settings_and_truth_values_can_be_what_is_left_out():
    config = resolve({"stream": "digits", "strategy": "RigL", "settings": {"every": 50}}, profile="demo")
    assert leaves_out({"settings": {"every": 50}}, config) and not leaves_out({"settings": {"every": 51}}, config)
    assert leaves_out({"nested": True}, config) and not leaves_out({"nested": 1}, config)
    assert not leaves_out({"lr": "fast"}, config)


def test_one_strategy_can_have_options_of_its_own(runs_of):
    content = {**BASE, "strategy": ["APP", "RigL"], "per-strategy": {"RigL": {"set": {"every": [20, 40]}, "seed": 9}}}
    found = [(one.strategy, one.density, one.seed, one.settings.get("every")) for one in runs_of(content)]
    assert set(found) == {
        *(("APP", density, seed, None) for density in (0.5, 0.1) for seed in (0, 1)),
        *(("RigL", density, 9, every) for density in (0.5, 0.1) for every in (20, 40)),
    }


def test_the_command_line_wins_over_all_of_it(runs_of):
    content = {**BASE, "include": [{"strategy": "OSP", "seed": 7}], "per_strategy": {"APP": {"seed": 8}}}
    assert {one.seed for one in runs_of(content, seed=[5])} == {5}
    assert {one.strategy for one in runs_of(content, strategy="APP")} == {"APP"}


BAD = {
    "no name": ({"stream": "digits"}, "a campaign has a name"),
    "a name that is a path": ({**BASE, "name": "../x"}, "no name of a campaign"),
    "a name that is a number": ({**BASE, "name": 7}, "in quotes"),
    "exclude that is no list": ({**BASE, "exclude": {"seed": 1}}, "exclude holds a list"),
    "an empty block": ({**BASE, "include": [{}]}, "include holds a list"),
    "exclude of an unknown option": ({**BASE, "exclude": [{"sede": 1}]}, "exclude: there is no option sede"),
    "exclude that leaves nothing out": ({**BASE, "exclude": [{"seed": 0}, {"seed": 3}]}, "block 2 of exclude"),
    "exclude of everything": ({**BASE, "exclude": [{"stream": "digits"}]}, "every run"),
    "a density that is none": ({**BASE, "exclude": [{"tau": "x"}]}, "--tau: a number is needed"),
    "options of no strategy": ({**BASE, "per_strategy": ["APP"]}, "per_strategy holds a strategy a line"),
    "options of a strategy that is not there": ({**BASE, "per_strategy": {"AAP": {"seed": 1}}}, "per_strategy: AAP"),
    "another strategy among options": ({**BASE, "per_strategy": {"APP": {"strategy": "OSP"}}}, "use include"),
    "no stream": ({"name": "x", "strategy": "APP"}, "--stream is missing"),
    "no strategy": ({"name": "x", "stream": "digits"}, "--strategy is missing"),
    "an unknown option": ({**BASE, "epoch": 3}, "epoch"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_wrong_file_is_one_line(runs_of, case):
    content, words = BAD[case]
    with pytest.raises(UsageError) as error:
        runs_of(content)
    assert words in str(error.value) and "\n" not in str(error.value)


def test_two_documents_are_no_campaign():
    with pytest.raises(UsageError, match="one document"):
        read_campaign([BASE, BASE], {}, None)


ROOT = Path(__file__).parents[2]

CAMPAIGNS = sorted((ROOT / "campaigns").glob("*.yaml"))


@pytest.mark.parametrize("file", CAMPAIGNS, ids=lambda file: file.stem)
def test_the_campaigns_of_published_boards_can_be_planned(tmp_path, file):
    campaign = read_campaign(load_file(file), {}, None)
    assert campaign.name == file.stem
    assert len(Session(tmp_path, tmp_path, tmp_path, None, "tests").plan_campaign(campaign, {}, None)) > 1


def test_every_published_record_is_a_run_of_a_campaign(tmp_path):
    """So that one command runs a published board again."""
    records = [json.loads(file.read_text()) for file in (ROOT / "leaderboards/published/records").glob("*/*.json")]
    session = Session(tmp_path, tmp_path, tmp_path, None, "tests")
    runs = [
        run.config
        for file in CAMPAIGNS
        for run in session.plan_campaign(read_campaign(load_file(file), {}, None), {}, None)
    ]
    for fingerprint in {record["data_fingerprint"] for record in records}:
        published = {record["identity"] for record in records if record["data_fingerprint"] == fingerprint}
        assert published <= {config.identity(fingerprint).key for config in runs}
