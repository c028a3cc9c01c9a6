from __future__ import annotations

import pytest
import torch
from avalanche.core import SupervisedPlugin
from hypothesis import given
from hypothesis import strategies as st

from benchmark.metrics.anytime import AnytimePerformance, anytime_values


def test_values_by_hand():
    values = anytime_values([60, 30, 40], [100] * 3)
    assert values == {
        "test/errors": 40.0,
        "test/accuracy": 0.6,
        "anytime/cer": 130.0,
        "anytime/cer_rate": pytest.approx(130 / 300),
        "anytime/average_accuracy": pytest.approx((0.4 + 0.7 + 0.6) / 3),
        "anytime/are": pytest.approx(0.1),
    }


def test_a_test_set_that_grows_by_hand():
    values = anytime_values([1, 10, 40], [10, 20, 40])
    assert values["anytime/cer_rate"] == pytest.approx(51 / 70)
    assert values["anytime/average_accuracy"] == pytest.approx((0.9 + 0.5 + 0) / 3)
    assert values["anytime/are"] == pytest.approx(0.5)


def test_first_megabatch_has_no_are():
    assert "anytime/are" not in anytime_values([5], [10])


@given(st.lists(st.integers(0, 50), min_size=2, max_size=30))
def test_ares_add_up_to_the_whole_change(errors):
    ares = [anytime_values(errors[: t + 1], [50] * (t + 1))["anytime/are"] for t in range(1, len(errors))]
    assert sum(ares) == pytest.approx((errors[-1] - errors[0]) / 50)


@given(st.lists(st.integers(0, 50), min_size=1, max_size=30))
def test_average_accuracy_is_the_complement_of_the_cer_rate(errors):
    values = anytime_values(errors, [50] * len(errors))
    mean = sum(1 - e / 50 for e in errors) / len(errors)
    assert values["anytime/average_accuracy"] == pytest.approx(mean)
    assert values["anytime/cer_rate"] == pytest.approx(1 - mean)


class ErrorsByHand(SupervisedPlugin):
    """Counts the test errors again, sample by sample, from the model that is being tested."""

    def __init__(self):
        super().__init__()
        self.errors = []

    def before_eval(self, strategy, **kwargs):
        wrong = 0
        strategy.model.eval()
        for experience in strategy.current_eval_stream:
            for x, y, _ in experience.dataset.eval():
                with torch.no_grad():
                    wrong += int(strategy.model(x.unsqueeze(0)).argmax()) != y
        self.errors.append(wrong)


def test_counts_are_those_of_the_model_handed_over(trained):
    by_hand, metric = ErrorsByHand(), AnytimePerformance()
    strategy = trained(metric, plugins=[by_hand])
    assert metric.errors == by_hand.errors
    steps, values = strategy.evaluator.get_all_metrics()["anytime/cer"]
    assert steps == [1, 2, 3, 4]
    assert values == [sum(by_hand.errors[: t + 1]) for t in range(4)]


def test_other_streams_do_not_count(scenario, trained):
    metric = AnytimePerformance()
    strategy = trained(metric)
    strategy.eval(scenario.valid_stream)
    assert len(metric.errors) == 4
