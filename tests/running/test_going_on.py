"""Every strategy that is interrupted goes on to the same bits, though none of them knows of it."""

from __future__ import annotations

import signal
from collections import Counter

import pytest
import torch
from avalanche.training.determinism.rng_manager import RNGManager

from benchmark.config.profiles import resolve
from benchmark.errors import UsageError
from benchmark.running.build import build_strategy, make_evaluator
from benchmark.running.checkpoint import CheckpointFile
from benchmark.running.interruption import Interrupted, Interruption
from benchmark.running.keeper import Keeper
from benchmark.running.prepare import prepare
from benchmark.running.snapshot import Surroundings
from benchmark.running.train import train
from benchmark.streams.build import build_stream
from strategies.learning.continuation import Continuable
from strategies.registry import STRATEGIES

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]

UNSTABLE = ("time/", "memory/")

OPTIONS = {
    **{"stream": "digits", "model": "mlp", "megabatches": 3, "epochs": 2, "batch_size": 64, "shots": 40},
    "test_shots": 10,
}

MORE = {
    "RigL": {"settings": {"every": 3}},
    "SET": {"settings": {"every": 3}},
    "Replay": {"buffer_size": 50},
    "DER": {"buffer_size": 50},
    "GDumb": {"buffer_size": 80},
    "RWalk": {"stream": "split_digits", "scenario": "task-incremental", "lr": 0.01, "settings": {"delta_t": 2}},
    "iCaRL": {"stream": "split_digits"},
    "PackNet": {"stream": "split_digits", "scenario": "task-incremental"},
    "PackNet-masks": STRATEGIES.load("PackNet-masks").test_config,
    "WSN": STRATEGIES.load("WSN").test_config,
}
"""What makes a strategy do more than nothing on so little data, or at all."""

VARIANTS = [
    *({"strategy": name, **MORE.get(name, {})} for name in STRATEGIES.names()),
    {"strategy": "APP", "replay": "buffer", "buffer_size": 50},
    {"strategy": "APP", "nested": False, "score": "magnitude"},
    {"strategy": "APP", "optimizer": "adamw", "lr": 0.001, "carry_momentum": True},
    {"strategy": "APP", "control": "reinitialise"},
    {"strategy": "APP", "wait": 2, "ties": "loss", "lr_schedule": "cosine"},
    {"strategy": "EWC", "schedule": "exponent"},
    {"strategy": "from-scratch", "stream": "split_digits", "head": "growing"},
    {"strategy": "dense", "stream": "permuted_digits", "replay": "interleaved", "buffer_size": 50},
]


class Points:
    """Counts nothing and sends nothing."""

    def __init__(self):
        self.emitted = Counter()
        self.sent = 0

    def flush(self):
        self.sent += 1


class EndsAt(Interruption):
    """Tells to end when it is asked for the n-th time."""

    def __init__(self, call):
        self.calls, self.call, self._waits, self._is_timed = 0, call, False, False

    @property
    def signal(self):
        self.calls += 1
        return signal.SIGTERM if self.calls >= self.call else None


@pytest.fixture(scope="module")
def loaded():
    return {}


@pytest.fixture
def start(tmp_path, loaded):
    """Function: (options, interruption) -> a fresh strategy, its stream, its keeper and how many megabatches it has."""

    def begin(options, interruption):
        config = resolve({**OPTIONS, **options}, profile="demo")
        prepared = prepare(config, data_root=tmp_path / "none", cache=tmp_path / "cache", loaded=loaded)
        RNGManager.set_random_seeds(1)
        stream = build_stream(prepared.config, prepared.data, "cpu")
        evaluator = make_evaluator(None)
        strategy = build_strategy(prepared.config, stream, "cpu", evaluator)
        surroundings = Surroundings(strategy, stream.scenario, [*evaluator.loggers, stream.loader])
        about = {"identity": "this", "code": "c", "device": "cpu"}
        keeper = Keeper(CheckpointFile(tmp_path / "kept"), about, surroundings, Points(), interruption, every=1e9)
        return strategy, stream.scenario, keeper, config.megabatches

    return begin


def finish(strategy, scenario, keeper, megabatches):
    with keeper.watching(strategy):
        train(strategy, scenario, megabatches, done=keeper.done, after_megabatch=keeper.after_megabatch)
    series = strategy.evaluator.get_all_metrics()
    measured = {name: values for name, values in series.items() if not name.startswith(UNSTABLE)}
    return {name: value.clone() for name, value in strategy.model.state_dict().items()}, measured


@pytest.mark.parametrize("options", VARIANTS, ids=lambda options: "-".join(map(str, options.values())))
def test_it_goes_on_to_the_same_bits(start, options):
    counting = EndsAt(10**9)
    strategy, *rest = start(options, counting)
    expected = finish(strategy, *rest)
    # In the middle: of an epoch for those that can be left there, else after a megabatch.
    strategy, *rest = start(options, EndsAt(max(1, counting.calls // 2)))
    with pytest.raises(Interrupted):
        finish(strategy, *rest)
    fresh, scenario, keeper, megabatches = start(options, Interruption())
    RNGManager.set_random_seeds(5)
    restored = keeper.restore(fresh)
    assert restored is not fresh
    weights, series = finish(restored, scenario, keeper, megabatches)
    assert weights.keys() == expected[0].keys()
    assert not [name for name, value in weights.items() if not torch.equal(value, expected[0][name])]
    assert series == expected[1]


def test_the_anytime_learners_can_be_left_within_an_epoch(start):
    strategy, *rest = start({"strategy": "APP"}, EndsAt(2))
    with pytest.raises(Interrupted) as told:
        finish(strategy, *rest)
    assert told.value.signal == signal.SIGTERM
    assert isinstance(strategy, Continuable) and strategy.within_epoch and strategy.clock.train_iterations == 2


def test_it_is_saved_at_the_end_of_the_first_epoch_after_a_while(start):
    strategy, scenario, keeper, megabatches = start({"strategy": "dense"}, Interruption())
    keeper.every = 0.0
    finish(strategy, scenario, keeper, megabatches)
    # Both epochs of each megabatch; the megabatches themselves only where that takes no more than its share of time.
    assert 6 <= keeper.points.sent <= 9


def test_a_checkpoint_of_another_run_is_refused_and_a_damaged_one_is_not_used(start, capsys):
    strategy, scenario, keeper, megabatches = start({"strategy": "dense"}, EndsAt(1))
    with pytest.raises(Interrupted):
        finish(strategy, scenario, keeper, megabatches)
    fresh, _, other, _ = start({"strategy": "dense"}, Interruption())
    own = other.about
    other.about = {**own, "identity": "another"}
    with pytest.raises(UsageError, match="another run"):
        other.restore(fresh)
    other.about = {**own, "device": "cuda:1"}
    with pytest.raises(UsageError, match="--device cpu"):
        other.restore(fresh)
    other.about = {**own, "code": "d"}
    with pytest.raises(UsageError, match="--resume-anyway"):
        other.restore(fresh)
    other.anyway = True
    assert other.restore(fresh) is not fresh
    keeper.file.path.write_bytes(keeper.file.path.read_bytes()[:-1])
    assert other.restore(fresh) is fresh and "starts anew" in capsys.readouterr().err
