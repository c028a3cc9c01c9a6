"""Campaigns through their commands: parts on separate stores, one parent run, and what status says of them."""

from __future__ import annotations

import pytest
from mlflow import MlflowClient

from benchmark.recording.campaigns import Cell
from benchmark.recording.heartbeat import EXPECTED_END, HEARTBEAT, PROCESS, PROGRESS
from leaderboards.publish import publish
from leaderboards.record import PREFIX

pytestmark = pytest.mark.slow

CAMPAIGN = """
name: trial
stream: digits
strategy: [dense, APP]
seed: [0, 1]
megabatches: 2
epochs: 1
model: mlp
shots: 20
test_shots: 10
"""

BY_PROCESSES = ("--engine", "processes", "--jobs", "1")


@pytest.fixture
def sweep(called, tmp_path):
    """Function: the command on the campaign, in this process: exit code, what it printed and what it said."""
    from benchmark.sweep import main

    (tmp_path / "trial.yaml").write_text(CAMPAIGN)
    return lambda *arguments: called("trial.yaml", *BY_PROCESSES, *arguments, command=main)


@pytest.fixture
def status(called):
    from benchmark.status import main

    return lambda *arguments: called(*arguments, command=main)


def store_of(folder):
    return f"sqlite:///{folder / 'mlflow.db'}"


def found_in(uri):
    client = MlflowClient(uri)
    found = client.search_runs([one.experiment_id for one in client.search_experiments()])
    [parent] = [run for run in found if PREFIX + "campaign" in run.data.tags]
    return client, parent, [run for run in found if run is not parent]


def test_parts_on_stores_of_their_own_make_the_boards_of_the_whole(sweep, tmp_path):
    code, _, err = sweep("--output", "whole")
    assert code == 0, err
    for part in ("1/3", "2/3", "3/3"):
        code, _, err = sweep("--shard", part, "--output", f"part-{part[0]}")
        assert code == 0 and f"Part {part}:" in err, err
    stores = [store_of(tmp_path / f"part-{number}") for number in (1, 2, 3)]
    assert sum(len(found_in(uri)[2]) for uri in stores) == 4
    [whole] = publish([store_of(tmp_path / "whole")], tmp_path / "boards")
    [merged] = publish(stores, tmp_path / "merged")
    told = [
        [(row.row.name, row.row.by_seed("anytime/cer"), row.row.by_seed("size/density")) for row in report.rows]
        for report in (whole, merged)
    ]
    assert told[0] == told[1] and sum(len(by_seed) for _, by_seed, _ in told[0]) == 4


def test_all_commands_of_a_campaign_share_one_parent_and_do_nothing_twice(sweep, status, tmp_path):
    assert sweep("--shard", "1/2")[0] == 0
    code, out, _ = status("trial")
    assert code == 1 and out.startswith("trial: 4 runs, 2 finished, 2 waiting\n")
    assert found_in(store_of(tmp_path / "results"))[1].info.status == "SCHEDULED"
    assert sweep()[0] == 0
    _, parent, runs = found_in(store_of(tmp_path / "results"))
    assert len(runs) == 4 and {run.data.tags["mlflow.parentRunId"] for run in runs} == {parent.info.run_id}
    assert parent.info.status == "FINISHED" and parent.info.run_name == "trial"
    code, _, err = sweep()
    assert code == 0 and err.count("is done already") == 4
    assert len(found_in(store_of(tmp_path / "results"))[2]) == 4
    code, out, err = status("trial")
    assert (code, err) == (0, "") and out.splitlines()[0] == "trial: 4 runs, 4 finished"
    assert "best so far: " in out and "on digits, CER rate" in out
    assert status()[1] == "trial: 4 runs, 4 finished\n"


def test_with_figures_the_run_of_the_campaign_has_its_boards_as_files(sweep, tmp_path):
    code, _, err = sweep("--plot", "--strategy", "dense")
    assert code == 0, err
    client, parent, _ = found_in(store_of(tmp_path / "results"))
    [page] = [one.path for one in client.list_artifacts(parent.info.run_id, "boards") if not one.is_dir]
    [folder] = [one.path for one in client.list_artifacts(parent.info.run_id, "boards") if one.is_dir]
    assert page == f"{folder}.md"
    figures = {one.path.rsplit("/")[-1] for one in client.list_artifacts(parent.info.run_id, folder)}
    assert {"accuracy-light.svg", "accuracy-dark.svg"} <= figures
    text = (tmp_path / "results" / "leaderboards" / page.removeprefix("boards/")).read_text()
    assert "accuracy-light.svg" in text
    assert sweep("--strategy", "dense")[0] == 0
    assert not list((tmp_path / "results" / "leaderboards").rglob("*.svg")), "none that later runs are not in"


