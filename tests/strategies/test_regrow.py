"""SET, RigL, and the laws of every method whose weights come back: counts stay, grown weights start afresh."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch
from avalanche.core import SupervisedPlugin
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import kstest

from strategies import rigl
from strategies.anytime import Pruning
from strategies.learning import selection
from strategies.learning.evaluation import count_correct
from strategies.pruning import regrow
from strategies.pruning.masks import Masks, prunable_weights
from strategies.pruning.plugin import PruningPlugin
from strategies.registry import DISTRIBUTIONS, STRATEGIES

SIZE = 54 + 324 + 288
"""Prunable weights of the network of ``make_net``."""

KEPT = round(0.8**4.5 * SIZE)

both = pytest.mark.parametrize("name", ["SET", "RigL"])
dynamic = pytest.mark.parametrize("name", ["SET", "RigL", "SparCL", "ebb-and-flow"])
often = {"every": 1, "until": 1.0}


class Watch(SupervisedPlugin, supports_distributed=False):
    """Calls a function with the strategy at some hooks of Avalanche's and keeps what it returns, hook by hook."""

    def __init__(self, **functions):
        super().__init__()
        self.seen = {hook: [] for hook in functions}
        for hook, function in functions.items():
            setattr(self, hook, self._watching(self.seen[hook], function))

    def _watching(self, seen, function):
        def hook(strategy, *args, **kwargs):
            seen.append(function(strategy))

        return hook

    def __getitem__(self, hook):
        return self.seen[hook]


def masks_of(strategy):
    return next(plugin for plugin in strategy.plugins if isinstance(plugin, PruningPlugin)).masks


def state(strategy):
    """Masks, and of each weight its value, gradient and momentum, as they are now."""
    weights = prunable_weights(strategy.model)
    momentum = {n: strategy.optimizer.state[w].get("momentum_buffer") for n, w in weights.items()}
    return {
        "masks": masks_of(strategy),
        "weights": {n: w.detach().clone() for n, w in weights.items()},
        "gradients": {n: None if w.grad is None else w.grad.clone() for n, w in weights.items()},
        "momentum": {n: None if m is None else m.clone() for n, m in momentum.items()},
        "others": [p.detach().clone() for n, p in strategy.model.named_parameters() if n not in weights],
        "lr": strategy.optimizer.param_groups[0]["lr"],
        "step": strategy.clock.train_exp_iterations,
    }


def updated(weights, mask, preference, fraction):
    """A layer's mask after the drop and after the growth, weight by weight, out of the papers' rule."""
    w, p = weights.double().flatten().tolist(), preference.double().flatten().tolist()
    active = [i for i, kept in enumerate(mask.flatten().tolist()) if kept]
    exchanged = min(round(fraction * len(active)), len(w) - len(active))
    by_size = sorted(active, key=lambda i: (-abs(w[i]), i))
    kept = set(by_size[: len(active) - exchanged])
    free = sorted(set(range(len(w))) - kept, key=lambda i: (-p[i], i))
    both = kept | set(free[:exchanged])
    return tuple(torch.tensor([i in s for i in range(len(w))]).reshape(mask.shape) for s in (kept, both))


@pytest.fixture(scope="module")
def stream(make_stream):
    return make_stream()


@pytest.fixture
def make(make_learner):
    """Function: name of a strategy, plugins before and after its own, settings, options, recipe -> the strategy."""

    def build(name, *, before=(), after=(), own=None, density=0.8**4.5, **recipe):
        entry = STRATEGIES.load(name)
        own = {key: value for key, value in (own or {}).items() if key in entry.settings}
        pruning = Pruning(density=density, **entry.traits.defaults)
        strategy = entry.target(make_learner(**{"epochs": 4, **recipe}), pruning, **own)
        strategy.plugins[:0] = before
        strategy.plugins.extend(after)
        return strategy

    return build


# When masks are updated


@given(st.integers(1, 400), st.integers(1, 300), st.floats(0.01, 1))
def test_updates_are_the_multiples_before_the_deadline_or_one_in_the_middle(steps, every, until):
    multiples = [k for k in range(1, steps) if k % every == 0 and k < until * steps]
    found = list(regrow.update_steps(steps, every, until))
    if multiples or until * steps <= 1:
        assert found == multiples
    else:
        assert len(found) == 1
        assert 0 < found[0] < until * steps
        assert abs(found[0] - until * steps / 2) <= 1


