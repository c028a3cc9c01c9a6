"""Stand-in images are a pure function of (version, part, class, index)."""

from __future__ import annotations

import numpy as np
import pytest

from benchmark.streams.sources.synthetic import stand_in

GOLDEN = "c82150a11601bd01"
"""Fingerprint of a small stand-in of version 1: where this test fails and the change is meant, bump VERSION."""


@pytest.fixture
def make(request_for):
    """Function: sizes -> a stand-in stream."""

    def stream(classes=3, train_per_class=5, test_per_class=2, **options):
        sizes = {"classes": classes, "train_per_class": train_per_class, "test_per_class": test_per_class}
        return stand_in("small", request_for(**options), **sizes)

    return stream


def by_class(part, label):
    return np.asarray(part.pixels[part.targets == label])


def test_the_pixels_of_version_1_are_what_they_always_were(make):
    data = make()
    assert data.version == 1
    assert data.fingerprint == GOLDEN


def test_a_stream_has_the_asked_sizes_and_says_what_it_is(make):
    data = make()
    assert np.bincount(data.train.targets).tolist() == [5, 5, 5]
    assert np.bincount(data.test.targets).tolist() == [2, 2, 2]
    assert data.train.pixels.shape == (15, 3, 8, 8)
    assert (data.source, len(data.classes)) == ("synthetic", 3)


@pytest.mark.parametrize("more", [6, 64, 65, 130])
def test_the_first_images_of_a_class_are_the_same_however_many_follow(make, more):
    few, many = make(), make(classes=4, train_per_class=more, test_per_class=more)
    for label in range(3):
        np.testing.assert_array_equal(by_class(few.train, label), by_class(many.train, label)[:5])
        np.testing.assert_array_equal(by_class(few.test, label), by_class(many.test, label)[:2])


def test_no_two_images_are_the_same_whatever_their_part_or_class(make):
    data = make(classes=16, train_per_class=70, test_per_class=70)
    pixels = np.concatenate([data.train.pixels, data.test.pixels]).reshape(2 * 16 * 70, -1)
    assert len(np.unique(pixels, axis=0)) == len(pixels)


def test_images_depend_on_nothing_global(make, tmp_path):
    np.random.seed(0)
    first = make()
    np.random.seed(1)
    assert make(cache=tmp_path / "another").fingerprint == first.fingerprint


def test_images_are_made_once_for_each_cache(make, tmp_path):
    make()
    written = {path: path.stat().st_mtime_ns for path in (tmp_path / "cache").iterdir()}
    make()
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "cache").iterdir()} == written


def test_mean_colour_alone_does_not_give_the_class_away(make):
    """Nearest class mean, on fresh images."""
    data = make(classes=14, train_per_class=64, test_per_class=32, resolution=16)
    colours = [part.pixels.mean((2, 3)) for part in (data.train, data.test)]
    centres = np.stack([colours[0][data.train.targets == label].mean(0) for label in range(14)])
    nearest = ((colours[1][:, None] - centres) ** 2).sum(-1).argmin(1)
    assert (nearest == data.test.targets).mean() < 0.5


def test_statistics_are_those_of_the_training_images(make):
    data = make()
    np.testing.assert_allclose(data.mean, (data.train.pixels / 255).mean((0, 2, 3)), atol=1e-4)
    np.testing.assert_allclose(data.std, (data.train.pixels / 255).std((0, 2, 3)), atol=1e-4)
