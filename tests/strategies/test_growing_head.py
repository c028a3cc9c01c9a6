"""A head that grows: no class before it has come, whatever the strategy does with its networks."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from benchmark.config.profiles import resolve
from benchmark.errors import UsageError
from benchmark.models.build import model_factory
from benchmark.models.heads import NO_CLASS, GrowingHead, with_growing_head
from benchmark.running.build import build_strategy
from benchmark.running.prepare import prepare
from benchmark.streams.build import build_stream
from strategies.learning.evaluation import eval_batches
from strategies.pruning.masks import prunable_weights
from strategies.registry import STRATEGIES

pytestmark = pytest.mark.filterwarnings("ignore")

OPTIONS = {
    **{"stream": "split_digits", "head": "growing", "megabatches": 3, "epochs": 2, "shots": 30, "test_shots": 10},
    **{"scenario": "class-incremental", "batch_size": 32},
}


def network():
    return model_factory("mlp", classes=6, channels=1, resolution=8, seed=0)(0)


class Experience:
    classes_seen_so_far = (1, 4)


def test_met_classes_have_the_networks_logits_and_others_none():
    whole, growing, x = network(), with_growing_head(network()), torch.rand(5, 1, 8, 8)
    [head] = [module for module in growing.modules() if isinstance(module, GrowingHead)]
    assert torch.equal(growing(x), whole(x)), "before it is told of any experience"
    growing.eval()
    head.adaptation(Experience())
    assert torch.equal(growing(x), whole(x)), "an evaluation tells it nothing"
    growing.train()
    head.adaptation(Experience())
    logits = growing(x)
    assert torch.equal(logits[:, [1, 4]], whole(x)[:, [1, 4]])
    assert (logits[:, [0, 2, 3, 5]] == NO_CLASS).all()
    nn.CrossEntropyLoss()(logits, torch.tensor([1, 4, 4, 1, 1])).backward()
    assert head.weight.grad[[0, 2, 3, 5]].count_nonzero() == 0
    assert prunable_weights(growing).keys() == prunable_weights(whole).keys()
    assert growing.state_dict().keys() == whole.state_dict().keys()
    assert (logits / 200).softmax(1)[:, [0, 2, 3, 5]].count_nonzero() == 0, "GraSP's temperature"


def test_other_weights_do_not_make_it_forget_what_it_was_told():
    growing = with_growing_head(network()).train()
    [head] = [module for module in growing.modules() if isinstance(module, GrowingHead)]
    head.adaptation(Experience())
    growing.load_state_dict(with_growing_head(network()).state_dict())
    assert head.told.tolist() == [False, True, False, False, True, False]


def test_making_one_draws_no_random_number():
    model, before = network(), torch.random.get_rng_state()
    with_growing_head(model)
    assert torch.equal(before, torch.random.get_rng_state())


def test_a_classifier_of_several_layers_is_refused():
    odd = nn.Sequential(nn.Flatten(), nn.Linear(64, 8))
    odd.classifier_name = "0"
    with pytest.raises(UsageError, match="no single linear layer"):
        with_growing_head(odd)


def told(name):
    # Over fewer steps than its delta_t RWalk divides by nothing.
    own = {**STRATEGIES.load(name).test_config, **({"settings": {"delta_t": 2}} if name == "RWalk" else {})}
    return resolve({**OPTIONS, **own, **OPTIONS, "lr": 0.002, "strategy": name}, profile="demo")


def can_grow(name):
    traits = STRATEGIES.load(name).traits
    return traits.task_labels == "heads" and name != "DER"


@pytest.mark.parametrize(
    ("name", "scenario"),
    [("dense", "blurry"), *((name, "class-incremental") for name in STRATEGIES.names() if can_grow(name))],
)
def test_no_predictor_answers_with_a_class_that_has_not_come(name, scenario, tmp_path):
    prepared = prepare(told(name).model_copy(update={"scenario": scenario}), data_root="none", cache=tmp_path)
    stream = build_stream(prepared.config, prepared.data, "cpu")
    strategy = build_strategy(prepared.config, stream, "cpu", None)
    tests = [experience.dataset for experience in stream.scenario.test_stream]
    for experience in stream.scenario.train_stream:
        strategy.train(experience, eval_streams=[])
        strategy.model.eval()
        met = sorted(experience.classes_seen_so_far)
        for dataset in tests:
            for x, *_ in eval_batches(strategy, dataset, 256):
                with torch.no_grad():
                    logits = strategy.model(x)
                assert (logits > NO_CLASS).any(0).nonzero()[:, 0].tolist() == met
    assert len(met) == 10 and prepared.config.scenario == scenario


@pytest.mark.parametrize("name", [name for name in STRATEGIES.names() if not can_grow(name)])
def test_strategies_with_heads_of_their_own_say_so(name, tmp_path):
    with pytest.raises(UsageError, match=r"leave out --head growing") as error:
        prepare(told(name), data_root="none", cache=tmp_path)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("scenario", ["alma", "task-incremental", "domain-incremental"])
def test_it_grows_only_where_classes_come_later_for_one_head(scenario):
    with pytest.raises(UsageError, match="--protocol blurry or class-incremental"):
        resolve({**OPTIONS, "scenario": scenario, "strategy": "dense"}, profile="demo")


def test_only_a_growing_head_is_recorded():
    config = resolve({**OPTIONS, "strategy": "dense"}, profile="demo")
    assert config.protocol()["head"] == "growing"
    assert "head" not in config.model_copy(update={"head": "fixed"}).protocol()
