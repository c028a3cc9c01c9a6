"""A network for each task: nothing is forgotten, what a task uses never moves, and tests leave training as it was."""

from __future__ import annotations

import warnings
from copy import deepcopy

import numpy as np
import pytest
import torch
from avalanche.core import SupervisedPlugin
from torch.func import functional_call
from torch.nn import functional as F

from benchmark.config.profiles import resolve
from benchmark.errors import UsageError
from benchmark.metrics.continual import MATRIX
from benchmark.metrics.size import packed_task_masks, storage_bytes
from benchmark.running.build import build_strategy
from benchmark.running.prepare import prepare
from benchmark.running.run import run
from benchmark.streams.build import build_stream
from strategies.learning.roles import NetworkPerTask, PartOfPredictor, network_per_task
from strategies.learning.selection import BestValidation
from strategies.packnet import Packed
from strategies.pruning.masks import Masks, prunable_weights
from strategies.pruning.task_masks import shared_parameters

STREAM = {"stream": "split_digits", "scenario": "task-incremental", "megabatches": 3, "shots": 30, "test_shots": 10}

OPTIONS = {**STREAM, "model": "cnn", "epochs": 3, "batch_size": 16, "weight_decay": 0.01, "density": 0.3}
"""A network with batch norm, and a decay that moves whatever is not held."""

METHODS = ["PackNet-masks", "WSN"]

RECIPES = [{}, {"carry_momentum": True}, {"optimizer": "adamw", "lr": 0.01, "carry_momentum": True}]


class Answers(SupervisedPlugin):
    """Collects, of each test, the logits of each experience and the weights that they were given by."""

    def __init__(self):
        super().__init__()
        self.tests = []

    def before_eval(self, strategy, **kwargs):
        self.tests.append({})

    def after_eval_exp(self, strategy, **kwargs):
        weights = {name: weight.detach().clone() for name, weight in prunable_weights(strategy.model).items()}
        self.tests[-1][strategy.experience.current_experience] = strategy.mb_output.clone(), weights


class Trained:
    """A strategy with what was seen of it: states of its masks, and of its weights, after each task."""

    def __init__(self, strategy, scenario, answers):
        self.strategy, self.scenario, self.answers = strategy, scenario, answers
        self.networks = network_per_task(strategy)
        self.masks, self.stored, self.shared, self.states = [], [], [], []
        for experience in scenario.train_stream:
            strategy.train(experience, eval_streams=[])
            before = {name: value.clone() for name, value in strategy.model.state_dict().items()}
            strategy.eval(scenario.test_stream)
            self.states.append((before, {n: v.clone() for n, v in strategy.model.state_dict().items()}))
            self.masks.append(dict(self.networks.masks))
            self.stored.append(self.networks.stored(strategy.model))
            self.shared.append({n: p.detach().clone() for n, p in shared_parameters(strategy.model).items()})


@pytest.fixture(scope="module")
def begun(tmp_path_factory):
    """Function: options -> an untrained strategy with further plugins, and its scenario."""
    cache, loaded = tmp_path_factory.mktemp("cache"), {}

    def make(*plugins, **options):
        config = resolve({**OPTIONS, **options}, profile="demo")
        prepared = prepare(config, data_root=cache / "none", cache=cache, loaded=loaded)
        stream = build_stream(prepared.config, prepared.data, "cpu")
        torch.manual_seed(0)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return build_strategy(prepared.config, stream, "cpu", None, plugins), stream.scenario

    return make


@pytest.fixture(scope="module", params=[(m, r) for m in METHODS for r in range(len(RECIPES))], ids=str)
def trained(request, begun):
    name, recipe = request.param
    answers = Answers()
    return Trained(*begun(answers, strategy=name, **RECIPES[recipe]), answers)