def test_a_command_that_asks_for_some_of_the_runs_does_not_shorten_the_list(sweep, status):
    assert sweep("--seed", "0")[0] == 0
    assert status("trial")[1].startswith("trial: 2 runs, 2 finished\n")
    assert sweep("--shard", "1/4")[0] == 0
    assert status("trial")[1].startswith("trial: 4 runs, ")
    assert sweep("--seed", "1")[0] == 0
    assert status("trial")[1].startswith("trial: 4 runs, 4 finished\n")


def test_a_dry_run_says_what_is_done_and_what_is_left(sweep):
    assert sweep("--seed", "1")[0] == 0
    code, out, err = sweep("--dry-run")
    assert code == 0, err
    states = [line.split()[-1] for line in out.splitlines()[2:6]]
    assert sorted(states) == ["finished", "finished", "new", "new"]
    assert "4 runs, of which 2 are left as they are." in out and "\n2 runs, training on" in out


def test_runs_under_way_tell_how_far_they_are_and_failures_why(sweep, status, tmp_path):
    assert sweep()[0] == 0
    client, _, runs = found_in(store_of(tmp_path / "results"))
    one, other = runs[:2]
    client.update_run(one.info.run_id, status="RUNNING")
    about = {PROCESS: "elsewhere 1 20", HEARTBEAT: "99999999999", PROGRESS: "megabatch 1 of 2, epoch 1 of 1"}
    for name, text in {**about, EXPECTED_END: "99999999999"}.items():
        client.set_tag(one.info.run_id, PREFIX + name, text)
    client.update_run(other.info.run_id, status="FAILED")
    client.set_tag(other.info.run_id, PREFIX + "failure", "diverged at megabatch 1, epoch 1")
    code, out, _ = status("trial")
    lines = out.splitlines()
    assert code == 1 and lines[0] == "trial: 4 runs, 2 finished, 1 under way, 1 failed"
    assert "megabatch 1 of 2, epoch 1 of 1, about" in lines[1] and lines[1].endswith("days left")
    assert lines[2].startswith("  failed: digits ") and lines[2].endswith(": diverged at megabatch 1, epoch 1")


def test_on_a_terminal_bars_show_how_far_all_and_each_are():
    from benchmark.command.campaign_status import describe_cells

    cells = [Cell("one", "finished"), Cell("two", "under way", about="megabatch 1 of 4", done=0.25)]
    lines = describe_cells("trial", cells, bars=True).splitlines()
    assert lines[1].endswith("  50%") and lines[3].endswith("  25%")
    assert abs(lines[1].count("█") - 2 * lines[3].count("█")) <= 1 and lines[3].count("█") > 10


def test_a_long_list_of_failures_is_cut_short():
    from benchmark.command.campaign_status import describe_cells

    text = describe_cells("trial", [Cell(f"run {n}", "failed", about="why") for n in range(30)])
    assert text.count("\n") == 21 and text.endswith("failed: 10 more")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--shard", "4/3"], "--shard takes K/N"),
        (["--name", "a b"], "no name of a campaign"),
        (["--gpus", "0.5"], "leave out --cpus and --gpus"),
        (["--address", "10.0.0.1:6379"], "--address joins a cluster"),
        (["--strategy", "APPP"], "did you mean 'APP'"),
    ],
)
def test_wrong_use_is_one_line(sweep, tmp_path, arguments, message):
    code, _, err = sweep(*arguments)
    assert code == 2 and message in err and len(err.splitlines()) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["trial.yaml"]


def test_status_of_what_is_not_there_is_one_line(sweep, status, tmp_path):
    for arguments in ((), ("trial",)):
        code, _, err = status(*arguments)
        assert code == 2 and "there is no store" in err and len(err.splitlines()) == 1
    assert sweep("--seed", "0")[0] == 0
    for name in ("other", "it's", "x" * 5000):
        code, _, err = status(name)
        assert code == 2 and "there are trial" in err and len(err) < 300
    assert status("trial", "--experiment", "none")[0] == 2
