"""Whatever lies in a folder of records, boards are made of what is sound, and one line says what is not."""

from __future__ import annotations

import json
import os
import tempfile
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from soak import cases

from leaderboards.errors import BoardError
from leaderboards.glossary import Glossary, Measure
from leaderboards.numbers.boards import boards
from leaderboards.publish import publish
from leaderboards.record import identity_key
from leaderboards.sources.collect import collect
from leaderboards.sources.record_file import LARGEST, RunFile
from leaderboards.sources.recorded import glossary_text
from leaderboards.text import printable

MEASURE = Measure("anytime/cer_rate", "CER rate", "errors", "fraction", better=-1, places=("board", "baseline", "runs"))

DEEP = "[" * 3000 + "]" * 3000


def identified(record):
    parts = {name: record[name] for name in ("protocol", "variant", "seed", "data_fingerprint")}
    return {**record, "identity": identity_key(**parts)}


def sound(strategy="dense", seed=0, **fields):
    """What a record says, with the identity that belongs to it."""
    record = {
        "schema_version": 1,
        "run_id": f"{strategy}{seed}",
        "started": "2026-11-26T10:32:35.642Z",
        "stream": "toy",
        "stream_label": "toy",
        "data": "real",
        "data_version": "1",
        "data_fingerprint": "f" * 16,
        "density": 0.5,
        "seed": seed,
        "protocol": {"megabatches": 4, "milestones": [0.4, 0.8], "shots": None, "precision": "fp32"},
        "variant": {"strategy": strategy, "strategy_version": 1},
        "variant_defaults": {"strategy": strategy},
        "earlier": {},
        "provenance": {"commit": "abc", "dirty": "clean"},
        "metrics": {"anytime/cer_rate": {"last": 0.25, "steps": [1, 2], "values": [0.5, 0.25]}},
    }
    return identified(record | fields)


def put(folder, *contents):
    """A folder of records with the sound one of a strategy ``dense`` and others."""
    (folder / "board").mkdir()
    (folder / "glossary.json").write_text(glossary_text(Glossary([MEASURE])))
    for number, content in enumerate((json.dumps(sound()), *contents)):
        text = content if isinstance(content, str | bytes) else json.dumps(content)
        (folder / "board" / f"{number}.json").write_bytes(text if isinstance(text, bytes) else text.encode())
    return f"records:{folder}"


