"""The charts of the page, as Vega-Lite. Data, words and kinds of scales are put in by the page, for what is picked."""

from __future__ import annotations

from functools import cache
from typing import Any, Literal

import altair as alt

STEP = "Megabatch"

PALETTE: Any = {"field": "colour", "type": "nominal", "scale": None, "legend": None}
"""Colours come with the data: those of the rows that are picked."""


@cache
def charts() -> dict[str, dict[str, Any]]:
    """Name of a chart -> its specification, with words such as ``$X`` to be put in."""
    return {"curves": _curves(), "pareto": _pareto("linear"), "pareto log": _pareto("log"), "dots": _dots()}


def _specification(chart: alt.LayerChart | alt.FacetChart) -> dict[str, Any]:
    found: dict[str, Any] = chart.properties(width="container", height="container").to_dict()
    for name in ("$schema", "config"):
        found.pop(name, None)
    return found


def _curves() -> dict[str, Any]:
    """Means over the megabatches, with their bands, and a line where the pointer is."""
    base = alt.Chart(alt.NamedData("curves")).encode(
        x=alt.X(
            "step:Q",
            title=STEP,
            axis=alt.Axis(format="d", tickMinStep=1, grid=False),
            scale=alt.Scale(zero=False, nice=False, padding=6),
        ),
        detail="row:N",
    )
    y: Any = {"title": "$Y", "scale": alt.Scale(zero=False, nice=True)}
    near = alt.selection_point(
        name="near", fields=["step"], nearest=True, on="pointermove", clear="pointerout", empty=False
    )
    band = base.mark_area(opacity=0.14).encode(y=alt.Y("low:Q", **y), y2="high:Q", fill=alt.Fill(**PALETTE))
    line = base.mark_line(strokeWidth=2.25, strokeJoin="round").encode(
        y=alt.Y("mean:Q", **y),
        color=alt.Color(**PALETTE),
        strokeDash=alt.StrokeDash("dash:N", scale=None, legend=None),
    )
    points = (
        base.mark_point(filled=True, size=52)
        .encode(
            y=alt.Y("mean:Q", **y),
            color=alt.Color(**PALETTE),
            opacity=alt.condition(near, alt.value(1), alt.value(0)),
            tooltip=alt.Tooltip("step:Q"),
        )
        .add_params(near)
    )
    rule = base.mark_rule(strokeWidth=1).encode(opacity=alt.condition(near, alt.value(0.3), alt.value(0)))
    return _specification(alt.layer(rule, band, line, points))


def _pareto(scale: Literal["linear", "log"]) -> dict[str, Any]:
    """Each row as a point: what it costs, and what it brings; rows that are picked have their colours and intervals."""
    base = alt.Chart(alt.NamedData("pareto"))
    x: Any = {
        "title": "$X",
        "scale": alt.Scale(type="log", nice=True) if scale == "log" else alt.Scale(zero=False, nice=True),
        "axis": alt.Axis(format="$XFORM", tickCount=5, labelOverlap=True),
    }
    y: Any = {"title": "$Y", "scale": alt.Scale(zero=False, nice=True)}
    front = (
        base.transform_filter("datum.front")
        .mark_line(strokeWidth=1.5, strokeDash=[5, 4], opacity=0.7, interpolate="step-after")
        .encode(x=alt.X("x:Q", **x), y=alt.Y("y:Q", **y), order="x:Q", color=alt.value("$MUTED"))
    )
    # Rows that are not picked have intervals without a length.
    up = base.mark_rule(strokeWidth=1.5).encode(
        x=alt.X("x:Q", **x), y=alt.Y("low:Q", **y), y2="high:Q", color=alt.Color(**PALETTE)
    )
    along = base.mark_rule(strokeWidth=1.5).encode(
        x=alt.X("left:Q", **x), x2="right:Q", y=alt.Y("y:Q", **y), color=alt.Color(**PALETTE)
    )
    points = base.mark_point(filled=True, opacity=1, stroke="$SURFACE", strokeWidth=1.5).encode(
        x=alt.X("x:Q", **x),
        y=alt.Y("y:Q", **y),
        fill=alt.Fill(**PALETTE),
        size=alt.Size("size:Q", scale=None, legend=None),
        order="size:Q",
        tooltip=alt.Tooltip("row:Q"),
    )
    return _specification(alt.layer(front, up, along, points))


def _dots() -> dict[str, Any]:
    """Every seed of what is picked, a line a row, with its mean and interval."""
    y = alt.Y("row:N", title=None, sort=None, axis=None, scale=alt.Scale(padding=0))
    x: Any = {
        "title": "$X",
        "scale": alt.Scale(zero=False, nice=True),
        "axis": alt.Axis(tickCount=6, labelOverlap=True),
    }
    means = alt.Chart(alt.NamedData("means")).encode(y=y, color=alt.Color(**PALETTE))
    interval = means.mark_rule(strokeWidth=7, opacity=0.22, strokeCap="round").encode(
        x=alt.X("low:Q", **x), x2="high:Q"
    )
    mean = means.mark_tick(thickness=2.5, size=22).encode(x=alt.X("mean:Q", **x))
    dots = (
        alt.Chart(alt.NamedData("dots"))
        .mark_point(filled=True, size=64, opacity=0.85, stroke="$SURFACE", strokeWidth=1)
        .encode(x=alt.X("value:Q", **x), y=y, fill=alt.Fill(**PALETTE), tooltip=alt.Tooltip("seed:N"))
    )
    return _specification(alt.layer(interval, dots, mean))