def test_an_earlier_task_is_answered_with_the_same_bits(trained):
    tests = trained.answers.tests
    assert len(tests) == 3
    for task in range(3):
        logits = [test[task][0] for test in tests[task:]]
        assert all(torch.equal(one, logits[0]) for one in logits)
    # A law of nothing, were the networks all the same and training at a stand.
    assert not torch.equal(tests[0][1][0], tests[1][1][0])


def test_a_test_is_of_the_tasks_network_and_leaves_the_weights_of_training(trained):
    for number, (before, after) in enumerate(trained.states):
        assert all(torch.equal(value, after[name]) for name, value in before.items())
        for name, mask in trained.masks[number][number].items():
            assert torch.equal(before[name], torch.where(mask, trained.stored[number][name], 0.0))
    for number, test in enumerate(trained.answers.tests):
        for task in range(number + 1):
            assert Masks.of(test[task][1]) <= trained.masks[number][task]
            for name, weight in test[task][1].items():
                stored, mask = trained.stored[number][name], trained.masks[number][task][name]
                assert torch.equal(weight, torch.where(mask, stored, 0.0))


def test_masks_stay_as_they_are_and_what_they_keep_never_moves(trained):
    for later in range(1, 3):
        earlier = later - 1
        assert all(trained.masks[later][task] == masks for task, masks in trained.masks[earlier].items())
        for masks in trained.masks[earlier].values():
            for name, mask in masks.items():
                assert torch.equal(trained.stored[later][name][mask], trained.stored[earlier][name][mask])
        assert all(torch.equal(value, trained.shared[0][name]) for name, value in trained.shared[later].items())
        assert not any(torch.equal(trained.stored[later][n], w) for n, w in trained.stored[earlier].items())


def test_each_layer_keeps_the_rounded_share(trained):
    is_packed = hasattr(trained.networks, "share")
    for number, masks in enumerate(trained.masks):
        density = Packed(0.3, 3)(number) if is_packed else 0.3
        for mask in masks[number].values():
            assert int(mask.sum()) == round(density * mask.numel())


def test_what_is_handed_over_is_the_union_of_the_tasks(trained):
    model, masks = trained.strategy.model, trained.masks[-1]
    before = {name: value.clone() for name, value in model.state_dict().items()}
    union = masks[0] | masks[1] | masks[2]
    with trained.networks.handed_over(model):
        assert Masks.of(prunable_weights(model)) <= union
        for name, weight in prunable_weights(model).items():
            assert torch.equal(weight[union[name]], trained.stored[-1][name][union[name]])
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


@pytest.mark.parametrize("name", METHODS)
def test_the_roles_of_the_plugins(begun, name):
    plugin = network_per_task(begun(strategy=name)[0])
    assert isinstance(plugin, NetworkPerTask)
    assert isinstance(plugin, PartOfPredictor) == (name == "WSN")


def test_packnet_gives_a_task_free_weights_alone_and_all_it_gives_up_are_zero(begun):
    strategy, scenario = begun(strategy="PackNet-masks")
    plugin = network_per_task(strategy)
    for experience in scenario.train_stream:
        strategy.train(experience, eval_streams=[])
        assert Masks.of(prunable_weights(strategy.model)) <= plugin.masks[plugin.task]
        assert plugin.used <= plugin.masks[plugin.task]
        for name, weight in prunable_weights(strategy.model).items():
            momentum = strategy.optimizer.state[weight]["momentum_buffer"]
            assert not momentum[~plugin.masks[plugin.task][name]].any()
        own = sum(int((mask & ~plugin.used[name]).sum()) for name, mask in plugin.masks[plugin.task].items())
        kept = sum(int((w != 0).sum()) for w in prunable_weights(strategy.model).values())
        assert own > 0 and kept == plugin.used.nonzeros + own


