"""Which density APP trains at, and which one the authors' public code trains at."""

from __future__ import annotations

import pytest

from benchmark.config.profiles import resolve
from benchmark.running.prepare import prepare
from benchmark.running.run import run

AUTHORS_CODE = [0.800, 0.581, 0.382, 0.232, 0.130, 0.068, 0.035, 0.018]
"""Density that the authors' public code trains at (SNIP, ResNet-20s, tau 4.5, B = 8), read from its weights."""

PRUNABLE = 267_696
"""Weights of the 19 convolutions of ResNet-20s for 3 input channels."""

pytestmark = pytest.mark.slow


def densities(strategy: str, cache, resolution: int = 32) -> list[tuple[float, float]]:
    """(density, nonzeros) of the weights handed over after each of 8 megabatches of stand-in images."""
    options = {"stream": "synthetic", "strategy": strategy, "megabatches": 8, "epochs": 1, "shots": 40}
    options["resolution"] = resolution
    config = resolve({**options, "test_shots": 2, "model": "resnet20s"}, profile="demo")
    result = run(prepare(config, data_root="data", cache=cache))
    return list(zip(result.series["size/density"][1], result.series["size/nonzeros"][1], strict=True))


def test_the_reference_trains_as_sparse_as_the_authors_code(tmp_path):
    found = [density for density, _ in densities("APP-reference", tmp_path, resolution=16)]
    assert found == pytest.approx(AUTHORS_CODE, abs=0.03)
    # The absolute tolerance says little at the end: the sparsest ones are far below what the code logs there.
    assert found[-1] < 0.05 < 0.366


def test_app_applies_its_schedule_to_the_weight(tmp_path):
    scheduled = [round(0.8 ** (1 + 3.5 * t / 7) * PRUNABLE) for t in range(8)]
    # How many are kept depends on no image.
    assert [nonzeros for _, nonzeros in densities("APP", tmp_path, resolution=8)] == scheduled
    assert scheduled[-1] / PRUNABLE == pytest.approx(0.366, abs=5e-4)
