"""Colours of figures, for any kind of colour vision."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest

from leaderboards.render.canvas import COLOURS

BACKGROUNDS = {"light": "#ffffff", "dark": "#0d1117"}

VISION = {
    "common": np.eye(3),
    "protanopia": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deuteranopia": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
    "tritanopia": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]],
}
"""Machado, Oliveira and Fernandes 2009, table of severity 1.0, on linear sRGB."""

TO_XYZ = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])


def linear(colour):
    channels = np.array([int(colour[place : place + 2], 16) for place in (1, 3, 5)]) / 255
    return np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)


def lab(rgb):
    """CIELAB of linear sRGB, under D65."""
    x, y, z = TO_XYZ @ np.clip(rgb, 0, 1) / np.array([0.9505, 1.0, 1.089])
    x, y, z = (np.cbrt(one) if one > 0.008856 else 7.787 * one + 16 / 116 for one in (x, y, z))
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


@pytest.mark.parametrize("scheme", COLOURS)
def test_names_are_read_on_their_background(scheme):
    """WCAG 2: 4.5 to 1 for text; names have the colours of their lines."""
    own = COLOURS[scheme]
    for colour in (own.ink, own.faint, *own.lines):
        darker, lighter = sorted(float(TO_XYZ[1] @ linear(one)) for one in (colour, BACKGROUNDS[scheme]))
        assert (lighter + 0.05) / (darker + 0.05) >= 4.5, colour


@pytest.mark.parametrize("vision", VISION)
@pytest.mark.parametrize("scheme", COLOURS)
def test_lines_are_told_apart(scheme, vision):
    """A distance of 2.3 is just seen, side by side; thin lines need several times that."""
    own = COLOURS[scheme]
    seen = {colour: lab(np.array(VISION[vision]) @ linear(colour)) for colour in (own.ink, *own.lines)}
    near = {pair: np.linalg.norm(seen[pair[0]] - seen[pair[1]]) for pair in combinations(seen, 2)}
    assert min(near.values()) > 19, min(near, key=near.get)
