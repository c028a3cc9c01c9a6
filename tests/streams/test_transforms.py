"""Batched transforms do to each image what the plain per-image ones do."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import chisquare

from benchmark.streams.loading.images import Images, channel_statistics
from benchmark.streams.loading.transforms import CropAndFlip, Normalise, TrainTransform

resolutions = st.sampled_from([4, 8, 12, 16])


def seeded(seed):
    return torch.Generator().manual_seed(seed)


def noise(batch, channels, side, seed=0):
    """Random images without zeros, so that padding can be told from the image."""
    return torch.randint(1, 256, (batch, channels, side, side), generator=seeded(seed)).to(torch.uint8)


def crop_and_flip(image, down, right, flip, padding):
    """One image, the plain way: pad with zeros, cut out, mirror."""
    side = image.shape[-1]
    padded = np.pad(image.numpy(), ((0, 0), (padding, padding), (padding, padding)))
    cut = padded[:, down : down + side, right : right + side]
    return cut[:, :, ::-1] if flip else cut


def draws_that_explain(before, after, padding, flips=(False, True)):
    """All (down, right, flip) for which the plain transform of ``before`` is ``after``."""
    shifts = range(2 * padding + 1)
    candidates = [(down, right, flip) for down in shifts for right in shifts for flip in flips]
    return [draw for draw in candidates if np.array_equal(crop_and_flip(before, *draw, padding), after.numpy())]


@given(resolutions, st.integers(1, 5), st.sampled_from([1, 3]), st.integers(0, 1000))
def test_every_image_is_a_crop_and_flip_of_itself(side, batch, channels, seed):
    images = noise(batch, channels, side, seed)
    result = CropAndFlip(side, flip=True)(images, seeded(seed))
    assert (result.shape, result.dtype) == (images.shape, torch.uint8)
    for before, after in zip(images, result, strict=True):
        assert len(draws_that_explain(before, after, padding=max(1, side // 8))) == 1


def test_images_of_32_pixels_are_padded_by_4():
    images = noise(64, 1, 32)
    results = CropAndFlip(32, flip=True)(images, seeded(0))
    draws = [draws_that_explain(*pair, padding=4) for pair in zip(images, results, strict=True)]
    assert all(len(found) == 1 for found in draws)
    assert {found[0][0] for found in draws} == {found[0][1] for found in draws} == set(range(9))


def test_offsets_and_flips_are_uniform_and_independent_of_each_other():
    images = noise(1, 1, 8).expand(1800, 1, 8, 8)
    found = [draws_that_explain(images[0], after, 1)[0] for after in CropAndFlip(8, flip=True)(images, seeded(0))]
    counts = np.zeros((3, 3, 2))
    for down, right, flip in found:
        counts[down, right, int(flip)] += 1
    assert chisquare(counts.ravel()).pvalue > 0.001


@given(st.integers(0, 1000), st.integers(0, 4))
def test_an_image_is_transformed_independently_of_its_neighbours(seed, position):
    images, others = noise(5, 3, 8), noise(5, 3, 8, seed=1)
    others[position] = images[position]
    transform = CropAndFlip(8, flip=True)
    assert torch.equal(transform(images, seeded(seed))[position], transform(others, seeded(seed))[position])


def test_the_draws_come_from_the_generator_alone():
    images, transform = noise(16, 3, 8), CropAndFlip(8, flip=True)
    torch.manual_seed(0)
    state = torch.get_rng_state()
    first = transform(images, seeded(0))
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(1)
    assert torch.equal(transform(images, seeded(0)), first)
    assert not torch.equal(transform(images, seeded(1)), first)


def test_without_flip_nothing_is_mirrored_and_the_crops_stay_the_same():
    images = noise(64, 1, 8)
    plain, mirrored = (CropAndFlip(8, flip=flip)(images, seeded(0)) for flip in (False, True))
    for image, first, second in zip(images, plain, mirrored, strict=True):
        (draw,) = draws_that_explain(image, first, 1)
        (other,) = draws_that_explain(image, second, 1)
        assert draw[:2] == other[:2]
        assert draw[2] is False


def test_the_original_images_stay_as_they_are():
    images = noise(4, 3, 8)
    copy = images.clone()
    CropAndFlip(8, flip=True)(images, seeded(0))
    Normalise((0.5,) * 3, (0.5,) * 3)(images)
    assert torch.equal(images, copy)


@given(st.lists(st.tuples(st.floats(0, 1), st.floats(0.05, 1)), min_size=1, max_size=3))
def test_normalisation_is_the_textbooks(statistics):
    mean, std = zip(*statistics, strict=True)
    images = noise(2, len(mean), 4)
    expected = (images.numpy() / 255 - np.reshape(mean, (-1, 1, 1))) / np.reshape(std, (-1, 1, 1))
    normalised = Normalise(mean, std)(images)
    assert normalised.dtype == torch.float32
    np.testing.assert_allclose(normalised.numpy(), expected, atol=1e-4)
    for image, whole in zip(images, normalised, strict=True):
        assert torch.equal(Normalise(mean, std)(image), whole)


def test_normalising_by_its_own_statistics_centres_a_data_set():
    pixels = noise(200, 3, 8).numpy()
    pixels[:, 1] //= 3
    normalised = Normalise(*channel_statistics(Images(pixels, np.zeros(200))))(torch.from_numpy(pixels))
    assert normalised.mean((0, 2, 3)).abs().max() < 1e-3
    assert normalised.std((0, 2, 3)).sub(1).abs().max() < 1e-3


@pytest.mark.parametrize("seed", range(3))
def test_the_per_sample_form_equals_a_batch_of_one(seed):
    augment, normalise = CropAndFlip(8, flip=True), Normalise((0.5,) * 3, (0.25,) * 3)
    image = noise(1, 3, 8)
    torch.manual_seed(seed)
    alone = TrainTransform(augment, normalise)(image[0])
    torch.manual_seed(seed)
    assert torch.equal(alone, normalise(augment(image))[0])