def test_the_fraction_falls_along_a_cosine():
    expected = 0.3 * np.cos(np.pi * np.arange(76) / 150) ** 2
    np.testing.assert_allclose([regrow.cosine(0.3, k, 75) for k in range(76)], expected, atol=1e-12)


@both
@pytest.mark.parametrize(("every", "until"), [(2, 0.75), (3, 1.0), (100, 0.75), (0, 0.75)])
def test_masks_change_when_they_should_and_at_no_other_step(name, make, train, stream, every, until):
    watch = Watch(before_training_exp=masks_of, after_update=masks_of, after_training_exp=masks_of)
    train(make(name, after=[watch], own={"every": every, "until": until}), stream)
    after, handed_over = iter(watch["after_update"]), [watch["before_training_exp"][0], *watch["after_training_exp"]]
    for t, start in enumerate(watch["before_training_exp"]):
        assert (start != handed_over[t]) == (every == 0 and t > 0)
        masks = [start, *(next(after) for _ in range(4 * (t + 1)))]
        changed = [k for k in range(4 * (t + 1)) if masks[k + 1] != masks[k]]
        due = list(regrow.update_steps(4 * (t + 1), every, until))
        # The last of the exchanges are of a weight or two, and RigL may take back what it dropped.
        assert changed[:1] == due[:1]
        assert set(changed) <= set(due)


@both
def test_two_steps_are_enough_for_an_update(name, make, train, stream):
    watch = Watch(before_training_exp=masks_of, after_update=masks_of)
    train(make(name, after=[watch], epochs=2, replay="none"), stream)
    starts, after = watch["before_training_exp"], watch["after_update"]
    assert len(after) == 6
    assert all(starts[t] == after[2 * t] != after[2 * t + 1] for t in range(3))


# Which weights go, and which come


values = st.lists(st.sampled_from([0.0, 0.5, 1.0, 2.0, np.inf, np.nan]), min_size=12, max_size=12)


@pytest.mark.filterwarnings("ignore::strategies.pruning.masks.EmptyLayerWarning")
@given(values, values, st.lists(st.booleans(), min_size=12, max_size=12), st.floats(0, 1))
def test_a_layer_grows_as_many_as_it_drops_whatever_the_scores(magnitudes, preference, kept, fraction):
    masks = Masks({"layer": torch.tensor(kept)})
    shrunk = regrow.shrunk(masks, {"layer": torch.tensor(magnitudes)}, regrow.after_drop(masks, fraction))
    grown = regrow.grown(shrunk, {"layer": torch.tensor(preference)}, regrow.kept_per_layer(masks))
    assert shrunk <= masks
    assert shrunk <= grown
    assert masks.nonzeros - shrunk.nonzeros == min(round(fraction * sum(kept)), 12 - sum(kept))
    assert grown.nonzeros == masks.nonzeros


@given(st.lists(st.tuples(st.integers(1, 40), st.floats(0, 1)), min_size=1, max_size=5), st.floats(0, 1))
def test_shares_in_proportion_add_up_and_move_no_layer_the_wrong_way(layers, density):
    masks = Masks({str(n): torch.arange(size) < round(share * size) for n, (size, share) in enumerate(layers)})
    before, total = regrow.kept_per_layer(masks), round(density * masks.size)
    counts = regrow.in_proportion(before, total, masks)
    assert sum(counts.values()) == total
    for name, count in counts.items():
        assert 0 <= count <= masks[name].numel()
        assert (count - before[name]) * (total - masks.nonzeros) >= 0


def test_rigl_drops_the_smallest_weights_and_grows_the_largest_gradients(make, train, stream):
    before, after = Watch(before_update=state), Watch(before_update=state)
    train(make("RigL", before=[before], after=[after], own={"every": 2}), stream)
    exchanged = 0
    for t, (old, new) in enumerate(zip(before["before_update"], after["before_update"], strict=True)):
        megabatch = sum(t >= start for start in (4, 12))
        deadline = 0.75 * 4 * (megabatch + 1)
        if old["step"] % 2 or not 0 < old["step"] < deadline:
            assert new["masks"] == old["masks"]
            continue
        fraction = 0.3 * np.cos(np.pi * old["step"] / deadline / 2) ** 2
        for name, mask in old["masks"].items():
            kept, grown = updated(old["weights"][name], mask, old["gradients"][name].abs(), fraction)
            assert torch.equal(new["masks"][name], grown)
            assert torch.equal(new["weights"][name], old["weights"][name] * kept)
            exchanged += int((mask & ~kept).sum())
    assert exchanged > SIZE / 4


