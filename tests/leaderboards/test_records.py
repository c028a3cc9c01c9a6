"""Records: boards made from them are those of the store, byte for byte, and nothing of the machine gets into them."""

from __future__ import annotations

import json
import locale
import os
import time
from contextlib import suppress
from pathlib import Path

import pytest
from click.testing import CliRunner
from mlflow.entities import Metric

from leaderboards.__main__ import main
from leaderboards.errors import BoardError
from leaderboards.export import export
from leaderboards.publish import publish
from leaderboards.sources.collect import collect
from leaderboards.sources.record_file import RunFile
from leaderboards.sources.trajectories import trajectories

EARLIER = {"earlier": json.dumps({"optimizer": "sgd"})}

ODD = {
    "nothing measured": {},
    "no number": {"anytime__cer_rate": float("nan"), "gap__clean": float("inf"), "test__accuracy": float("-inf")},
    "other metrics": {"loss": 1.0},
    "no protocol": {"tags": {"protocol": "{}"}},
    "fields of fields": {"protocol": {"weather": {"wind": ["n", None], "a": {"z": 1, "b": 2}}, "moon": None}},
    "large": {"protocol": {"replay": 10**400}, "seed": 2**62},
    "negative": {"seed": -(2**63)},
    "lines": {"tags": {"stream_label": "a\nb\x00|c <b>", "commit": "\n|"}, "strategy": {"strategy": "../a\n|b"}},
    "options": {"strategy": {"strategy": "x", "z": None, "b": [], "c": {"f": None, "d": "e"}, "a": 10**400}},
    "tags named as columns": {
        "tags": dict.fromkeys(["run_id", "started", "density", "identity", "metrics.anytime/cer_rate"], "x")
    },
}


