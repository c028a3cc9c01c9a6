"""Records of a third party: sound ones become published boards, and nothing is written of others."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner
from odd_runs import ODD

from benchmark.metrics.glossary import glossary
from leaderboards.__main__ import main
from leaderboards.record import identity_key
from leaderboards.sources.recorded import RecordedRuns
from leaderboards.submission import GUIDE, defects

RECORDS = Path(__file__).parents[2] / "leaderboards" / "published" / "records"


def tree(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def folders(tmp_path):
    """Published records of four seeds of two strategies, and submitted ones of the fifth."""
    [board] = RECORDS.glob("fashion_mnist-*")
    for name, seeds in (("published/records", "0123"), ("submitted", "4")):
        (tmp_path / name / board.name).mkdir(parents=True)
        shutil.copy(RECORDS / "glossary.json", tmp_path / name)
        for path in board.iterdir():
            if path.name.startswith(("dense-s", "app-density")) and path.stem.split("-s")[-1][0] in seeds:
                shutil.copy(path, tmp_path / name / board.name)
    (tmp_path / "published" / "README.md").write_text("by hand")
    return tmp_path / "submitted", tmp_path / "published"


def submit(submitted, published, *options):
    result = CliRunner().invoke(main, ["submit", str(submitted), "--published", str(published), *options])
    return result.exit_code, result.stdout, result.stderr


def test_sound_records_become_boards(folders, tmp_path):
    submitted, published = folders
    before = tree(published)
    code, text, said = submit(submitted, published)
    assert (code, said) == (0, "") and "(2 new)" in text
    after = tree(published)
    assert before.items() <= after.items() and after["README.md"] == b"by hand"
    new = {name for name in after.keys() - before.keys() if name.startswith("records/")}
    assert {after[name] for name in new} == {path.read_bytes() for path in submitted.rglob("*-s4-*.json")} and len(
        new
    ) == 2
    [page] = [one for one in after if one.endswith(".md") and one != "README.md"]
    CliRunner().invoke(
        main,
        ["--tracking-uri", f"records:{published / 'records'}", "--output", str(tmp_path / "again"), "--guide", GUIDE],
    )
    assert (tmp_path / "again" / page).read_bytes() == after[page]
    # Given again, they are there already.
    code, text, said = submit(submitted, published)
    assert code == 1 and said.count("the same run as the published ") == 2 and tree(published) == after


def test_pages_may_go_elsewhere(folders, tmp_path):
    submitted, published = folders
    assert submit(submitted, published, "--output", str(tmp_path / "pages"))[0] == 0
    assert not [one for one in tree(published) if one.endswith(".md") and one != "README.md"]
    assert "README.md" in tree(tmp_path / "pages")


def spoilt(change, fresh=True):
    """A change of a record as a change of a file; its identity is made anew."""

    def spoil(path):
        said = json.loads(path.read_text())
        change(said)
        if fresh:
            said["identity"] = identity_key(
                protocol=said["protocol"],
                variant=said["variant"],
                seed=said["seed"],
                data_fingerprint=said["data_fingerprint"],
            )
        path.write_text(json.dumps(said))

    return spoil


def value(name, new):
    def change(said):
        said["metrics"][name]["last"] = new
        said["metrics"][name]["values"][-1] = new

    return spoilt(change)


def last(name, new):
    return spoilt(lambda said: said["metrics"][name].update(last=new))


def field(*names, new):
    def change(said):
        for name in names[:-1]:
            said = said[name]
        said[names[-1]] = new

    return spoilt(change)


DEFECTS = {
    "no json": (lambda path: path.write_text("{"), "EOF while parsing"),
    "another identity": (spoilt(lambda said: said.update(seed=9), fresh=False), "the identity is another one"),
    "an unknown field": (field("more", new=1), "Extra inputs"),
    "a later schema": (field("schema_version", new=2), "schema_version"),
    "protocol 1": (field("protocol", "protocol_version", new=1), "protocol version 1, published boards are of 2"),
    "too accurate": (value("test/accuracy", 1.5), "test/accuracy cannot be 1.5 (fraction)"),
    "no number": (value("gap/clean", "NaN"), "gap/clean cannot be nan"),
    "infinite": (value("compute/train_flops", "Infinity"), "compute/train_flops cannot be inf (FLOPs)"),
    "negative bytes": (value("size/bytes_bitmask", -1.0), "size/bytes_bitmask cannot be -1 (bytes)"),
    "another last value": (last("size/density", 0.9), "its last value is 0.9"),
    "fewer errors": (value("anytime/cer", 9.0), "CER is 9, the errors of all megabatches are"),
    "a better rate": (value("anytime/cer_rate", 0.01), "the CER rate is 0.01"),
    "a better accuracy": (value("test/accuracy", 0.99), "of megabatch 10 contradict each other"),
    "a megabatch less": (
        spoilt(lambda said: [said["metrics"]["test/accuracy"][one].pop(0) for one in ("steps", "values")]),
        "lacks some of the megabatches",
    ),
    "megabatch 11": (
        spoilt(lambda said: said["metrics"]["gap/clean"]["steps"].__setitem__(-1, 11)),
        "gap/clean has steps outside of the 10 megabatches",
    ),
    "no errors": (spoilt(lambda said: said["metrics"].pop("test/errors")), "test/errors is missing"),
    "no count of images": (spoilt(lambda said: said["provenance"].pop("test_images")), "how many test_images"),
    "an unknown metric": (
        spoilt(lambda said: said["metrics"].update({"x/y": {"last": 1.0, "steps": [], "values": []}})),
        "x/y is a metric that no glossary.json explains",
    ),
    "a folder": (field("provenance", "hardware", new="see /home/someone/runs"), "a text names a folder"),
    "the name of a machine": (field("provenance", "hostname", new="box"), "provenance says 'hostname'"),
    "another stream": (field("stream", new="digits"), "different streams"),
    "the future": (field("started", new="2199-01-01T00:00:00.000Z"), "it began in the future"),
    "a negative seed": (field("seed", new=-1), "a seed is not negative: -1"),
    "a long name": (field("variant", "strategy", new="x" * 201), "too long"),
}


@pytest.mark.parametrize("defect", DEFECTS)
def test_defects_are_told_and_nothing_is_written(folders, defect):
    submitted, published = folders
    spoil, expected = DEFECTS[defect]
    first = min(submitted.rglob("*-s4-*.json"))
    spoil(first)
    before = tree(published)
    code, text, said = submit(submitted, published)
    assert (code, text) == (1, "") and tree(published) == before
    assert any(first.name in line and expected in line for line in said.splitlines()), said
    assert said.endswith("nothing has been written\n")


ORDINARY = ("a_b c-d e.f (g, h 0.5)", "- a", "12. a", "---")
"""Of odd names those that are no more than names."""


@pytest.mark.parametrize("name", [one for one in ODD if one not in ORDINARY])
def test_hostile_names_are_refused(folders, name):
    submitted, published = folders
    for place in (("variant", "strategy"), ("stream_label",), ("provenance", "hardware")):
        path = min(submitted.rglob("*-s4-*.json"))
        before = path.read_bytes()
        if "\udcff" not in name:
            field(*place, new=name)(path)
            found = defects(RecordedRuns(submitted), RecordedRuns(published / "records"))
            assert len(found) == 1 and found[0].isprintable() and ("a text " in found[0]), found
        path.write_bytes(before)


def test_a_run_that_is_there_twice_is_a_defect(folders):
    submitted, published = folders
    first = min(submitted.rglob("*-s4-*.json"))
    other = first.with_name("again.json")
    shutil.copy(first, other)
    assert "it is of the same run as" in submit(submitted, published)[2]
    spoilt(lambda said: said.update(run_id="f" * 32))(other)
    assert "the same variant, protocol and seed as" in submit(submitted, published)[2]
    other.unlink()
    other.symlink_to(first)
    assert submit(submitted, published)[0] == 1


def test_words_of_the_glossary_may_have_been_mended_and_the_published_ones_stay(folders):
    submitted, published = folders
    said = json.loads((submitted / "glossary.json").read_text())
    said["measures"]["test/accuracy"] |= {"meaning": "how good", "title": "Goodness", "position": 1}
    (submitted / "glossary.json").write_text(json.dumps(said))
    before = json.loads((published / "records" / "glossary.json").read_text())
    assert submit(submitted, published)[0] == 0
    assert json.loads((published / "records" / "glossary.json").read_text()) == before


def test_what_is_measured_today_is_what_published_records_say():
    """Otherwise nobody could bring a record."""
    known = RecordedRuns(RECORDS).glossary()
    today = glossary()
    assert {n: (m.unit, m.better) for n, m in known.items() if n in today} == {
        n: (m.unit, m.better) for n, m in today.items() if n in known
    }


def test_a_glossary_that_says_something_else_is_a_defect(folders):
    submitted, published = folders
    said = json.loads((submitted / "glossary.json").read_text())
    said["measures"]["test/accuracy"]["better"] = -1
    said["measures"]["x"] = {**said["measures"]["test/accuracy"], "name": "x", "title": "<b>", "key": "x"}
    (submitted / "glossary.json").write_text(json.dumps(said))
    found = submit(submitted, published)[2]
    assert "test/accuracy is measured in another way" in found and "x: a name has characters" in found


def test_wrong_folders_are_wrong_use(folders, tmp_path):
    submitted, published = folders
    for wrong in (tmp_path / "none", published):
        code, text, said = submit(wrong, published)
        assert (code, text, said.count("\n")) == (2, "", 1) and "glossary.json" in said
    (tmp_path / "empty").mkdir()
    shutil.copy(submitted / "glossary.json", tmp_path / "empty")
    assert submit(tmp_path / "empty", published)[2].startswith("Error: there is no record in ")
    # The first records of all.
    assert submit(submitted, tmp_path / "new")[0] == 0 and len(tree(tmp_path / "new" / "records")) == 3
