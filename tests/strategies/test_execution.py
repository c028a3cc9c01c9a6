"""Precision and compilation change how a network is run, and nothing else."""

from __future__ import annotations

import shutil

import pytest
import torch
from avalanche.core import SupervisedPlugin
from torch import nn

from strategies.anytime import AnytimeStrategy, Pruning
from strategies.distillation import Distillation
from strategies.learning.evaluation import count_correct
from strategies.learning.execution import Execution
from strategies.pruning.scores.snip import snip
from strategies.registry import STRATEGIES

BF16 = Execution(precision="bf16")

needs_compiler = pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler, g++")


class Watch(SupervisedPlugin, supports_distributed=False):
    """In which types the layers computed in the strategy's own passes, and what came out."""

    def __init__(self):
        super().__init__()
        self.computed = {"training": set(), "testing": set()}
        self.logits = set()
        self.shapes = []
        self.part = None

    def before_training_exp(self, strategy, *args, **kwargs):
        def note(*inputs_and_output):
            if self.part:
                self.computed[self.part].add(inputs_and_output[-1].dtype)

        for layer in strategy.model.modules():
            if isinstance(layer, nn.Linear | nn.Conv2d):
                layer.register_forward_hook(note)

    def before_forward(self, strategy, *args, **kwargs):
        self.part = "training"

    def before_eval_forward(self, strategy, *args, **kwargs):
        self.part = "testing"

    def after_forward(self, strategy, *args, **kwargs):
        self.part = None
        self.logits.add(strategy.mb_output.dtype)
        self.shapes.append(tuple(strategy.mb_x.shape))

    def after_eval_forward(self, strategy, *args, **kwargs):
        self.part = None
        self.logits.add(strategy.mb_output.dtype)


def trained(make_learner, scenario, name="APP", **options):
    watch = Watch()
    strategy = STRATEGIES.load(name).target(make_learner(plugins=[watch], **options), Pruning())
    torch.manual_seed(0)
    for experience in scenario.train_stream:
        strategy.train(experience, eval_streams=[])
        strategy.eval(scenario.test_stream)
    return strategy, watch


@pytest.mark.parametrize("name", ["APP", "Naive", "DER", "growing-ensemble", "ensemble"])
def test_bf16_runs_layers_in_bfloat16_and_keeps_everything_else_in_float32(make_learner, make_stream, name):
    strategy, watch = trained(make_learner, make_stream(), name, execution=BF16)
    assert watch.computed == {"training": {torch.bfloat16}, "testing": {torch.bfloat16}}
    assert watch.logits == {torch.float32}
    state = [*strategy.model.state_dict().values(), *(v for s in strategy.optimizer.state.values() for v in s.values())]
    assert {value.dtype for value in state if torch.is_tensor(value) and value.is_floating_point()} == {torch.float32}


@pytest.mark.parametrize("name", ["APP", "Naive"])
def test_fp32_runs_layers_in_float32(make_learner, make_stream, name):
    _, watch = trained(make_learner, make_stream(), name)
    assert watch.computed == {"training": {torch.float32}, "testing": {torch.float32}}


def test_bf16_is_close_to_fp32_but_not_the_same(make_learner, make_stream):
    scenario = make_stream()
    first, second = (trained(make_learner, scenario, execution=e, epochs=1)[0].model for e in (Execution(), BF16))
    pairs = list(zip(first.parameters(), second.parameters(), strict=True))
    assert not all(torch.equal(a, b) for a, b in pairs)
    assert all(torch.linalg.norm(a - b) < 0.2 * torch.linalg.norm(a) for a, b in pairs)


def test_validation_runs_in_the_precision_of_training(make_learner, make_stream):
    scenario = make_stream()
    strategy, watch = trained(make_learner, scenario, execution=BF16)
    watch.computed["testing"].clear()
    watch.part = "testing"
    count_correct(strategy, scenario.test_stream[0].dataset)
    assert watch.computed["testing"] == {torch.bfloat16}


