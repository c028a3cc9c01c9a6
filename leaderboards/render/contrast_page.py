"""The page of a contrast as markdown. Nothing is computed here."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from leaderboards.glossary import Measure
from leaderboards.numbers.contrast import ALL, Contrast, Line
from leaderboards.numbers.report import parting_fields, provenance
from leaderboards.render.index_page import INDEXED
from leaderboards.render.markup import cell, code, escape, explained, images, pipe, provenance_list, signed, value_text


def contrast_page(contrasts: Sequence[Contrast], field: str) -> str:
    """The page of the contrasts of one field: a section for each board and pair of values."""
    parts = [
        f"# Contrast: {escape(field)}",
        f"Runs that differ in {code(field)} alone: the same images and strategy variant, otherwise the same protocol, "
        "paired by seed. The reference is the value that most runs have.",
    ]
    parting = parting_fields([contrast.board for contrast in contrasts], INDEXED)
    measures = {one.key: one for contrast in contrasts for one in _contrasted_measures(contrast)}
    for contrast in contrasts:
        protocol = contrast.board.protocol
        fields = [
            f"{name} {value_text(protocol[name])}" for name in [*INDEXED, *parting] if protocol.get(name) is not None
        ]
        lead = f"{images(contrast.board)} Protocol: {escape(', '.join(fields))}. Variants: {len(contrast.lines)}."
        if contrast.unpaired:
            lead += f" Left out: {contrast.unpaired} without a common seed."
        parts += [
            f"## {escape(f'{contrast.board.label}: {field} {contrast.other} against {contrast.reference}')}",
            lead,
            _contrasted(contrast),
        ]
    runs = pd.concat([contrast.board.runs for contrast in contrasts])
    parts += [
        "## Columns",
        "- Seeds: those with a run under both values; everything else is over them.\n"
        + "".join(f"{explained(one)}\n" for one in measures.values())
        + "- Difference: the mean of the paired differences, value minus reference. Means and differences are given "
        "± half the width of their 95 % t interval over seeds.\n"
        "- p: of the paired t test; p (Holm): corrected over all variants of this page, each metric by itself.\n"
        "- Training time ratio: geometric mean of the paired ratios of `time/train_seconds`, value / reference, of "
        "pairs on the same hardware: wall time, which means something where both had the same load.\n"
        f"- {ALL}: averaged over the variants within each seed first. Runs of one seed share split and "
        "initialisation: pairs of different variants are not independent, so that the interval and p are over "
        "seeds. It is no part of Holm's correction.",
        "## Provenance",
        provenance_list(provenance(runs), runs.started.min(), runs.started.max()),
    ]
    return "\n\n".join(parts) + "\n"


def _contrasted_measures(contrast: Contrast) -> list[Measure]:
    """Those that some line has: accuracy over experiences is no measure of a stream that does not shift."""
    return [one for one in contrast.board.glossary.in_place("contrast") if one.key in contrast.pooled.compared]


def _contrasted(contrast: Contrast) -> str:
    headers = ["Strategy", "Seeds"]
    for one in _contrasted_measures(contrast):
        headers += [f"{one.title}, {contrast.reference}", f"{one.title}, {contrast.other}"]
        headers += [f"{one.title} difference", "p", "p (Holm)"]
    headers.append(f"Training time ratio, {contrast.other} / {contrast.reference}")
    measures = _contrasted_measures(contrast)
    rows = [_contrast_cells(line, measures) for line in (*contrast.lines, contrast.pooled)]
    return pipe(rows, [escape(header) for header in headers])


def _contrast_cells(line: Line, measures: Sequence[Measure]) -> list[str]:
    cells = [escape(line.name), str(line.seeds)]
    for measure in measures:
        compared = line.compared.get(measure.key)
        if compared is None:
            cells += ["-"] * 5
            continue
        cells += [cell(compared.reference, measure), cell(compared.other, measure)]
        cells.append(cell(compared.comparison.difference, signed(measure)))
        cells += ["-" if p is None else f"{p:.3f}" for p in (compared.comparison.p, compared.corrected)]
    return [*cells, "-" if line.time_ratio is None else f"{line.time_ratio:.3f}"]
