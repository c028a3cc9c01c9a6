"""Densities of layers: from series to a figure."""

from __future__ import annotations

import math
import re
from dataclasses import replace
from xml.etree import ElementTree

import numpy as np
import pytest
from mlflow.entities import Metric

from leaderboards.glossary import Measure, to_tags
from leaderboards.numbers.layers import densities
from leaderboards.numbers.report import LayerDensities
from leaderboards.numbers.reported import reported as read
from leaderboards.publish import publish
from leaderboards.render.canvas import COLOURS
from leaderboards.render.heat_map import BOUNDS, colour_of
from leaderboards.render.pictures import path_of, pictures
from leaderboards.render.plots import draw

FIRST, SECOND = "density/001 conv1", "density/002 conv2"


def test_values_are_means_over_seeds_and_what_is_not_recorded_was_whole(reported):
    row = reported({"late": {"a": [1.0, 2.0, 3.0]}}).rows[0].row
    one, other, _ = row.runs.run_id
    # The third seed is from before layers were recorded.
    series = {(one, FIRST): {2: 0.5, 3: 0.2}, (one, SECOND): {2: 0.4, 3: 0.4}}
    series |= {(other, FIRST): {3: 0.4}, (other, SECOND): {3: 0.2}}
    found = densities(row, [SECOND, FIRST], series)
    assert found.layers == ["001 conv1", "002 conv2"]
    assert found.values == pytest.approx(np.array([[1.0, 0.75, 0.3], [1.0, 0.7, 0.3]]))
    assert densities(row, [FIRST], {}) is None


def test_each_stretch_of_densities_has_its_colour():
    scheme = COLOURS["light"]
    inside = [0.001, *((low + high) / 2 for low, high in zip(BOUNDS, (*BOUNDS[1:], 1), strict=True))]
    assert [colour_of(value, scheme) for value in inside] == list(reversed(scheme.heat))
    assert [colour_of(value, scheme) for value in BOUNDS] == list(reversed(scheme.heat))[:-1]
    assert colour_of(1.0, scheme) == colour_of(math.inf, scheme) == scheme.heat[0]
    assert {colour_of(value, scheme) for value in (0.0, -1.0, math.nan)} == {scheme.lines[1]}


@pytest.mark.parametrize("name", ["APP", "<script>alert(1)</script> & ]]>", "$\\frac{a}{$" + "x" * 500])
@pytest.mark.parametrize("shape", [(1, 1), (19, 10), (3, 1), (1, 4)])
def test_the_figure_holds_every_row_that_has_layers(reported, name, shape):
    report = reported({"dense": {"a": [0.1]}, name: {"a": [0.2]}, "OSP": {"a": [0.3]}})
    assert "layers" not in [one.name for one in pictures(report)]
    values = np.linspace(0, 1, math.prod(shape)).reshape(shape)
    layers = LayerDensities([f"{number:03}" for number in range(shape[0])], values)
    rows = [row if row.row.name == "dense" else replace(row, layers=layers) for row in report.rows]
    drawn = draw(replace(report, rows=rows))
    light, dark = (drawn[path_of(report.board.file_name, "layers", scheme)] for scheme in ("light", "dark"))
    texts = ["".join(one.itertext()) for one in ElementTree.fromstring(light).iter("{http://www.w3.org/2000/svg}text")]
    assert "OSP" in texts and "dense" not in texts and any(text.startswith(name[:5]) for text in texts)
    assert not re.search(r"<(image|script)|\b(nan|inf)\b", light)
    assert set(COLOURS["dark"].heat) <= set(re.findall("#[0-9a-f]{6}", dark)) and len(light) < 100_000


def test_layers_are_read_from_a_store_for_figures_alone(store, tmp_path):
    for strategy in ("dense", "APP"):
        run_id = store.add(strategy, anytime__cer_rate=0.2)
        if strategy == "APP":
            points = [Metric(name, 0.9 / step, step, step) for name in (FIRST, SECOND) for step in (1, 2, 3)]
            store.client.log_batch(run_id, points)
    family = Measure("density/:layer", "Density of a layer", "nonzero weights of one layer", "fraction")
    for tag, text in to_tags([family]).items():
        store.client.set_experiment_tag(store.experiment, tag, text)
    [report] = publish([store.uri], tmp_path / "out", figures=True)
    shown = {row.row.name: row.layers for row in report.rows}
    assert shown["dense"] is None and shown["APP"].values[0] == pytest.approx([0.9, 0.45, 0.3])
    page = (tmp_path / "out" / report.board.file_name).read_text()
    assert "layers-light.svg" in page and "density/" not in page
    assert all(row.layers is None for row in read([store.uri]).reports[0].rows)