def test_scores_are_taken_in_float32(make_learner, make_stream):
    seen = []

    def watched(model, batches, /):
        scores = snip(model, batches)
        seen.append((torch.is_autocast_enabled("cpu"), {score.dtype for score in scores.values()}))
        return scores

    from strategies.pruning.parts import PruningParts
    from strategies.pruning.plugin import PruningPlugin
    from strategies.pruning.schedules import OneShot

    learner = make_learner(execution=BF16)
    plugin = PruningPlugin(PruningParts(score=watched, schedule=OneShot(0.8**4.5)))
    AnytimeStrategy(learner=learner, plugins=[plugin]).train(make_stream().train_stream[0], eval_streams=[])
    assert seen == [(False, {torch.float32})]


def test_a_failed_step_leaves_no_autocast_behind(make_learner, make_stream):
    class Failing(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(6, 3)

        def forward(self, x):
            raise RuntimeError("out of memory")

    learner = make_learner(make_model=lambda _: Failing(), execution=BF16)
    with pytest.raises(RuntimeError, match="out of memory"):
        AnytimeStrategy(learner=learner).train(make_stream().train_stream[0], eval_streams=[])
    assert not torch.is_autocast_enabled("cpu")


@pytest.mark.slow
@needs_compiler
@pytest.mark.parametrize("name", ["APP", "Replay", "ensemble"])
def test_compiled_steps_learn_what_plain_ones_learn(make_learner, make_stream, name):
    scenario = make_stream(samples=70, megabatches=2)
    compiled, _ = trained(make_learner, scenario, name, execution=Execution(compiled=True))
    plain, _ = trained(make_learner, scenario, name)
    for a, b in zip(compiled.model.parameters(), plain.model.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-5)
    assert list(compiled.model.state_dict()) == list(plain.model.state_dict())


class CountedCompiler:
    """In place of torch.compile: counts what it is asked to compile and the shapes that it then runs."""

    def __init__(self):
        self.compiled = []
        self.shapes = []

    def __call__(self, model, **options):
        self.compiled.append(model)

        def run(x):
            self.shapes.append(tuple(x.shape))
            return model(x)

        return run


@pytest.mark.parametrize("name", ["APP", "Naive", "ensemble", "growing-ensemble", "from-scratch"])
def test_every_kind_of_strategy_compiles_the_network_that_it_trains(make_learner, make_stream, monkeypatch, name):
    compiler = CountedCompiler()
    monkeypatch.setattr(torch, "compile", compiler)
    trained(make_learner, make_stream(samples=140), name, execution=Execution(compiled=True))
    assert compiler.shapes


def test_a_teacher_answers_in_the_precision_of_the_student(make_learner, make_stream):
    strategy, watch = trained(make_learner, make_stream(), "distillation", execution=BF16)
    [teaching] = [plugin for plugin in strategy.plugins if isinstance(plugin, Distillation)]
    watch.computed["testing"].clear()
    watch.part = "testing"
    labels = torch.zeros(4).long()
    strategy.mbatch, strategy.mb_output = [torch.randn(4, 6), labels, labels], torch.zeros(4, 3)
    teaching.before_backward(strategy)
    assert watch.computed["testing"] == {torch.bfloat16}


def test_only_batches_of_a_repeated_shape_are_compiled_and_the_last_of_an_epoch_is_not(
    make_learner, make_stream, monkeypatch
):
    compiler = CountedCompiler()
    monkeypatch.setattr(torch, "compile", compiler)
    # 56 training samples a megabatch without replay: three batches of 16 and one of 8.
    scenario = make_stream(samples=140, megabatches=2)
    strategy, watch = trained(make_learner, scenario, replay="none", execution=Execution(compiled=True))
    assert set(watch.shapes) == {(16, 6), (8, 6)}
    assert compiler.compiled == [strategy.model]
    # The first batch of the first epoch cannot be known to repeat.
    assert compiler.shapes == [(16, 6)] * (watch.shapes.count((16, 6)) - 1)


def test_compiled_batches_give_the_same_bits_where_the_compiler_changes_nothing(make_learner, make_stream, monkeypatch):
    monkeypatch.setattr(torch, "compile", CountedCompiler())
    scenario = make_stream()
    with_it, _ = trained(make_learner, scenario, execution=Execution(compiled=True))
    without, _ = trained(make_learner, scenario)
    for a, b in zip(with_it.model.parameters(), without.model.parameters(), strict=True):
        assert torch.equal(a, b)
