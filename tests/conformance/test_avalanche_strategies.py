"""Avalanche's own strategy tests as the judge of integration: with our streams, and with our pruning plugin.

Each unittest method of Avalanche's ``tests.training.test_strategies`` runs with its toy benchmark replaced by an
ALMA stream, and with the pruning plugin put into every strategy it builds. What cannot pass is listed by name and
reason and must keep failing as listed, so that a fix, here or upstream, is noticed.
"""

from __future__ import annotations

import importlib
import random
import socket
import sys
import unittest
from collections.abc import Iterable, Mapping
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import avalanche
import numpy as np
import pytest
import torch
from avalanche.benchmarks import CLScenario
from avalanche.training.templates import BaseTemplate
from soak import ASKED

from benchmark.registry import PROTOCOLS
from benchmark.streams.protocols.scenario import Asked, make_scenario
from strategies.pruning.distributions import global_ranking
from strategies.pruning.masks import kept_count, prunable_weights
from strategies.pruning.parts import PruningParts
from strategies.pruning.plugin import PruningPlugin
from strategies.pruning.schedules import Progressive
from strategies.pruning.scores.magnitude import magnitude
from strategies.pruning.scores.snip import snip

pytestmark = pytest.mark.filterwarnings("ignore")  # Avalanche's tests use what it and torch deprecate.

MEGABATCHES = 5
REQUIRED = 32
"""Strategy tests, of 35 in Avalanche 0.6.0, that must pass in each mode."""


def avalanche_tests(name: str) -> ModuleType:
    """Import ``tests.<name>`` as Avalanche's wheel installs it, though our own test folder has the same name.

    Under ``--import-mode=importlib`` pytest has bound ``tests`` to our folder by now; Avalanche's is added to the
    places where submodules are looked for.

    Raises:
        ImportError: Avalanche's wheel has no such module, or ours hides it.
    """
    theirs = Path(avalanche.__file__).parents[1] / "tests"
    package = importlib.import_module("tests")
    package.__path__ = list(dict.fromkeys([str(theirs), *getattr(package, "__path__", [])]))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FAST_TEST", "True")  # Avalanche reads it at import, to skip its slowest tests.
        try:
            module = importlib.import_module(f"tests.{name}")
        except ModuleNotFoundError as error:
            raise ImportError(
                f"no {error.name!r} in {theirs}: the conformance tests need the test-suite that avalanche-lib 0.6.0 "
                f"installs beside itself (found avalanche {avalanche.__version__})"
            ) from error
    if not Path(str(module.__file__)).is_relative_to(theirs):
        raise ImportError(f"tests.{name} is {module.__file__}, not Avalanche's: rename ours, it hides theirs")
    return module


def unittests(*cases: type[unittest.TestCase]) -> dict[str, unittest.TestCase]:
    """Every test method of the classes, so that methods that are new upstream run without being listed here."""
    loader = unittest.defaultTestLoader
    return {f"{case.__name__}.{name}": case(name) for case in cases for name in loader.getTestCaseNames(case)}


STRATEGIES = avalanche_tests("training.test_strategies")
PLUGINS = avalanche_tests("training.test_plugins")
LOGGERS = avalanche_tests("test_loggers")

STRATEGY_TESTS = unittests(STRATEGIES.BaseStrategyTest, STRATEGIES.StrategyTest)
OTHER_TESTS = unittests(
    PLUGINS.PluginTests, PLUGINS.EvaluationPluginTest, PLUGINS.EarlyStoppingPluginTest, LOGGERS.TestLoggers
)
del OTHER_TESTS["PluginTests.test_scheduler_reduce_on_plateau_plugin"]  # Takes half a minute, alone.


class Known(NamedTuple):
    """Why a test fails, and with what: failing for another reason is news too."""

    reason: str
    raises: type[Exception]


STACK: dict[str, Known] = {
    "StrategyTest.test_bic": Known("BiC passes verbose= to MultiStepLR, which torch no longer takes", TypeError),
    "StrategyTest.test_expertgate": Known("downloads a pretrained AlexNet; tests never download", OSError),
}
"""Failures of Avalanche 0.6.0 on the tested versions, without anything of ours."""

WITH_OUR_STREAMS: dict[str, Known] = STACK | {
    "StrategyTest.test_expertgate": Known(
        "downloads a pretrained AlexNet; it would then ask for a task label per experience, ALMA has one task", OSError
    ),
    "StrategyTest.test_icarl": Known(
        "iCaRL asks the benchmark which classes are new in each experience (n_classes_per_exp, classes_order); in an "
        "i.i.d. stream every megabatch has them all",
        AttributeError,
    ),
}