def test_set_drops_the_smallest_weights(make, train, stream):
    before, after = Watch(before_training_iteration=state), Watch(before_training_iteration=state)
    train(make("SET", before=[before], after=[after], own=often), stream)
    for t, (old, new) in enumerate(zip(before.seen.popitem()[1], after.seen.popitem()[1], strict=True)):
        deadline = 4 * (1 + (t >= 4) + (t >= 12))
        fraction = 0.3 * np.cos(np.pi * old["step"] / deadline / 2) ** 2 if old["step"] else 0
        for name, mask in old["masks"].items():
            kept, _ = updated(old["weights"][name], mask, torch.zeros(mask.shape), fraction)
            assert (new["masks"][name] | ~kept).all()
            assert torch.equal(new["weights"][name], old["weights"][name] * kept)


def test_set_grows_every_pruned_weight_equally_often(make, train, stream):
    strategy = train(make("SET", epochs=1), stream)
    plugin = next(p for p in strategy.plugins if isinstance(p, PruningPlugin))
    draws = [plugin.drawn(strategy, step)["4.weight"] for step in range(40)]
    assert kstest(torch.stack(draws).flatten().numpy(), "uniform").pvalue > 0.01
    assert len({float(draw[0, 0, 0, 0]) for draw in draws}) == 40
    kept = Masks({"4.weight": plugin.masks["4.weight"]})
    grown = [regrow.grown(kept, {"4.weight": draw}, {"4.weight": kept.nonzeros + 20})["4.weight"] for draw in draws]
    often = (torch.stack(grown) & ~kept["4.weight"]).sum(0)
    assert often.sum() == 40 * 20
    # Each of the pruned weights comes 40 * 20 / pruned times on average.
    assert often.max() < 6 * 40 * 20 / (kept.size - kept.nonzeros)


@pytest.mark.parametrize("every", [0, 2])
def test_growth_is_random_by_seed_and_by_nothing_else(make, train, stream, every):
    def trained(seed, disturb):
        watch = Watch(after_update=masks_of, before_training_exp=lambda _: torch.rand(disturb))
        train(make("SET", own={"every": every}, seed=seed, lr=0.0, before=[watch]), stream)
        return watch["after_update"]

    # With a learning rate of zero the weights, and hence what is dropped, are the same for any order of samples.
    assert trained(0, disturb=0) == trained(0, disturb=7)
    assert trained(0, disturb=0) != trained(1, disturb=0)


def test_gradients_are_those_of_the_dense_layers(make_net, samples_of_stream):
    model, (x, y) = make_net(norm=False), samples_of_stream
    generator = torch.Generator().manual_seed(0)
    weights = prunable_weights(model)
    Masks({n: torch.rand(w.shape, generator=generator) < 0.5 for n, w in weights.items()}).apply_(model)
    sizes = regrow.gradient_sizes(model, [((x[:5],), y[:5]), ((x[5:],), y[5:])])
    torch.nn.functional.cross_entropy(model(x), y).backward()
    for name, weight in weights.items():
        torch.testing.assert_close(sizes[name], weight.grad.abs(), rtol=1e-4, atol=1e-7)
        assert (sizes[name][weight == 0] > 0).any()


@pytest.fixture
def samples_of_stream(stream):
    data = stream.train_stream[0].dataset.eval()
    return torch.stack([data[i][0] for i in range(12)]), torch.tensor([data[i][1] for i in range(12)])


def test_once_a_megabatch_rigl_grows_by_gradients_on_a_sample_of_the_new_data(make, train, stream, monkeypatch):
    sizes, measure = [], regrow.gradient_sizes

    def remember(*args):
        sizes.append(measure(*args))
        return sizes[-1]

    monkeypatch.setattr(rigl, "gradient_sizes", remember)
    before, after = Watch(before_training_exp=state), Watch(before_training_exp=state)
    strategy = train(make("RigL", own={"every": 0}, before=[before], after=[after]), stream)
    assert len(sizes) == 2
    for size, old, new in zip(sizes, before["before_training_exp"][1:], after["before_training_exp"][1:], strict=True):
        for name, mask in old["masks"].items():
            kept, grown = updated(old["weights"][name], mask, size[name], 0.3)
            assert torch.equal(new["masks"][name], grown)
            assert torch.equal(new["weights"][name], old["weights"][name] * kept)
    assert sum(getattr(plugin, "scored_samples", 0) for plugin in strategy.plugins) == 2 * round(0.2 * 16)


