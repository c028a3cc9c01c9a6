"""The numbers of a board."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from leaderboards.glossary import Measure
from leaderboards.numbers.fronts import pareto
from leaderboards.numbers.report import DRAWN

RATE, BYTES, ACCURACY = "anytime/cer_rate", "size/bytes_bitmask", "test/accuracy"
ACC, MEMORY = "continual/accuracy", "size/memory_bytes"

CONTINUAL = (
    Measure(ACC, "ACC", "mean over experiences", "fraction", better=1, key="acc"),
    Measure(MEMORY, "Memory", "kept", "bytes", better=-1, key="memory"),
)


def best(found, key):
    return {row.row.name for row in found.rows if key in row.cells and row.cells[key].best}


def names(found, ranks):
    return [found.rows[rank - 1].row.name for rank in ranks]


def test_best_are_the_best_and_those_not_told_apart_from_it(reported):
    trend, wobble = 0.02 * np.arange(5), np.array([0.02, -0.02, 0.01, -0.01, 0.0])
    equal = {ACCURACY: [0.5] * 5}
    found = reported(
        {
            "a": {RATE: 0.20 + trend, **equal},
            "b": {RATE: 0.21 + trend + wobble, **equal},
            "c": {RATE: 0.30 + trend + wobble, **equal},
            "d": {RATE: [0.25]},
        }
    )
    assert best(found, "cer_rate") == {"a", "b"}, "c is told apart, d cannot be tested"
    assert best(found, "accuracy") == set(), "all are equal"
    assert names(found, found.leaders) == ["a", "b"] and names(found, found.untested) == ["d"]


def test_who_is_best_is_corrected_for_the_number_of_rows(reported):
    differences = np.array([0.02, 0.03, 0.04, 0.05, 0.05])  # p .0029
    others = {f"b{number:02}": {RATE: 0.2 + differences + 1e-6 * number} for number in range(20)}
    assert best(reported({"a": {RATE: [0.2] * 5}, "b": others["b00"]}), "cer_rate") == {"a"}
    assert len(best(reported({"a": {RATE: [0.2] * 5}, **others}), "cer_rate")) == 21


def test_a_difference_within_the_margin_is_told_from_one_that_is_not_shown(reported):
    dense, wobble = 0.2 + 0.01 * np.arange(5), 0.001 * (np.arange(5) - 2)
    rows = {"dense": dense, "same": dense + wobble, "near": dense + 0.005 + wobble, "loose": dense + 30 * wobble}
    found = {
        row.row.name: row.against_baseline.get("cer_rate")
        for row in reported({name: {RATE: values} for name, values in rows.items()}).rows
    }
    assert found["dense"] is None
    said = {name: (one.differs, one.within_margin) for name, one in found.items() if one is not None}
    assert said == {"same": (False, True), "near": (True, True), "loose": (False, False)}
    # The standard deviation of 30 wobbles is .0474, 4.74 times the point that is looked for: Cohen's d is .211.
    assert found["loose"].seeds_needed == 179 and found["same"].seeds_needed == 3


def test_the_front_has_what_nothing_beats_in_both(reported):
    rows = {"a": (0.5, 10), "b": (0.3, 20), "c": (0.3, 20), "d": (0.4, 30), "e": (0.1, 90), "f": (0.3, 25)}
    found = reported({name: {RATE: [r], BYTES: [b]} for name, (r, b) in rows.items()} | {"g": {RATE: [0.01]}})
    [front] = found.fronts
    assert front.cost.key == "bytes"
    assert names(found, front.ranks) == ["a", "b", "c", "e"]


def test_where_the_stream_shifts_accuracy_is_weighed_against_all_that_is_kept(reported):
    rows = {"a": (0.5, 30, 10), "b": (0.7, 10, 20), "c": (0.6, 5, 25), "d": (0.9, 10, 90)}
    metrics = {name: {ACC: [acc], BYTES: [stored], MEMORY: [kept]} for name, (acc, stored, kept) in rows.items()}
    found = reported(metrics, CONTINUAL)
    [front] = found.fronts
    assert (front.cost.name, front.merit.name) == (MEMORY, ACC)
    assert names(found, front.ranks) == ["a", "b", "d"]
    del metrics["b"][MEMORY]
    found = reported(metrics, CONTINUAL)
    [front] = found.fronts
    assert front.cost.name == BYTES, "what a row does not say cannot be compared"
    assert names(found, front.ranks) == ["c", "d"]


def test_costs_in_which_all_rows_are_equal_have_no_front(reported):
    assert reported({"a": {RATE: [0.1], BYTES: [7]}, "b": {RATE: [0.2], BYTES: [7]}}).fronts == []


coordinates = st.one_of(st.integers(0, 5).map(float), st.just(float("nan")), st.just(float("inf")))


@given(st.dictionaries(st.integers(1, 20), st.tuples(coordinates, coordinates)))
def test_a_point_is_on_the_front_unless_another_is_better(points):
    known = {name: point for name, point in points.items() if all(map(np.isfinite, point))}

    def beaten(point):
        return any(o != point and o[0] <= point[0] and o[1] <= point[1] for o in known.values())

    assert set(pareto(points)) == {name for name, point in known.items() if not beaten(point)}


def test_figures_show_dense_and_the_first_of_each_group(reported):
    order = ["SWA", *(f"third{number}" for number in range(9)), "OSP", "RigL", "dense"]
    found = reported({name: {RATE: [0.1 + 0.01 * number]} for number, name in enumerate(order)})
    shown = names(found, found.drawn)
    assert shown == ["SWA", "third0", "third1", "third2", "third3", "OSP", "RigL", "dense"] and len(shown) == DRAWN


def test_bytes_are_weighed_against_the_dense_network(reported):
    found = reported({"a": {BYTES: [10, 20], "size/dense_bytes_bitmask": [40, 40]}, "b": {BYTES: [20]}})
    ratios = {row.row.name: row.bytes_ratio for row in found.rows}
    assert ratios["a"].mean == pytest.approx(0.375) and ratios["b"] is None