WITH_OUR_PLUGIN: dict[str, Known] = STACK | {
    "StrategyTest.test_icarl": Known(
        "the test's network is one Linear layer, which counts as the classifier: nothing is prunable, and the plugin "
        "says so",
        ValueError,
    ),
}

WITHOUT_BENCHMARK = {"BaseStrategyTest.test_forward_hooks"}
"""Tests that ask for no benchmark."""

WITHOUT_TRAINING = {
    "BaseStrategyTest.test_eval_streams_normalization",
    "BaseStrategyTest.test_forward_hooks",
    "StrategyTest.test_warning_slda_lwf",
}
"""Tests that train nothing, so that nothing is pruned."""

SCORES = {"StrategyTest.test_slda": magnitude}
"""SNIP, but for deep SLDA: it never trains its network and detaches the features, so that there is no gradient."""

FEWER = {"StrategyTest.test_mer": 15}
"""Samples of a class in the toy data, 100 elsewhere: MER trains on each by itself, many times."""


def cases(tests: Iterable[str], known: Mapping[str, Known]) -> list[Any]:
    """Parameters for the tests, the known failures marked."""
    return [
        pytest.param(
            name,
            marks=[pytest.mark.xfail(strict=True, reason=known[name].reason, raises=known[name].raises)]
            if name in known
            else [],
        )
        for name in tests
    ]


def run(test: unittest.TestCase) -> None:
    """Run one unittest method, class fixtures included, and let its exceptions through."""
    unittest.TestSuite([test]).debug()