def tree(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def in_zone(monkeypatch):
    """Function: time zone and locale of this process from now on."""

    def move(zone, language):
        monkeypatch.setenv("TZ", zone)
        time.tzset()
        with suppress(locale.Error):  # This machine may not know it.
            locale.setlocale(locale.LC_ALL, language)

    before = locale.setlocale(locale.LC_ALL)
    yield move
    locale.setlocale(locale.LC_ALL, before)
    monkeypatch.undo()
    time.tzset()


def test_pages_and_records_are_the_same_in_all_time_zones_and_locales(store, tmp_path, in_zone):
    for seed in (0, 1):
        for strategy in ("dense", "APP", "İI ıi"):
            store.add(strategy, seed, anytime__cer_rate=0.25 + seed / 8, test__accuracy=1234567.5)
    found = []
    for zone, language in (("UTC", "C"), ("Asia/Kolkata", "tr_TR.UTF-8"), ("XXX+11:59", "de_DE.UTF-8")):
        in_zone(zone, language)
        place = tmp_path / str(len(found))
        publish([store.uri], place / "pages", say=str)
        export(store.uri, place / "records", say=str)
        found.append(tree(place))
    assert len(found[0]) > 3 and found[0] == found[1] == found[2]


def fill(store):
    """Boards of several kinds: with repeated runs, earlier versions, fields that came later, and odd values."""
    for seed in range(3):
        for number, strategy in enumerate(("dense", "APP", {"strategy": "OSP", "score": "snip", "score_version": 1})):
            for precision in ("fp32", "bf16"):
                cer_rate = 0.1 + 0.01 * number + 0.003 * seed**2
                run = store.add(strategy, seed, protocol={"precision": precision}, anytime__cer_rate=cer_rate)
                points = [Metric("curve/loss", 2.5, 5, 50)]
                points += [Metric("test/accuracy", step / 7 + cer_rate, 5, step) for step in (1, 2, 3, 4)]
                again = [Metric("test/accuracy", 0.3, 6, 2), Metric("curve/loss", float("nan"), 5, 100)]
                store.client.log_batch(run, points + again)
    store.add("dense", 0, tags={"commit": "def", "hardware": "a | b", **EARLIER}, anytime__cer_rate=0.2)
    store.add("APP", 7, protocol={"optimizer": "adamw"}, tags=EARLIER, anytime__cer_rate=0.3)
    store.add({"strategy": "OSP", "score": "snip", "score_version": 2}, 0, anytime__cer_rate=0.3)
    store.add("dense", 0, protocol={"replay": "none"}, data="synthetic", anytime__cer_rate=0.2)
    store.client.log_param(store.add("thin", 0, anytime__cer_rate=0.2), "density", "0.2")
    store.add("dense", 1, status="FAILED", anytime__cer_rate=0.0)


OPTIONS = [{}, {"across": ["replay"]}, {"sort": "accuracy", "reverse": True, "contrast": "precision"}]


def test_pages_and_series_are_those_of_the_store(store, tmp_path):
    fill(store)
    for number, case in enumerate(ODD.values()):
        store.add(**{"seed": number, "strategy": "rival", **case})
    folder = tmp_path / "records"
    export(store.uri, folder)
    for number, options in enumerate(OPTIONS):
        for name, uri in (("store", store.uri), ("records", f"records:{folder}")):
            publish([uri], tmp_path / f"{name} {number}", **options)
        pages = tree(tmp_path / f"store {number}")
        assert pages == tree(tmp_path / f"records {number}") and len(pages) > 5
    assert b"Left out: 3 runs of earlier versions" in b"".join(pages.values())
    runs = collect(f"records:{folder}").runs
    metrics = ["test/accuracy", "curve/loss", "anytime/cer_rate", "none"]
    ours, theirs = (trajectories(uri, runs.run_id, metrics) for uri in (f"records:{folder}", store.uri))
    assert ours.equals(theirs) and len(ours) > 100 and 0.3 in set(ours[ours.metric == "test/accuracy"].value)


def test_records_lie_with_their_board_one_for_each_run_that_counts(store, tmp_path):
    fill(store)
    export(store.uri, tmp_path / "records")
    publish([store.uri], tmp_path / "pages")
    names = [Path(name) for name in tree(tmp_path / "records") if name != "glossary.json"]
    folders = {name.parent.name for name in names}
    assert {f"{folder}.md" for folder in folders} | {"README.md"} == set(tree(tmp_path / "pages"))
    files = {name.name: RunFile.of_text((tmp_path / "records" / name).read_bytes()) for name in names}
    assert len(files) == len(names) == 18 + 4
    assert {f"dense-s0-{one.identity}.json" for one in files.values()} & files.keys()
    assert all(name.endswith(f"-s{one.seed}-{one.identity}.json") for name, one in files.items())
    assert any(name.startswith("thin-s0-") for name in files)


def test_exporting_again_writes_the_same_bytes_wherever_it_is_read_from(store, tmp_path):
    fill(store)
    first, second = tmp_path / "first", tmp_path / "second"
    done = export(store.uri, first)
    before = tree(first)
    again = export(store.uri, first)
    assert tree(first) == before and sorted(again.unchanged) == sorted(done.written) and not again.notes
    export(f"records:{first}", second)
    assert tree(second) == before
    assert all(text.isascii() and text.endswith(b"}\n") for text in before.values())


def test_a_metric_is_a_line_and_a_number_keeps_its_digits(store, tmp_path):
    run = store.add(anytime__cer_rate=0.1 + 0.2)
    store.client.log_batch(run, [Metric("test/accuracy", 1 / step, 1, step) for step in range(1, 11)])
    [name] = export(store.uri, tmp_path / "out").written
    lines = (tmp_path / "out" / name).read_text().splitlines()
    number = "0.30000000000000004"
    assert f'  "anytime/cer_rate": {{"last": {number}, "steps": [4], "values": [{number}]}},' in lines
    assert ["0.3333333333333333" in line for line in lines if "test/accuracy" in line] == [True]


def test_series_can_be_left_out_and_change_no_page(store, tmp_path):
    fill(store)
    records = tmp_path / "records"
    done = command("export", "--tracking-uri", store.uri, "--output", records, "--last-only", "curve/*")
    assert done.exit_code == 0, done.output
    for name, uri in (("of the store", store.uri), ("of the records", f"records:{records}")):
        publish([uri], tmp_path / name)
    assert tree(tmp_path / "of the store") == tree(tmp_path / "of the records")
    runs = collect(f"records:{records}").runs.run_id
    assert set(trajectories(f"records:{records}", runs, ["curve/loss", "test/accuracy"]).metric) == {"test/accuracy"}


def test_nothing_of_the_machine_gets_into_a_record(store, tmp_path):
    machine, user = "host-of-mine", "someone-at-home"
    private = {
        "process": f"{machine}/02e8 12 34", "heartbeat": "1795689156", "worker": f"{machine}-3",
        "failure": f"OSError: /home/{user}/x", "output": f"/home/{user}", "resumed_from": f"file:///home/{user}",
    }  # fmt: skip
    run = store.add(tags=private, anytime__cer_rate=0.1)
    for tag, value in {"mlflow.user": user, "mlflow.source.name": f"/home/{user}/run.py"}.items():
        store.client.set_tag(run, tag, value)
    store.client.log_param(run, "cache", f"/home/{user}/.cache")
    export(store.uri, tmp_path / "out")
    written = b"".join(tree(tmp_path / "out").values()).decode()
    assert not [name for name in (machine, user, "file:", str(tmp_path), "1795689156", ".db") if name in written]


def test_a_newer_run_replaces_a_record_and_this_is_said(store, tmp_path):
    folder = tmp_path / "out"
    store.add("APP", anytime__cer_rate=0.1)
    store.add("dense", anytime__cer_rate=0.1)
    [old, other] = export(store.uri, folder).written
    store.add("APP", anytime__cer_rate=0.2)
    lines = []
    done = export(store.uri, folder, say=lines.append)
    assert (done.written, done.replaced, done.unchanged) == ([old], [old], [other])
    assert lines == [f"Note: records replaced by those of newer runs: {old}"]
    assert collect(f"records:{folder}").runs["metrics.anytime/cer_rate"].tolist() == [0.1, 0.2]


def test_an_older_run_or_another_story_of_the_same_one_leaves_a_record_as_it_is(store, empty_store, tmp_path):
    folder = tmp_path / "out"
    other = tmp_path / "other.db"
    other.write_bytes(empty_store.read_bytes())
    old = type(store)(f"sqlite:///{other}")
    old.add(anytime__cer_rate=0.9)
    store.clock = 5
    run = store.add(anytime__cer_rate=0.1)
    [name] = export(store.uri, folder).written
    before = tree(folder)
    for change in (lambda: old.uri, lambda: store.client.set_tag(run, "anytime_bench.commit", "def") or store.uri):
        lines = []
        assert export(change(), folder, say=lines.append).kept == [name]
        [line] = lines
        assert name in line and "left as they are" in line and tree(folder) == before


def test_a_record_of_a_run_under_an_earlier_name_makes_room_for_a_newer_run(store, tmp_path):
    folder = tmp_path / "out"
    store.add(anytime__cer_rate=0.1)
    [name] = export(store.uri, folder).written
    (folder / "renamed").mkdir()
    (folder / name).rename(folder / "renamed" / "x.json")
    store.add(anytime__cer_rate=0.2)
    assert export(store.uri, folder).replaced == ["renamed/x.json"]
    assert set(tree(folder)) == {"glossary.json", name}


def test_runs_that_no_record_can_be_made_of_are_named(store, tmp_path):
    lost = store.add(tags={"protocol": '{"a": NaN}'})
    store.add(anytime__cer_rate=0.1)
    done = export(store.uri, tmp_path / "out")
    assert len(done.written) == 1 and list(done.damaged) == [lost]
    [line] = done.notes
    assert line.startswith(f"Note: runs that no record can be made of: {lost}: protocol: ") and "\n" not in line


@pytest.mark.parametrize("full", ["write_bytes", "mkdir", "replace"])
def test_where_records_cannot_be_written_none_is_half_there(store, tmp_path, monkeypatch, full):
    folder = tmp_path / "out"
    store.add(anytime__cer_rate=0.25)
    export(store.uri, folder)
    before = tree(folder)
    store.add("APP", anytime__cer_rate=0.5)
    store.add(anytime__cer_rate=0.5)
    real, done = getattr(Path, full), []

    def fail(path, *args, **kwargs):
        done.append(path)
        if len(done) == 2:
            if full == "write_bytes":
                real(path, b"half a r")
            raise OSError(28, "No space left on device")
        return real(path, *args, **kwargs)

    monkeypatch.setattr(Path, full, fail)
    with pytest.raises(BoardError, match=f"cannot write to {folder}: No space left on device"):
        export(store.uri, folder)
    after = tree(folder)
    assert {name: after[name] for name in before} == before
    assert len(collect(f"records:{folder}").runs) == 1


def test_stores_and_records_are_read_together(store, empty_store, tmp_path):
    other = tmp_path / "other.db"
    other.write_bytes(empty_store.read_bytes())
    store.add("dense", seed=0, anytime__cer_rate=0.2)
    more = type(store)(f"sqlite:///{other}")
    more.add("dense", seed=1, anytime__cer_rate=0.4)
    export(store.uri, tmp_path / "records")
    for name, uris in {
        "mixed": [more.uri, f"records:{tmp_path / 'records'}"],
        "stores": [store.uri, more.uri],
        "twice": [f"records:{tmp_path / 'records'}", store.uri, more.uri],
    }.items():
        publish(uris, tmp_path / name)
    assert tree(tmp_path / "mixed") == tree(tmp_path / "stores") == tree(tmp_path / "twice")
    assert "0.3000" in b"".join(tree(tmp_path / "mixed").values()).decode()


def command(*arguments):
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def test_the_command_writes_records_and_boards_from_them(store, tmp_path):
    store.add("dense", anytime__cer_rate=0.2)
    out = tmp_path / "records"
    done = command("export", "--tracking-uri", store.uri, "--experiment", "toy", "--output", out)
    assert (done.exit_code, done.output) == (0, f"Records: {out} (1 written, 0 unchanged)\n")
    assert command("--tracking-uri", f"records:{out}", "--output", tmp_path / "pages").exit_code == 0
    assert (tmp_path / "pages" / "README.md").exists()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["export", "--tracking-uri", "STORE"], "Missing option '--output'"),
        (["export", "--tracking-uri", "STORE", "--output", "new"], "no finished benchmark run"),
        (["export", "--tracking-uri", "STORE", "--experiment", "none", "--output", "new"], "no experiment 'none'"),
        (["export", "--tracking-uri", "sqlite:///none.db", "--output", "new"], "there is no store"),
        (["--tracking-uri", "STORE", "export", "--output", "new"], "--tracking-uri is for boards here"),
        (["--tracking-uri", "records:"], "names no folder"),
        (["--tracking-uri", "records:none"], "none is no folder of records"),
        (["--tracking-uri", "records:mlflow.db"], "cannot be read (Not a directory)"),
        (["--tracking-uri", "records:RECORDS", "--experiment", "toy"], "belong to no experiment"),
        (["expert"], "No such command 'expert'"),
    ],
)
def test_wrong_use_is_one_line_and_writes_nothing(store, tmp_path, monkeypatch, arguments, said):
    monkeypatch.chdir(tmp_path)
    places = {"STORE": store.uri, "records:RECORDS": f"records:{tmp_path / 'made'}"}
    (tmp_path / "made").mkdir()
    (tmp_path / "made" / "glossary.json").write_text('{"schema_version": 1, "measures": {}}')
    before = tree(tmp_path)
    done = command(*(places.get(one, one) for one in arguments))
    assert done.exit_code == 2 and said in done.output.splitlines()[-1]
    assert done.output.startswith(("Error: ", "Usage: ")) and "Traceback" not in done.output
    assert tree(tmp_path) == before


def test_runs_are_not_tracked_in_records(tmp_path):
    from leaderboards.sources.addresses import check_address

    with pytest.raises(BoardError, match="cannot be tracked in records"):
        check_address(f"records:{tmp_path}")


def test_records_that_cannot_be_listed_are_one_line(store, tmp_path, monkeypatch):
    store.add(anytime__cer_rate=0.1)
    export(store.uri, tmp_path / "out")
    real = Path.iterdir

    def fail(path):
        if path != tmp_path / "out":
            raise PermissionError(13, "Permission denied", os.fspath(path))
        return real(path)

    monkeypatch.setattr(Path, "iterdir", fail)
    with pytest.raises(BoardError, match=r"cannot be read \(Permission denied"):
        collect(f"records:{tmp_path / 'out'}")
