from __future__ import annotations

import pytest

from benchmark.metrics.layers import LayerDensity
from benchmark.metrics.size import ModelSize
from strategies.pruning.masks import prunable_weights


def test_layers_are_numbered_from_the_input_and_add_up_to_the_whole(trained):
    strategy = trained(LayerDensity(), ModelSize())
    series = strategy.evaluator.get_all_metrics()
    weights = prunable_weights(strategy.model)
    names = [f"density/{number:03} {name.removesuffix('.weight')}" for number, name in enumerate(weights, start=1)]
    assert [name for name in series if name.startswith("density/")] == sorted(names) == names
    sizes = {name: weight.numel() for name, weight in zip(names, weights.values(), strict=True)}
    for place in range(4):
        assert series[names[0]][0] == [1, 2, 3, 4]
        kept = sum(series[name][1][place] * size for name, size in sizes.items())
        assert kept == pytest.approx(series["size/nonzeros"][1][place])


def test_a_network_that_is_not_pruned_has_no_such_series(trained):
    strategy = trained(LayerDensity(), density=1.0)
    assert not [name for name in strategy.evaluator.get_all_metrics() if name.startswith("density/")]