def test_rigl_scores_no_samples_while_it_reads_the_gradients_of_training(make, train, stream):
    strategy = train(make("RigL", own={"every": 2}), stream)
    assert sum(getattr(plugin, "scored_samples", 0) for plugin in strategy.plugins) == 0


@both
@pytest.mark.parametrize("tau", [1.0, 4.5])
def test_layers_keep_their_erk_counts_for_ever_and_full_ones_all_their_weights(name, make, train, stream, tau):
    before, after = Watch(before_update=state), Watch(after_update=state)
    train(make(name, own=often, density=0.8**tau, before=[before], after=[after]), stream)
    sizes = {n: w.numel() for n, w in before["before_update"][0]["weights"].items()}
    scores = {n: torch.zeros(w.shape) for n, w in before["before_update"][0]["weights"].items()}
    expected = DISTRIBUTIONS.load("erk").target(scores, 0.8**tau, sizes)
    full = {n for n in sizes if expected[n] == sizes[n]}
    assert bool(full) == (tau == 1)
    for old, new in zip(before["before_update"], after["after_update"], strict=True):
        assert regrow.kept_per_layer(new["masks"]) == expected
        assert all((new["weights"][n] != 0).all() and (old["weights"][n] != 0).all() for n in full)


# Grown weights start afresh


@pytest.mark.parametrize("carry", [False, True])
def test_weights_grown_by_set_move_by_their_first_gradient_alone(make, train, stream, carry):
    before, after = Watch(before_training_iteration=state, before_update=state), Watch(after_update=state)
    train(make("SET", own=often, before=[before], after=[after], carry_momentum=carry), stream)
    moved = 0
    for old, start, end in zip(*before.seen.values(), after["after_update"], strict=True):
        for name, mask in end["masks"].items():
            grown = mask & ~old["masks"][name]
            gradient = start["gradients"][name][grown]
            assert (start["weights"][name][grown] == 0).all()
            torch.testing.assert_close(end["weights"][name][grown], -end["lr"] * gradient)
            torch.testing.assert_close(end["momentum"][name][grown], gradient)
            moved += len(gradient)
    assert moved > SIZE / 4


def test_a_batch_that_rigl_grows_by_moves_no_weight_and_the_next_one_does(make, train, stream):
    before, after = Watch(before_update=state), Watch(after_update=state)
    train(make("RigL", own={"every": 2}, before=[before], after=[after]), stream)
    pairs = list(zip(before["before_update"], after["after_update"], strict=True))
    moved = 0
    for (old, new), (following, end) in pairwise(pairs):
        if new["masks"] == old["masks"]:
            continue
        assert all(map(torch.equal, new["others"], old["others"]))
        for name, mask in new["masks"].items():
            grown, stayed = mask & ~old["masks"][name], mask & (new["weights"][name] != 0)
            assert torch.equal(new["weights"][name][stayed], old["weights"][name][stayed])
            assert (new["weights"][name][grown] == 0).all()
            assert (new["momentum"][name][grown] == 0).all()
            gradient = following["gradients"][name][grown]
            torch.testing.assert_close(end["weights"][name][grown], -end["lr"] * gradient)
            moved += len(gradient)
    assert moved > SIZE / 8


def test_a_weight_that_is_dropped_and_grown_at_once_starts_afresh_too(make, train, stream):
    strategy = train(make("SET"), stream)
    plugin = next(p for p in strategy.plugins if isinstance(p, PruningPlugin))
    masks, half = plugin.masks, {}
    for name, mask in masks.items():
        half[name] = mask & (torch.arange(mask.numel()).reshape(mask.shape) % 2 == 0)
    old = state(strategy)
    plugin.exchange(strategy, Masks(half), masks)
    new = state(strategy)
    assert new["masks"] == masks
    for name, kept in half.items():
        assert (old["weights"][name][masks[name] & ~kept] != 0).any()
        assert (old["momentum"][name][masks[name] & ~kept] != 0).any()
        assert torch.equal(new["weights"][name], old["weights"][name] * kept)
        assert torch.equal(new["momentum"][name], old["momentum"][name] * kept)


