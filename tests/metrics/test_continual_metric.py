"""The metrics of continual learning equal what their equations say, recomputed by hand and from predictions."""

from __future__ import annotations

import copy

import pytest
import torch
from avalanche.core import SupervisedPlugin
from hypothesis import given
from hypothesis import strategies as st

from benchmark.config.profiles import resolve
from benchmark.metrics.continual import MATRIX, Matrix, continual_values
from benchmark.models.heads import NO_CLASS
from benchmark.running.prepare import prepare
from benchmark.running.run import run

FOLLOWED = {"stream": "split_digits", "epochs": 2, "megabatches": 3, "strategy": "dense", "lr": 0.05}


def test_values_of_a_matrix_by_hand():
    matrix = Matrix(
        sizes=[10, 20, 10],
        correct=[[9, 2, 1], [6, 16, 3], [7, 12, 10]],
        untrained=[1, 2, 2],
        within=[[9, 10, 5], [9, 18, 5], [10, 18, 10]],
        among_all=[[9, 0, 0], [5, 15, 0], [6, 12, 9]],
    )
    assert continual_values(matrix) == {
        "continual/accuracy": pytest.approx((0.7 + 0.6 + 1.0) / 3),
        "continual/incremental_accuracy": pytest.approx((0.9 + (0.6 + 0.8) / 2 + (0.7 + 0.6 + 1.0) / 3) / 3),
        "continual/first": pytest.approx(0.7),
        "continual/forgetting": pytest.approx(((0.9 - 0.7) + (0.8 - 0.6)) / 2),
        "continual/bwt": pytest.approx(((0.7 - 0.9) + (0.6 - 0.8)) / 2),
        "continual/fwt": pytest.approx(((0.1 - 0.1) + (0.3 - 0.2)) / 2),
        "continual/task_il": pytest.approx((1.0 + 0.9 + 1.0) / 3),
        "continual/class_il": pytest.approx((0.6 + 0.6 + 0.9) / 3),
    }


def test_one_experience_has_nothing_to_forget():
    values = continual_values(Matrix(sizes=[10, 10], correct=[[5, 0]], untrained=[0, 0]))
    assert values.keys() == {"continual/accuracy", "continual/incremental_accuracy", "continual/first"}


@st.composite
def matrices(draw):
    experiences = draw(st.integers(2, 6))
    sizes = draw(st.lists(st.integers(1, 30), min_size=experiences, max_size=experiences))
    row = st.tuples(*(st.integers(0, size) for size in sizes)).map(list)
    return Matrix(sizes, draw(st.lists(row, min_size=experiences, max_size=experiences)), draw(row))


@given(matrices())
def test_forgetting_is_the_best_of_what_was_lost_and_never_less_than_minus_bwt(matrix):
    values = continual_values(matrix)
    assert values["continual/forgetting"] >= -values["continual/bwt"] - 1e-12
    assert -1 <= values["continual/forgetting"] <= 1 and 0 <= values["continual/accuracy"] <= 1


class Follower(SupervisedPlugin):
    """Keeps a copy of the untrained network, and of that after each experience."""

    def __init__(self):
        super().__init__()
        self.networks, self.scenario, self.loader = [], None, None

    def before_train_dataset_adaptation(self, strategy, **kwargs):
        if not self.networks:
            self.networks.append(copy.deepcopy(strategy.model).eval())
            self.scenario, self.loader = strategy.experience.benchmark, strategy.loader

    def after_eval(self, strategy, **kwargs):
        self.networks.append(copy.deepcopy(strategy.model).eval())


def followed(tmp_path_factory, **options):
    cache, follower = tmp_path_factory.mktemp("cache"), Follower()
    config = resolve({**FOLLOWED, **options}, profile="demo")
    result = run(prepare(config, data_root=cache / "none", cache=cache), plugins=[follower])
    return result, follower


def answers(follower, number, test, *tasks):
    """Logits of the network after experience ``number`` on a part of the test, and its classes."""
    with torch.inference_mode():
        batches = list(follower.loader.eval_batches(test.dataset, 10_000))
        [[x, y, labels]] = batches
        logits = follower.networks[number](x, *([labels] if tasks else []))
    return logits.clone(), y


