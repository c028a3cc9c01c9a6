from __future__ import annotations

import numpy as np
import pytest
import torch
from avalanche.core import SupervisedPlugin
from avalanche.training.plugins import EvaluationPlugin
from torch import nn

from benchmark.metrics.compute import Compute, Resources, layer_flops
from strategies.anytime import Learner, Pruning
from strategies.registry import STRATEGIES


def test_flops_of_a_convolution_by_hand():
    net = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.Flatten(), nn.Linear(8 * 16, 4))
    total, layers = layer_flops(net, torch.zeros(1, 3, 4, 4))
    convolution = 2 * 8 * 3 * 9 * 16
    assert layers == {"0.weight": convolution}
    assert total == convolution + 2 * 8 * 16 * 4


def test_counting_leaves_batch_norm_alone():
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(16, 2))
    before = {name: value.clone() for name, value in net.state_dict().items()}
    layer_flops(net, torch.randn(2, 3, 4, 4))
    assert all(torch.equal(before[name], value) for name, value in net.state_dict().items())


FORWARD = 2 * (6 * 16 + 16 * 16 + 16 * 3)
"""FLOPs of one sample in the fixture's network."""


def test_training_flops_are_three_forward_passes_of_every_trained_sample(scenario, trained):
    last = trained(Compute(), epochs=3).evaluator.get_last_metrics()
    sizes = [len(e.dataset) for e in scenario.train_stream]
    trained_on = 3 * sum(sum(sizes[: t + 1]) for t in range(4))
    assert last["compute/train_flops"] == trained_on * 3 * FORWARD
    validated = [len(e.dataset) for e in scenario.valid_stream]
    assert last["compute/validation_flops"] == 3 * sum(sum(validated[: t + 1]) for t in range(4)) * FORWARD
    assert last["compute/test_flops"] == 4 * 70 * FORWARD
    assert last["compute/scoring_flops"] == sum(round(0.2 * size) for size in sizes) * 3 * FORWARD


def test_skipping_zeros_saves_what_is_pruned_and_no_more(scenario, trained):
    dense = trained(Compute(), density=1.0).evaluator.get_last_metrics()
    assert dense["compute/train_flops_if_skipped"] == pytest.approx(dense["compute/train_flops"])
    sparse = trained(Compute(), density=0.8**4.5).evaluator.get_last_metrics()
    ratio = sparse["compute/train_flops_if_skipped"] / sparse["compute/train_flops"]
    assert 0.8**4.5 < ratio < 0.8


def test_time_and_memory_are_measured(trained):
    values = trained(Resources()).evaluator.get_all_metrics()
    seconds = values["time/train_seconds"][1]
    assert seconds == sorted(seconds) and seconds[0] > 0
    assert 50 < values["memory/peak_mib"][1][-1] < 100_000


MEGABATCHES = 4


def network(draw):
    """The fixture's network: 6 features, two hidden layers of 16, 3 classes."""
    torch.manual_seed(draw)
    return nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 3))


@pytest.fixture
def flops_of(scenario):
    """Function: strategy, plugins of the learner, settings -> name -> compute after each of the megabatches."""

    def run(name, plugins=(), **settings):
        torch.manual_seed(0)
        evaluator = EvaluationPlugin(Compute())
        learner = Learner(network, MEGABATCHES, epochs=3, batch_size=16, evaluator=evaluator, plugins=plugins)
        strategy = STRATEGIES.load(name).target(learner, Pruning(), **settings)
        for experience in scenario.train_stream:
            strategy.train(experience, eval_streams=[])
            strategy.eval(scenario.test_stream)
        series = evaluator.get_all_metrics()
        return {key.removeprefix("compute/"): np.array(values) for key, (_, values) in series.items()}

    return run


def test_an_ensemble_costs_as_much_as_its_members(flops_of):
    one, three = flops_of("dense"), flops_of("ensemble", members=3)
    assert all((three[name] == 3 * one[name]).all() for name in one)


def test_a_growing_ensemble_trains_one_network_and_evaluates_all(flops_of):
    one, growing = flops_of("dense"), flops_of("growing-ensemble")
    for name in ("forward_flops", "backward_flops", "train_flops_if_skipped"):
        assert (growing[name] == one[name]).all()
    networks = np.arange(1, MEGABATCHES + 1)
    assert (np.diff(growing["test_flops"], prepend=0) == networks * 70 * FORWARD).all()
    validation = np.diff(one["validation_flops"], prepend=0)
    assert (np.diff(growing["validation_flops"], prepend=0) == networks * validation).all()


def test_tests_count_before_any_training(scenario):
    evaluator = EvaluationPlugin(Compute())
    strategy = STRATEGIES.load("dense").target(Learner(network, MEGABATCHES, evaluator=evaluator), Pruning())
    strategy.eval(scenario.test_stream)
    assert evaluator.get_last_metrics()["compute/test_flops"] == 70 * FORWARD


def test_a_teacher_costs_one_forward_pass_of_each_sample_it_teaches(flops_of, scenario):
    alone, taught = flops_of("dense"), flops_of("distillation")
    sizes = np.cumsum([len(e.dataset) for e in scenario.train_stream])
    extra = np.cumsum([0, *(3 * sizes[1:] * FORWARD)])
    assert (taught["forward_flops"] == alone["forward_flops"] + extra).all()
    assert (taught["backward_flops"] == alone["backward_flops"]).all()
    assert (taught["train_flops"] == alone["train_flops"] + extra).all()


class ZerosPerEpoch(SupervisedPlugin, supports_distributed=False):
    """Leaves the first layer with another fraction of zeros at the end of each epoch, as changing masks would."""

    shares = (0.0, 0.75, 0.25)

    @torch.no_grad()
    def after_training_epoch(self, strategy, *args, **kwargs):
        weight = strategy.model[0].weight
        weight.fill_(0.1).view(-1)[: int(self.shares[strategy.clock.train_exp_epochs] * weight.numel())] = 0


def test_zeros_are_those_of_the_epoch(flops_of, scenario):
    flops = flops_of("dense", plugins=[ZerosPerEpoch()])
    sizes = np.cumsum([len(e.dataset) for e in scenario.train_stream])
    layer = 2 * 6 * 16
    saved = np.cumsum(sizes * sum(ZerosPerEpoch.shares) * 3 * layer)
    np.testing.assert_allclose(flops["train_flops"] - flops["train_flops_if_skipped"], saved)


def test_scoring_takes_the_zeros_from_before_the_pruning(trained):
    values = trained(Compute()).evaluator.get_all_metrics()
    dense, skipped = (
        np.diff(values[f"compute/{n}"][1], prepend=0) for n in ("scoring_flops", "scoring_flops_if_skipped")
    )
    ratio = skipped / dense
    assert ratio[0] == 1
    assert (np.diff(ratio) < 0).all()
    assert ratio[-1] > 0.8**4.5
