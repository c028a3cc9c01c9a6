"""A head for each task: none of them is pruned, and none learns from images of another task."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from benchmark.config.profiles import resolve
from benchmark.errors import UsageError
from benchmark.models.build import model_factory
from benchmark.models.heads import NO_CLASS, TaskHeads
from benchmark.running.build import build_strategy
from benchmark.running.prepare import prepare
from benchmark.streams.build import build_stream
from strategies.pruning.masks import classifier_of, prunable_weights

TASKS = ((3, 1), (0, 5), (2, 4))


def network(name="mlp", resolution=8):
    return model_factory(name, classes=6, channels=1, resolution=resolution, seed=0)(0)


@pytest.mark.parametrize("name", ["mlp", "cnn", "resnet20s", "resnet20s_1x1", "resnet18", "vgg16_bn"])
def test_a_network_of_each_family_can_have_heads_that_are_its_classifier(name):
    whole = network(name, 32)
    pruned = {weight.shape for weight in prunable_weights(whole).values()}, len(prunable_weights(whole))
    heads = TaskHeads(network(name, 32), TASKS)
    weights = prunable_weights(heads)
    assert classifier_of(heads) == "heads" and all(one.startswith("features.") for one in weights)
    assert ({weight.shape for weight in weights.values()}, len(weights)) == pruned


def test_heads_answer_as_the_network_did_among_the_tasks_classes():
    whole, heads, x = network(), TaskHeads(network(), TASKS), torch.rand(7, 1, 8, 8)
    logits = whole(x)
    assert torch.allclose(heads(x), logits, atol=1e-6)
    labels = torch.tensor([0, 1, 2, 2, 1, 0, 0])
    told = heads(x, labels)
    for row, label in enumerate(labels.tolist()):
        own = list(TASKS[label])
        assert torch.allclose(told[row, own], logits[row, own], atol=1e-6)
        assert (told[row] == NO_CLASS).sum() == 4
    assert torch.allclose(told[labels == 2], heads(x[labels == 2], 2))


def test_a_head_that_no_image_asks_for_has_no_gradient():
    heads = TaskHeads(network(), TASKS)
    nn.CrossEntropyLoss()(
        heads(torch.rand(4, 1, 8, 8), torch.tensor([1, 1, 1, 1])), torch.tensor([0, 5, 0, 5])
    ).backward()
    assert [head.weight.grad is not None for head in heads.heads] == [False, True, False]


def test_making_heads_draws_no_random_number():
    before = torch.random.get_rng_state()
    TaskHeads(network(), TASKS)
    assert torch.equal(before, torch.random.get_rng_state())


def test_a_classifier_of_several_layers_is_refused():
    odd = nn.Sequential(nn.Flatten(), nn.Linear(64, 8))
    odd.classifier_name = "0"
    with pytest.raises(UsageError, match="no single linear layer"):
        TaskHeads(odd, TASKS)


@pytest.mark.parametrize("name", ["Naive", "APP"])
def test_pruners_leave_every_task_head_alone(name, tmp_path):
    """Four of five were pruned when the last linear layer alone counted as the classifier."""
    options = {"stream": "split_digits", "scenario": "task-incremental", "strategy": name, "schedule": "one_shot"}
    prepared = prepare(
        resolve({**options, "density": 0.1, "epochs": 1}, profile="demo"), data_root="none", cache=tmp_path
    )
    stream = build_stream(prepared.config, prepared.data, "cpu")
    strategy = build_strategy(prepared.config, stream, "cpu", None)
    heads = [head.weight.detach().clone() for head in strategy.model.heads]
    strategy.train(stream.scenario.train_stream[0], eval_streams=[])
    kept = sum(int(weight.count_nonzero()) for weight in prunable_weights(strategy.model).values())
    total = sum(weight.numel() for weight in prunable_weights(strategy.model).values())
    assert kept == round(0.1 * total)
    now = [head.weight.detach() for head in strategy.model.heads]
    assert all(int((weight == 0).sum()) == 0 for weight in now)
    assert [torch.equal(a, b) for a, b in zip(heads, now, strict=True)] == [False, True, True, True, True]
