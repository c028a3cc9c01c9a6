"""The glossary travels with the store: what is written is read, and what is damaged is passed over."""

from __future__ import annotations

import json
from dataclasses import asdict

import pytest

from leaderboards.errors import BoardError
from leaderboards.glossary import TAG, Glossary, Measure, from_tags, to_tags
from leaderboards.numbers.boards import boards
from leaderboards.numbers.report import report
from leaderboards.render.board_page import board_page
from leaderboards.sources.collect import collect

SPEED = Measure("a/speed", "Speed", "how fast", "m/s", "{:.1f}", 1, "speed", 5, ("board", "runs"))
SLOTH = Measure("a/sloth", "Sloth", "how slow", "s/m", position=2)


def test_what_is_written_is_read_in_order_of_position():
    found = from_tags({**to_tags([SPEED, SLOTH]), "other": "tag"})
    assert list(found.values()) == [SLOTH, SPEED]
    assert found.find("speed") is found.find("a/speed") is found["a/speed"]
    assert found.find("haste") is None
    assert found.in_place("board") == [SPEED]


def test_one_measure_may_explain_a_family_of_metrics():
    family = Measure("layer/:name", "Of a layer", "how much", "fraction")
    found = from_tags(to_tags([SPEED, family, own := Measure("layer/first", "First", "the first", "")]))
    assert found["layer/second"] == found["layer/a/b"] == family and found["layer/first"] == own
    assert "layer/third" in found and "layer" not in found and "layers/x" not in found and "a/:name" not in found
    assert len(found) == 3 and found.completed(["layer/second", "b"]).keys() - found.keys() == {"b"}


@pytest.mark.parametrize("damaged", ["", "[]", "{", "3", '{"name": "a/speed"}', '{"form": "{:q}"}'])
def test_damaged_entries_are_passed_over(damaged):
    assert list(from_tags({**to_tags([SLOTH]), TAG + "a/speed": damaged})) == ["a/sloth"]


def test_fields_and_places_of_later_versions_are_left_out():
    later = {**asdict(SPEED), "colour": "red", "places": ["board", "moon"]}
    [found] = from_tags({TAG + "a/speed": json.dumps(later)}).values()
    assert found.places == ("board",) and found.title == "Speed"


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"places": ("moon",)}, "'moon'"),
        ({"better": 2}, "-1, 0 or 1"),
        ({"form": "{:q}"}, "no format"),
        ({"title": ""}, "needs a name and a title"),
    ],
)
def test_impossible_measures_are_refused(wrong, said):
    with pytest.raises(ValueError, match=said):
        Measure(**{**asdict(SPEED), **wrong})


def test_key_and_heading_default_to_name_and_title():
    assert (SLOTH.key, SLOTH.short) == ("a/sloth", "Sloth")


def test_of_two_stores_the_later_one_explains():
    newer = Measure("a/speed", "Velocity", "how fast", "m/s")
    assert (Glossary([SPEED]) | Glossary([newer]))["a/speed"].title == "Velocity"


def test_a_new_measure_is_a_column_and_sorts(store):
    for tag, text in to_tags([SPEED]).items():
        store.client.set_experiment_tag(store.experiment, tag, text)
    store.add("slow", a__speed=1.0, anytime__cer_rate=0.1)
    store.add("fast", a__speed=2.0, anytime__cer_rate=0.2)
    [board] = boards(collect(store.uri), sort="speed")
    assert [row.name for row in board.rows] == ["fast", "slow"]
    page = board_page(report(board))
    assert (
        "Speed" in page.split("<summary>Every run</summary>")[1] and "**2.0**" in page and "- Speed: how fast." in page
    )


def test_what_no_glossary_explains_is_shown_under_its_own_name_and_has_no_merit(store):
    store.add("one", old__metric=1.0)
    store.add("two", old__metric=2.0)
    [board] = boards(collect(store.uri))
    page = board_page(report(board))
    assert "old/metric" in page.split("\n|")[1] and "**1" not in page and "**2" not in page
    with pytest.raises(BoardError, match="old/metric"):
        boards(collect(store.uri), sort="beauty")


def test_a_store_without_any_glossary_is_still_sorted_by_cer(tmp_path, store):
    for name in list(store.client.get_experiment(store.experiment).tags):
        store.client.delete_experiment_tag(store.experiment, name)
    for strategy, rate in (("b", 0.1), ("a", 0.2)):
        store.add(strategy, anytime__cer_rate=rate)
    [board] = boards(collect(store.uri))
    assert [row.name for row in board.rows] == ["b", "a"]