@pytest.fixture(autouse=True)
def offline_and_seeded(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterable[None]:
    """No network, no cached downloads, no GPU, and the same data and weights in every run."""

    def refuse(host: object, *args: object, **kwargs: object) -> None:
        raise OSError(f"tests never download, but {host} was asked for")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setenv("FAST_TEST", "True")
    monkeypatch.setenv("USE_GPU", "False")
    deterministic = torch.are_deterministic_algorithms_enabled()
    random.seed(0)
    np.random.seed(0)
    torch.manual_seed(0)
    yield
    torch.use_deterministic_algorithms(deterministic)  # Avalanche's ExpertGate test switches it off for good.


@pytest.fixture
def streams_made(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> list[CLScenario]:
    """Have Avalanche's tests train on our streams of their own toy data; the streams that they asked for.

    They are ALMA's unless the test has a parameter ``shifting``; then classes come one after another, as tasks where
    task labels were asked for.
    """
    made: list[CLScenario] = []
    shifting = request.node.callspec.params.get("shifting", False)
    toy_data = sys.modules["tests.unit_tests_utils"].dummy_classification_datasets
    fewer = FEWER.get(request.node.callspec.params["name"])

    def alma_benchmark(
        use_task_labels: bool = False,
        shuffle: bool = True,
        n_samples_per_class: int = 100,
        n_classes: int = 10,
        n_features: int = 6,
        seed: int | None = None,
        train_transform: object = None,
        eval_transform: object = None,
    ) -> CLScenario:
        """Ours have tasks or not, and always shuffle, so that two of the arguments say nothing of ALMA's."""
        protocol = "alma" if not shifting else "task-incremental" if use_task_labels else "class-incremental"
        train, test = (
            [(x, int(y)) for x, y, _ in part]
            for part in toy_data(n_classes, n_features, fewer or n_samples_per_class, seed)
        )
        targets, tested = (np.array([y for _, y in part]) for part in (train, test))
        entry = PROTOCOLS.load(protocol)
        scenario = make_scenario(
            entry.target(Asked(targets, tested, n_classes, MEGABATCHES, seed=seed or 0)),
            train,
            test,
            targets,
            tested,
            train_transforms=[train_transform],
            eval_transforms=[eval_transform],
            protocol=protocol,
            traits=entry.traits,
        )
        made.append(scenario)
        return scenario

    monkeypatch.setattr(STRATEGIES, "get_fast_benchmark", alma_benchmark)
    return made


@pytest.fixture
def pruned(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> list[BaseTemplate]:
    """Put the pruning plugin into every strategy and check it after each training; the strategies that it pruned.

    It stands first among the plugins, where Avalanche's constructors put what the caller passes.
    """
    plugins: dict[BaseTemplate, PruningPlugin] = {}
    strategies: list[BaseTemplate] = []
    construct, finish = BaseTemplate.__init__, BaseTemplate._after_training
    score = SCORES.get(request.node.callspec.params["name"], snip)

    def construct_with_plugin(strategy: BaseTemplate, **kwargs: Any) -> None:
        construct(strategy, **kwargs)
        plugins[strategy] = PruningPlugin(
            PruningParts(
                score=score,
                distribution=global_ranking,
                schedule=Progressive(density=0.8**4.5, megabatches=MEGABATCHES),
                sample_fraction=0.2,
            )
        )
        strategy.plugins.insert(0, plugins[strategy])

    def finish_and_check(strategy: BaseTemplate, **kwargs: Any) -> None:
        finish(strategy, **kwargs)
        assert_pruned(strategy, plugins[strategy], scored=score is snip)
        strategies.append(strategy)

    fewer = FEWER.get(request.node.callspec.params["name"])
    if fewer is not None:
        benchmark = partial(STRATEGIES.get_fast_benchmark, n_samples_per_class=fewer)
        monkeypatch.setattr(STRATEGIES, "get_fast_benchmark", benchmark)
    monkeypatch.setattr(BaseTemplate, "__init__", construct_with_plugin)
    monkeypatch.setattr(BaseTemplate, "_after_training", finish_and_check)
    return strategies


def assert_pruned(strategy: Any, plugin: PruningPlugin, scored: bool) -> None:
    """The density is the schedule's, to the weight, and what is pruned is exactly zero, whoever trained it."""
    weights = prunable_weights(strategy.model)
    masks = plugin.masks
    assert masks is not None, "nothing was pruned"
    masks.check(weights)
    density = plugin.parts.schedule(strategy.clock.train_exp_counter - 1)
    assert masks.nonzeros == kept_count(density, masks.size) < masks.size
    assert (plugin.scored_samples > 0) == scored
    moved = sum(int(weights[name].detach()[~mask].count_nonzero()) for name, mask in masks.items())
    assert moved == 0, f"{moved} of {masks.size - masks.nonzeros} pruned weights are not zero after training"


@pytest.mark.parametrize("name", cases(sorted(WITH_OUR_STREAMS | WITH_OUR_PLUGIN), STACK))
def test_what_fails_with_us_is_the_stacks_failure_or_ours(name: str) -> None:
    """Left alone, a test that is listed for a mode fails only if it is listed for the stack."""
    run(STRATEGY_TESTS[name])


@pytest.mark.parametrize("name", cases(OTHER_TESTS, {}))
def test_plugins_and_loggers_work_on_this_stack(name: str) -> None:
    """Avalanche's plugin mechanism and loggers, which ours build on, do on these versions what they promise."""
    run(OTHER_TESTS[name])


@pytest.mark.parametrize("name", cases(STRATEGY_TESTS, WITH_OUR_STREAMS))
def test_strategies_run_on_our_streams(name: str, streams_made: list[CLScenario]) -> None:
    """An ALMA stream is a genuine Avalanche scenario: Avalanche's strategies cannot tell."""
    run(STRATEGY_TESTS[name])
    assert streams_made or name in WITHOUT_BENCHMARK, "the test got its benchmark from elsewhere"


@pytest.mark.parametrize("shifting", [True])
@pytest.mark.parametrize("name", cases(STRATEGY_TESTS if ASKED else ["StrategyTest.test_icarl"], STACK))
def test_strategies_run_on_our_streams_that_shift(name: str, shifting: bool, streams_made: list[CLScenario]) -> None:
    """In the long form all of them, as on ALMA's; in the short one that which asks an experience for its classes."""
    run(STRATEGY_TESTS[name])
    assert streams_made or name in WITHOUT_BENCHMARK, "the test got its benchmark from elsewhere"


@pytest.mark.parametrize("name", cases(STRATEGY_TESTS, WITH_OUR_PLUGIN))
def test_strategies_run_with_our_plugin(name: str, pruned: list[BaseTemplate]) -> None:
    """The pruning plugin prunes under any strategy, and what it pruned stays zero."""
    run(STRATEGY_TESTS[name])
    assert pruned or name in WITHOUT_TRAINING, "the test trained nothing that the plugin could prune"


@pytest.mark.parametrize("known", [WITH_OUR_STREAMS, WITH_OUR_PLUGIN], ids=["streams", "plugin"])
def test_enough_strategy_tests_pass(known: Mapping[str, Known]) -> None:
    """The lists of known failures must not grow into an excuse, nor outlive the tests that they name."""
    assert known.keys() <= STRATEGY_TESTS.keys()
    assert len(STRATEGY_TESTS) - len(known) >= REQUIRED
