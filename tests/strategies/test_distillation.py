"""Distillation: the loss is the formula, and the teacher is the predictor handed over last."""

from __future__ import annotations

import copy
from collections import Counter

import numpy as np
import pytest
import torch
from avalanche.core import SupervisedPlugin
from scipy.special import log_softmax, softmax
from states import same

from strategies.anytime import Pruning
from strategies.distillation import Distillation, distillation_loss
from strategies.learning.evaluation import count_correct
from strategies.registry import STRATEGIES


class Gradients(SupervisedPlugin, supports_distributed=False):
    """For each training batch: inputs, labels, the student's logits, the loss and its gradient by the logits."""

    def __init__(self):
        super().__init__()
        self.batches = []

    def after_forward(self, strategy, *args, **kwargs):
        strategy.mb_output.retain_grad()

    def after_backward(self, strategy, *args, **kwargs):
        x, y, logits = strategy.mb_x, strategy.mb_y, strategy.mb_output
        self.batches.append((x, y.numpy(), logits.detach().numpy(), strategy.loss.item(), logits.grad.numpy()))


def build(learner, **settings):
    return STRATEGIES.load("distillation").target(learner, Pruning(), **settings)


@pytest.fixture(scope="module")
def stream(make_stream):
    return make_stream(samples=120, dtype=torch.float64)


@pytest.fixture
def learner_of(make_learner, make_net):
    """Function: options -> a learner in float64."""
    return lambda **options: make_learner(make_model=lambda k: make_net(k).double(), **options)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 4.0])
@pytest.mark.parametrize("alpha", [0.0, 0.3, 1.0])
def test_loss_and_gradient_are_the_formula(learner_of, stream, alpha, temperature):
    gradients = Gradients()
    strategy = build(learner_of(plugins=[gradients]), alpha=alpha, temperature=temperature)
    torch.manual_seed(0)
    strategy.train(stream.train_stream[0], eval_streams=[])
    teacher = copy.deepcopy(strategy.model).eval()
    gradients.batches.clear()
    strategy.train(stream.train_stream[1], eval_streams=[])
    for x, y, student, loss, gradient in gradients.batches:
        with torch.no_grad():
            taught = teacher(x).numpy()
        n, labels = len(y), np.eye(3)[y]
        soft, target = softmax(student / temperature, axis=1), softmax(taught / temperature, axis=1)
        cross_entropy = -(labels * log_softmax(student, axis=1)).sum() / n
        divergence = (target * (np.log(target) - np.log(soft))).sum() / n
        # Avalanche sums the loss in float32, whatever the network's type.
        expected = (1 - alpha) * cross_entropy + alpha * temperature**2 * divergence
        np.testing.assert_allclose(loss, expected, rtol=1e-6)
        expected = (1 - alpha) * (softmax(student, axis=1) - labels) + alpha * temperature * (soft - target)
        np.testing.assert_allclose(gradient, expected / n, rtol=1e-6, atol=1e-12)


def test_agreeing_with_the_teacher_costs_nothing():
    logits = torch.randn(4, 3, dtype=torch.float64)
    assert abs(distillation_loss(logits, logits + 5, 3.0).item()) < 1e-12


def test_alpha_zero_is_the_dense_run(make_learner, make_stream, train):
    stream = make_stream(samples=120)
    taught = train(build(make_learner(), alpha=0.0), stream).model.state_dict()
    assert same(train(STRATEGIES.load("dense").target(make_learner(), Pruning()), stream).model.state_dict(), taught)


def test_the_first_megabatch_has_no_teacher_and_all_later_samples_have_one(learner_of, stream):
    strategy, dense = build(learner_of(), alpha=1.0), STRATEGIES.load("dense").target(learner_of(), Pruning())
    for one in (strategy, dense):
        torch.manual_seed(0)
        one.train(stream.train_stream[0], eval_streams=[])
    assert same(strategy.model.state_dict(), dense.model.state_dict())
    (plugin,) = [plugin for plugin in strategy.plugins if isinstance(plugin, Distillation)]
    assert plugin.forwarded_samples == 0
    for megabatch in stream.train_stream[1:]:
        strategy.train(megabatch, eval_streams=[])
    assert plugin.forwarded_samples == 2 * (64 + 96)


def test_the_teacher_is_the_last_predictor_and_stays_as_it_was(learner_of, stream, train):
    strategy = build(learner_of(epochs=3))
    (plugin,) = [plugin for plugin in strategy.plugins if isinstance(plugin, Distillation)]
    torch.manual_seed(0)
    for megabatch in stream.train_stream:
        handed_over = copy.deepcopy(strategy.model.state_dict())
        strategy.train(megabatch, eval_streams=[])
        assert plugin.teacher is None or same(handed_over, plugin.teacher.state_dict())
        assert not same(handed_over, strategy.model.state_dict())


def test_it_learns_more_than_the_most_frequent_class(make_learner, make_stream, train):
    stream = make_stream(samples=120, megabatches=2)
    strategy = train(build(make_learner(epochs=20, lr=0.1, weight_decay=1e-4)), stream)
    tested = stream.test_stream[0].dataset
    assert count_correct(strategy, tested) > Counter(map(int, tested.targets)).most_common(1)[0][1]