@dynamic
def test_pruned_weights_and_their_momentum_are_zero_after_every_update(name, make, train, stream):
    watch = Watch(after_update=state)
    train(make(name, own={"every": 1}, after=[watch], carry_momentum=True), stream)
    for now in watch["after_update"]:
        for layer, mask in now["masks"].items():
            assert (now["weights"][layer][~mask] == 0).all()
            assert (now["momentum"][layer][~mask] == 0).all()


# Along the stream


@dynamic
@pytest.mark.parametrize("replay", ["full", "none"])
@pytest.mark.parametrize("epochs", [1, 2, 5])
def test_every_hand_over_has_exactly_the_final_density(name, make, train, stream, replay, epochs):
    watch = Watch(after_training_exp=state)
    train(make(name, after=[watch], epochs=epochs, replay=replay, own=often), stream)
    assert [now["masks"].nonzeros for now in watch["after_training_exp"]] == [KEPT] * 3
    assert all(Masks.of(now["weights"]) <= now["masks"] for now in watch["after_training_exp"])


def test_rigl_does_not_hand_over_weights_that_were_grown_and_not_yet_trained(make, train, stream, monkeypatch):
    """One batch an epoch, an update in place of the third step: that epoch validates best, but its growth is zeros."""
    scores = iter([1, 2, 9, 3] * 3)
    monkeypatch.setattr(selection, "correct_and_loss", lambda *_: (next(scores), 0.0))
    watch = Watch(after_training_epoch=state, after_training_exp=state)
    train(make("RigL", after=[watch], replay="none", own={"every": 2, "until": 1.0}), stream)
    for t in range(3):
        epochs, ended = watch["after_training_epoch"][4 * t : 4 * t + 4], watch["after_training_exp"][t]
        assert Masks.of(epochs[2]["weights"]).nonzeros < KEPT
        assert all(map(torch.equal, ended["weights"].values(), epochs[3]["weights"].values()))
        assert Masks.of(ended["weights"]) == ended["masks"]


@dynamic
def test_masks_are_selected_with_the_weights_they_belong_to(name, make, train, stream, monkeypatch):
    scores = iter(range(1000, 0, -1))
    monkeypatch.setattr(selection, "correct_and_loss", lambda *_: (next(scores), 0.0))
    watch = Watch(after_training_epoch=state, after_training_exp=state)
    train(make(name, after=[watch], own=often), stream)
    epochs, ended = watch["after_training_epoch"], watch["after_training_exp"]
    for t in range(3):
        # The first epoch has the best validation accuracy, but those before the mask has settled do not count.
        selected = next(now for now in epochs[4 * t : 4 * t + 4] if now["masks"].nonzeros == KEPT)
        assert ended[t]["masks"] == selected["masks"]
        assert all(map(torch.equal, ended[t]["weights"].values(), selected["weights"].values()))


@dynamic
def test_masks_do_not_depend_on_the_length_of_the_stream(name, make, train, stream):
    def trained(megabatches):
        watch = Watch(after_update=masks_of)
        train(make(name, after=[watch], own={"every": 1}, megabatches=megabatches), stream)
        return watch["after_update"]

    assert trained(3) == trained(100) == trained(None)


@dynamic
@pytest.mark.parametrize("every", [0, 1])
def test_samples_come_in_the_order_that_the_dense_learner_sees(name, make, train, stream, numbers, every):
    def order(name):
        watch = Watch(before_training_iteration=lambda strategy: numbers(strategy.mb_x))
        own = {"every": every}
        if name == "SparCL":
            # It would leave samples out, and knows no adjustment without an epoch before.
            own = {"every": every or 5, "removed": 0}
        train(make(name, after=[watch], own=own), stream)
        return watch["before_training_iteration"]

    assert order(name) == order("dense")


@dynamic
def test_it_learns(name, make, train, make_stream):
    stream = make_stream(samples=450)
    own = {"every": 10} if name in ("SET", "RigL") else {}
    strategy = train(make(name, own=own, epochs=8, lr=0.1), stream)
    test = stream.test_stream[0].dataset
    most_frequent = np.bincount(list(test.targets)).max()
    assert count_correct(strategy, test) > most_frequent + 0.2 * len(test)