@pytest.fixture(scope="module")
def class_incremental(tmp_path_factory):
    return followed(tmp_path_factory, replay="buffer", buffer_size=60)


@pytest.fixture(scope="module")
def task_incremental(tmp_path_factory):
    return followed(tmp_path_factory, scenario="task-incremental", replay="none")


def cells(result, experiences):
    steps, values = result.series[MATRIX]
    assert steps == list(range(1, experiences**2 + 1))
    return [values[start : start + experiences] for start in range(0, experiences**2, experiences)]


def test_the_matrix_is_what_the_networks_answer(class_incremental):
    result, follower = class_incremental
    found = cells(result, 3)
    for i in range(3):
        for j, test in enumerate(follower.scenario.test_stream):
            logits, y = answers(follower, i + 1, test)
            assert found[i][j] == float((logits.argmax(1) == y).sum()) / len(y)


def test_what_is_reported_follows_from_the_matrix_and_the_untrained_network(class_incremental):
    result, follower = class_incremental
    a, tests = cells(result, 3), follower.scenario.test_stream
    untrained = []
    for test in tests:
        logits, y = answers(follower, 0, test)
        untrained.append(float((logits.argmax(1) == y).float().mean()))
    assert result.final("continual/accuracy") == pytest.approx(sum(a[2]) / 3)
    assert result.final("continual/bwt") == pytest.approx((a[2][0] - a[0][0] + a[2][1] - a[1][1]) / 2)
    assert result.final("continual/fwt") == pytest.approx((a[0][1] - untrained[1] + a[1][2] - untrained[2]) / 2)
    best = max(a[0][0], a[1][0]), max(a[0][1], a[1][1])
    assert result.final("continual/forgetting") == pytest.approx((best[0] - a[2][0] + best[1] - a[2][1]) / 2)


def test_task_il_of_a_class_incremental_run_chooses_among_the_experiences_classes(class_incremental):
    result, follower = class_incremental
    shares = []
    for test in follower.scenario.test_stream:
        logits, y = answers(follower, 3, test)
        others = [label for label in range(10) if label not in test.classes_in_this_experience]
        logits[:, others] = -torch.inf
        shares.append(float((logits.argmax(1) == y).float().mean()))
    assert result.final("continual/task_il") == pytest.approx(sum(shares) / 3)
    assert result.final("continual/class_il") == result.final("continual/accuracy")
    assert result.final("continual/task_il") > result.final("continual/class_il")


def test_class_il_of_a_task_incremental_run_chooses_among_all_heads(task_incremental):
    result, follower = task_incremental
    shares = []
    for test in follower.scenario.test_stream:
        logits, y = answers(follower, 3, test)
        shares.append(float((logits.argmax(1) == y).float().mean()))
    assert result.final("continual/class_il") == pytest.approx(sum(shares) / 3)
    assert result.final("continual/task_il") == result.final("continual/accuracy")
    told, _ = answers(follower, 3, follower.scenario.test_stream[0], "told")
    assert (told == NO_CLASS).sum(1).unique().tolist() == [6]


def test_anytime_metrics_count_what_has_been_seen(class_incremental):
    result, follower = class_incremental
    errors, shares = [], []
    for i in range(3):
        wrong = seen = 0
        for test in list(follower.scenario.test_stream)[: i + 1]:
            logits, y = answers(follower, i + 1, test)
            wrong, seen = wrong + int((logits.argmax(1) != y).sum()), seen + len(y)
        errors.append(wrong)
        shares.append(1 - wrong / seen)
    assert result.series["test/errors"][1] == errors
    assert result.series["test/accuracy"][1] == pytest.approx(shares)
    assert result.final("anytime/average_accuracy") == pytest.approx(sum(shares) / 3)


def test_an_i_i_d_stream_has_no_such_series(tmp_path_factory):
    result, _ = followed(tmp_path_factory, stream="digits", epochs=1)
    assert not [name for name in result.series if name.startswith("continual/")]
