"""What is large or small and yet allowed: a run of it ends as others do."""

from __future__ import annotations

import sys

import pytest

from benchmark.config.profiles import resolve
from benchmark.config.run_config import LARGEST, LAYER_DENSITIES, MOST
from benchmark.running.prepare import prepare
from benchmark.running.run import run
from strategies.learning.divergence import Diverged

pytestmark = pytest.mark.slow

TINY = {
    "stream": "digits",
    "strategy": "APP",
    "model": "mlp",
    "megabatches": 2,
    "epochs": 1,
    "shots": 20,
    "test_shots": 5,
}


@pytest.fixture
def series(tmp_path):
    """Function: options -> what is measured in a run of them, but for its time and memory."""

    def measured(**options):
        prepared = prepare(resolve({**TINY, **options}, profile="demo"), data_root=tmp_path, cache=tmp_path)
        found = run(prepared).series
        return {name: values for name, (_, values) in found.items() if not name.startswith(("time/", "memory/"))}

    return measured


def test_a_batch_larger_than_the_images_is_all_of_them(series):
    assert series(batch_size=200) == series(batch_size=MOST) != series(batch_size=20)


@pytest.mark.parametrize(
    "options",
    [
        {"layer_density": {"*": LAYER_DENSITIES[0], "1": LAYER_DENSITIES[1]}, "scope": "custom"},
        {"layer_density": {"*": LAYER_DENSITIES[1]}, "scope": "custom"},
        {"buffer_size": MOST, "replay": "buffer"},
        {"score_fraction": sys.float_info.min, "val_fraction": sys.float_info.min},
    ],
    ids=str,
)
def test_the_network_has_the_density_that_was_asked_for(series, options):
    assert series(density=0.3, **options)["size/density"][-1] == pytest.approx(0.3, abs=1e-3)


def test_the_smallest_density_keeps_no_weight(series):
    assert series(density=5e-324)["size/density"][-1] == 0


@pytest.mark.parametrize("option", ["lr", "weight_decay"])
def test_the_largest_numbers_diverge(series, option):
    with pytest.raises(Diverged, match="diverged at megabatch 1"):
        series(**{option: LARGEST})