class AtPruning(SupervisedPlugin):
    """Looks at weights and masks around each step."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def after_update(self, strategy, **kwargs):
        weights = {n: w.detach().clone() for n, w in prunable_weights(strategy.model).items()}
        self.seen.append((dict(network_per_task(strategy).masks), weights))


def test_packnet_keeps_the_largest_of_what_was_trained(begun):
    looks = AtPruning()
    strategy, scenario = begun(looks, strategy="PackNet-masks", epochs=10)
    for task, experience in enumerate(scenario.train_stream[:2]):
        looks.seen.clear()
        strategy.train(experience, eval_streams=[])
        steps = [task in masks for masks, _ in looks.seen]
        first = steps.index(True)
        assert len(steps) - first == round(0.3 * len(steps))
        earlier = network_per_task(strategy).used
        for name, mask in looks.seen[first][0][task].items():
            free, size = ~earlier[name], looks.seen[first - 1][1][name].abs()
            given_up = size[free & ~mask]
            assert size[free & mask].min() >= given_up.max()


@pytest.mark.parametrize("steps", [1, 2])
def test_packnet_ends_at_its_share_however_short_the_training(begun, steps):
    strategy, scenario = begun(strategy="PackNet-masks", epochs=1, shots=8, batch_size=24 // steps)
    strategy.train(scenario.train_stream[0], eval_streams=[])
    assert strategy.clock.train_exp_counter == 1
    masks = network_per_task(strategy).masks[0]
    assert masks == Masks.of(prunable_weights(strategy.model))
    assert masks.density == pytest.approx(Packed(0.3, 3)(0), abs=2e-3)


def test_shares_of_packnet():
    share = Packed(0.763, 5)
    kept = [(share(t + 1) - share(t)) / (1 - share(t)) for t in range(4)]
    assert share(4) == 0.763
    assert [share(0), *kept] == pytest.approx([0.25] * 5, abs=1e-3)
    unknown = [Packed(0.5, None)(t) for t in range(200)]
    assert unknown == sorted(unknown) and 0 < unknown[0] < 0.3 and 0.49 < unknown[-1] < 0.5
    assert Packed(1.0, 3)(0) == 1


class AtUpdate(SupervisedPlugin):
    """Keeps what a step of WSN is made of."""

    def __init__(self):
        super().__init__()
        self.steps = []

    def before_forward(self, strategy, **kwargs):
        self.model, plugin = deepcopy(strategy.model), network_per_task(strategy)
        self.mask = plugin.masks[plugin.task]

    def before_update(self, strategy, **kwargs):
        plugin, weights = network_per_task(strategy), prunable_weights(strategy.model)
        scores = dict(plugin.scores.named())
        gradients = [{name: one.grad.clone() for name, one in of.items()} for of in (weights, scores)]
        values = {n: w.detach().clone() for n, w in weights.items()}
        batch = strategy.mb_x, strategy.mb_y, strategy.mb_task_id
        self.steps.append((self.model, self.mask, values, batch, gradients, plugin.used))


def test_gradients_of_wsn_are_those_of_the_straight_through_mask(begun):
    looks = AtUpdate()
    strategy, scenario = begun(looks, strategy="WSN", epochs=1, model="mlp")
    for experience in scenario.train_stream[:2]:
        strategy.train(experience, eval_streams=[])
    for model, mask, values, (x, y, tasks), (of_weights, of_scores), used in (looks.steps[0], looks.steps[-1]):
        weights = {n: v.clone().requires_grad_() for n, v in values.items()}
        scores = {n: torch.zeros_like(v).requires_grad_() for n, v in values.items()}
        through = {n: w * (mask[n] + scores[n] - scores[n].detach()) for n, w in weights.items()}
        F.cross_entropy(functional_call(model, through, (x, tasks)), y).backward()
        for name, weight in weights.items():
            assert torch.allclose(of_scores[name], scores[name].grad, atol=1e-6)
            assert torch.allclose(of_weights[name], weight.grad * ~used[name], atol=1e-6)
            assert bool(used[name].any()) == (model is looks.steps[-1][0])
            assert of_scores[name][~mask[name]].any(), "weights outside of the mask have a say"


def test_wsn_goes_on_from_the_selected_epoch(begun):
    looks = AtPruning()
    strategy, scenario = begun(looks, strategy="WSN", epochs=6, ties="first")
    strategy.train(scenario.train_stream[0], eval_streams=[])
    plugin = network_per_task(strategy)
    selection = next(one for one in strategy.plugins if isinstance(one, BestValidation))
    assert selection.epoch < 5, "the last epoch would be the selected one anyway"
    masks, weights = looks.seen[(selection.epoch + 1) * len(looks.seen) // 6 - 1]
    assert plugin.masks[0] == masks[0] == plugin.scores.best(0.3)
    assert plugin.masks[0] != looks.seen[-1][0][0]
    assert all(torch.equal(value, weights[name]) for name, value in prunable_weights(strategy.model).items())
    for name, stored in plugin.stored(strategy.model).items():
        assert torch.equal(torch.where(masks[0][name], stored, 0.0), weights[name])


def test_wsn_learns_its_mask(begun):
    strategy, scenario = begun(strategy="WSN")
    plugin = network_per_task(strategy)
    drawn = plugin.scores.best(0.3)
    for experience in scenario.train_stream:
        strategy.train(experience, eval_streams=[])
    assert drawn != plugin.masks[0] != plugin.masks[1] != plugin.masks[2]
    shared = (plugin.masks[1] & plugin.masks[0]).nonzeros / plugin.masks[0].nonzeros
    assert shared > 0.3, "no more than by chance"


@pytest.fixture(scope="module", params=METHODS)
def result(request, tmp_path_factory):
    cache = tmp_path_factory.mktemp("cache")
    config = resolve({**STREAM, "strategy": request.param, "epochs": 2, "lr": 0.05, "density": 0.3}, profile="demo")
    return run(prepare(config, data_root=cache / "none", cache=cache))


def test_nothing_is_forgotten(result):
    rows = np.array(result.series[MATRIX][1]).reshape(3, 3)
    for task in range(3):
        assert len(set(rows[task:, task])) == 1
    assert result.final("continual/forgetting") == 0 == result.final("continual/bwt")
    assert result.final("continual/accuracy") > 0.5


def test_no_answer_without_the_task_is_claimed(result):
    assert "continual/class_il" not in result.series
    assert result.final("continual/task_il") == result.final("continual/accuracy")


def test_densities_of_a_task_and_of_all_together(result):
    of_task, of_all = result.series["size/task_density"][1], result.series["size/density"][1]
    assert of_all == sorted(of_all) and of_task[0] == of_all[0]
    if result.config.strategy == "PackNet-masks":
        assert of_all == pytest.approx([Packed(0.3, 3)(t) for t in range(3)], abs=1e-3)
        assert of_task[-1] == pytest.approx(sum(of_all) / 3)
    else:
        assert of_task == pytest.approx([0.3] * 3, abs=1e-3)
        assert 0.3 < of_all[-1] < 0.9


def test_masks_are_weighed_with_the_weights(trained):
    model, networks = trained.strategy.model, trained.networks
    with networks.handed_over(model):
        used = Masks.of(prunable_weights(model)).nonzeros
        assert len(packed_task_masks(networks, model)) == -(-3 * used // 8)
        assert storage_bytes(model)["bitmask"] > used * 4


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("scenario", ["class-incremental", "domain-incremental", "blurry", "alma"])
def test_streams_that_tell_no_task_are_refused(name, scenario):
    with pytest.raises(UsageError, match="needs the task of every image"):
        resolve({**STREAM, "strategy": name, "scenario": scenario}, profile="demo")


@pytest.mark.parametrize("name", METHODS)
def test_an_experience_of_several_tasks_is_refused(begun, name):
    strategy, scenario = begun(strategy=name)
    experience = scenario.train_stream[0]
    experience.task_labels = [0, 1]
    with pytest.raises(ValueError, match="one task each, not of 2"):
        strategy.train(experience, eval_streams=[])