WRONG = {
    "empty": (b"", "EOF"),
    "no JSON": (b"\x00\xff", "expected value"),
    "not UTF-8": (json.dumps(sound("b")).encode().replace(b"toy", b"t\xff"), "invalid unicode"),
    "half of it": (json.dumps(sound("b"))[:200], "EOF"),
    "a list": ([], "valid dictionary"),
    "deep": (DEEP, "recursion limit"),
    "a later schema": (sound("b", schema_version=2), "schema_version: Input should be 1"),
    "an unknown field": (sound("b", mood="good\n"), "mood: Extra inputs are not permitted"),
    "a field missing": ({k: v for k, v in sound("b").items() if k != "stream"}, "stream: Field required"),
    "another identity": (sound("b") | {"seed": 3}, "the identity is another one"),
    "a number as text": (sound("b", seed=3) | {"seed": "3"}, "seed: "),
    "a truth as a number": (sound("b", density=True), "density: "),
    "a huge seed": (sound("b", 2**63), "seed: "),
    "no number in the protocol": (json.dumps(sound("b", protocol={"a": float("nan")})), "expected value"),
    "infinity in the protocol": (json.dumps(sound("b")).replace("0.8]", "1e999]"), "protocol: "),
    "no moment": (sound("b", started="yesterday"), "started: "),
    "before the epoch": (sound("b", started="1969-12-31T23:59:59.999Z"), "started: "),
    "a path as an id": (sound("b", run_id="../../b"), "run_id: "),
    "no strategy": (sound("b", variant={"strategy": None}), "variant: "),
    "a version that is none": (sound("b", variant={"strategy": "b", "score_version": "x"}), "score_version"),
    "a metric without a name": (sound("b", metrics={"": {"last": 1.0, "steps": [], "values": []}}), "metrics"),
    "steps without values": (sound("b", metrics={"a": {"last": 1.0, "steps": [1], "values": []}}), "ascending steps"),
    "steps that go back": (sound("b", metrics={"a": {"last": 1.0, "steps": [2, 1], "values": [1, 1]}}), "ascending"),
    "steps given twice": (sound("b", metrics={"a": {"last": 1.0, "steps": [1, 1], "values": [1, 1]}}), "ascending"),
    "a value that is none": (sound("b", metrics={"a": {"last": "nan", "steps": [], "values": []}}), "metrics.a.last"),
    "the same run again": (sound(seed=5, run_id="dense0"), "it is of the same run as board/0.json"),
    "too large": (b" " * (LARGEST + 1), f"larger than {LARGEST:,} bytes"),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_a_damaged_record_is_passed_over_in_one_line(tmp_path, wrong):
    content, why = WRONG[wrong]
    records = collect(put(tmp_path, content))
    assert records.runs.run_id.tolist() == ["dense0"]
    assert records.note.startswith("Note: run board/1.json is passed over, its record is damaged: ")
    assert why in records.note and records.note.isprintable() and len(records.note) < 500


def test_what_is_no_file_is_not_waited_for(tmp_path):
    uri = put(tmp_path)
    os.mkfifo(tmp_path / "board" / "pipe.json")
    (tmp_path / "board" / "folder.json").mkdir()
    (tmp_path / "board" / "gone.json").symlink_to(tmp_path / "nowhere")
    (tmp_path / "board" / "notes.txt").write_text("no record")
    (tmp_path / ".new-x").mkdir()
    (tmp_path / ".new-x" / "draft.json").write_text("half a r")
    damaged = collect(uri).damaged
    assert {name: why.partition(" (")[0] for name, why in damaged.items()} == {
        "board/folder.json": "it is no file",
        "board/gone.json": "it cannot be read",
        "board/pipe.json": "it is no file",
    }


def test_names_and_numbers_of_any_kind_are_read(tmp_path):
    odd = "<b>a|b</b>\n# c\x1b[2J\u202e"
    uri = put(
        tmp_path,
        sound(odd, -(2**63), run_id="odd", stream_label=odd, provenance={"commit": odd, "run_id": odd, "seed": odd}),
        sound("b", 1, metrics={odd: {"last": "NaN", "steps": [1, 2], "values": ["-Infinity", 1]}}, density=None),
    )
    records = collect(uri)
    assert records.note is None and sorted(records.runs.seed) == [-(2**63), 0, 1]
    assert records.runs.run_id.tolist() == ["b1", "dense0", "odd"]
    publish([uri], tmp_path / "pages")
    for page in (tmp_path / "pages").iterdir():
        assert "<b>" not in page.read_text() and "\x1b" not in page.read_text()


@pytest.mark.parametrize(
    "glossary",
    [b"", b"[]", b"{}", b"\xff", DEEP.encode(), b'{"schema_version": 2, "measures": {}}', b'{"schema_version": 1}'],
)
def test_without_a_sound_glossary_it_is_no_folder_of_records(tmp_path, glossary):
    uri = put(tmp_path)
    (tmp_path / "glossary.json").write_bytes(glossary)
    with pytest.raises(BoardError, match=r"glossary\.json is damaged or no glossary of records") as refused:
        collect(uri)
    assert str(refused.value).isprintable()


def test_damaged_measures_are_passed_over_as_in_stores(tmp_path):
    uri = put(tmp_path)
    measures = {"a": 3, "b": {"name": "b", "title": 1}}
    (tmp_path / "glossary.json").write_text(json.dumps({"schema_version": 1, "measures": measures}))
    assert collect(uri).glossary["anytime/cer_rate"].meaning == "not explained by this store"


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.sampled_from(["NaN", "1", DEEP]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)


@st.composite
def changed(draw):
    """The bytes of a record that something has happened to; its identity may have been mended since."""
    record = sound("b", 1)
    for _ in range(draw(st.integers(1, 3))):
        place = draw(st.sampled_from([record, *(one for one in record.values() if isinstance(one, dict) and one)]))
        name = draw(st.sampled_from(sorted(place)) | st.text(max_size=8))
        if draw(st.booleans()):
            place[name] = draw(json_values)
        else:
            place.pop(name, None)
    if draw(st.booleans()):
        with suppress(KeyError, ValueError):
            record = identified(record)
    content = json.dumps(record).encode()
    if draw(st.integers(0, 3)) == 0:
        start, length = draw(st.integers(0, len(content))), draw(st.integers(0, 20))
        content = content[:start] + draw(st.binary(max_size=4)) + content[start + length :]
    return content


@cases(60, each=4)
@given(changed())
def test_whatever_has_happened_to_a_record_the_others_have_their_board(content):
    with tempfile.TemporaryDirectory() as folder:
        uri = put(Path(folder), content)
        records = collect(uri)
        assert "dense0" in records.runs.run_id.tolist()
        assert len(records.runs) + len(records.damaged) == 2
        assert records.note is None or records.note == printable(records.note)
        assert any(row.name.startswith("dense") for board in boards(records) for row in board.rows)
        publish([uri], Path(folder) / "pages", say=str)
        assert all(page.read_text() for page in (Path(folder) / "pages").iterdir())


names = st.text(max_size=8)
fields = st.dictionaries(
    names,
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | names,
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=3),
        max_leaves=6,
    ),
    max_size=4,
)
series = st.lists(st.tuples(st.integers(-(2**63), 2**63 - 1), st.floats()), max_size=4, unique_by=lambda p: p[0])


@cases(100)
@given(fields, st.dictionaries(st.text(min_size=1, max_size=8), st.tuples(st.floats(), series), max_size=3), names)
def test_what_is_written_is_read(protocol, metrics, label):
    metrics = {
        name: {"last": last, "steps": sorted(s for s, _ in points), "values": [v for _, v in sorted(points)]}
        for name, (last, points) in metrics.items()
    }
    protocol = {k: v for k, v in protocol.items() if k != "protocol_version"}
    before = RunFile.model_validate(sound(protocol=protocol, stream_label=label, metrics=metrics))
    text = before.text()
    after = RunFile.of_text(text.encode())
    assert after.text() == text and text.isascii()
    assert (after.protocol, after.stream_label, after.started) == (before.protocol, label, before.started)
    assert repr(sorted(after.metrics.items())) == repr(sorted(before.metrics.items()))
