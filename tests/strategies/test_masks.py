"""Masks keep exactly as many weights as were asked for, and the right ones."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from benchmark.models.build import model_factory
from benchmark.registry import MODELS
from strategies.pruning.masks import EmptyLayerWarning, Masks, classifier_of, keep_largest, kept_count, prunable_weights

densities = st.floats(0, 1)
tied_scores = st.lists(
    st.sampled_from([0.0, -0.0, 1.0, -1.0, math.nan, math.inf, -math.inf]) | st.floats(width=32),
    min_size=1,
    max_size=40,
)
masks = st.lists(st.booleans(), min_size=6, max_size=6).map(
    lambda bits: Masks({"a": torch.tensor(bits[:4]).reshape(2, 2), "b": torch.tensor(bits[4:])})
)


@given(densities, st.integers(0, 10**8))
def test_kept_count_is_the_integer_nearest_to_density_times_size(density, size):
    distance = abs(kept_count(density, size) - Fraction(density) * size)
    assert distance <= Fraction(1, 2) + Fraction(size, 2**50)


@given(st.integers(0, 1000))
def test_kept_count_of_a_thousand_weights_is_exact(thousandths):
    assert kept_count(thousandths / 1000, 1000) == thousandths


def test_kept_count_does_not_round_the_pruned_part_down():
    assert int((1 - 0.9) * 1000) == 99
    assert 1000 - kept_count(0.9, 1000) == 100


@pytest.mark.parametrize("density", [-0.01, 1.01, math.nan, math.inf])
def test_a_density_is_a_fraction(density):
    with pytest.raises(ValueError, match=r"density is the kept fraction"):
        kept_count(density, 10)


@given(tied_scores, st.data())
def test_keep_largest_equals_a_stable_sort_with_nan_before_minus_infinity(values, data):
    count = data.draw(st.integers(1, len(values)))
    as_float32 = [float(np.float32(value)) for value in values]
    rank = [np.finfo(np.float32).min if math.isnan(value) else value for value in as_float32]
    expected = sorted(range(len(values)), key=lambda i: (-rank[i], i))[:count]
    kept = keep_largest({"layer": torch.tensor(values)}, {"layer": count})["layer"]
    assert sorted(expected) == kept.nonzero().ravel().tolist()


@given(tied_scores, st.data())
def test_more_kept_weights_contain_fewer(values, data):
    fewer, more = sorted(data.draw(st.tuples(*[st.integers(1, len(values))] * 2)))
    score = {"layer": torch.tensor(values)}
    assert keep_largest(score, {"layer": fewer}) <= keep_largest(score, {"layer": more})


def test_ties_go_to_the_lower_index_in_a_large_layer_too():
    kept = keep_largest({"w": torch.zeros(200_000)}, {"w": 70_000})["w"]
    assert kept[:70_000].all()


def test_memory_format_does_not_decide_ties():
    plain = torch.zeros(3, 4, 3, 3)
    strided = plain.contiguous(memory_format=torch.channels_last)
    assert keep_largest({"w": plain}, {"w": 17}) == keep_largest({"w": strided}, {"w": 17})


def test_emptying_a_layer_warns_and_names_it():
    scores = {"first": torch.ones(4), "second": torch.ones(4)}
    with pytest.warns(EmptyLayerWarning, match="second"):
        assert keep_largest(scores, {"first": 1, "second": 0}).nonzeros == 1


@pytest.mark.parametrize("count", [-1, 5])
def test_a_layer_cannot_keep_more_than_it_has(count):
    with pytest.raises(ValueError, match=rf"keep {count} of the 4 weights of 'layer'"):
        keep_largest({"layer": torch.ones(4)}, {"layer": count})


@given(masks, masks)
def test_an_intersection_is_the_largest_mask_within_both(first, second):
    both = first & second
    assert both <= first
    assert both <= second
    assert both == second & first
    assert both.nonzeros == sum(int((first[name] & second[name]).sum()) for name in first)
    assert (first <= second) == (both == first)


@given(masks)
def test_density_and_nonzeros_count_kept_weights(some):
    kept = sum(np.count_nonzero(mask.numpy()) for mask in some.values())
    assert (some.nonzeros, some.size, some.density) == (kept, 6, kept / 6)
    assert Masks.full(some).density == 1
    assert some <= Masks.full(some)
    assert Masks.of({name: mask * 2.5 for name, mask in some.items()}) == some


@given(masks)
def test_saved_masks_load_equal(tmp_path_factory, some):
    path = tmp_path_factory.mktemp("masks") / "masks.pt"
    some.save(path)
    assert Masks.load(path) == some


def test_loading_something_else_says_so(tmp_path):
    torch.save([1, 2], tmp_path / "list.pt")
    with pytest.raises(TypeError, match=r"list\.pt holds no masks"):
        Masks.load(tmp_path / "list.pt")
    torch.save({"weight": torch.ones(2)}, tmp_path / "floats.pt")
    with pytest.raises(TypeError, match="'weight' must be boolean"):
        Masks.load(tmp_path / "floats.pt")


def test_masks_of_different_layers_do_not_mix():
    first, second = Masks({"a": torch.ones(2) > 0}), Masks({"b": torch.ones(2) > 0})
    with pytest.raises(ValueError, match="different layers"):
        first & second
    assert not first <= second
    assert first != second


def test_masks_cannot_be_changed_through_the_mapping():
    some = Masks({"a": torch.ones(2) > 0})
    with pytest.raises(TypeError):
        some["a"] = torch.zeros(2) > 0
    with pytest.raises(TypeError):
        hash(some)


def test_applying_masks_zeroes_the_pruned_weights_and_nothing_else(make_net):
    model = make_net()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    chosen = keep_largest(
        {name: torch.rand_like(weight) for name, weight in prunable_weights(model).items()},
        {name: weight.numel() // 3 for name, weight in prunable_weights(model).items()},
    )
    chosen.apply_(model)
    after = model.state_dict()
    assert after.keys() == before.keys()
    assert Masks.of(prunable_weights(model)) == chosen
    for name, value in before.items():
        assert torch.equal(after[name], value * chosen[name] if name in chosen else value)


def test_masks_of_another_model_are_refused_by_name(make_net):
    with pytest.raises(ValueError, match=r"differ in 5 layers"):
        Masks({"0.weight": torch.ones(2) > 0, "7.weight": torch.ones(2) > 0}).apply_(make_net())
    wrong = Masks.full({**prunable_weights(make_net()), "1.weight": torch.ones(6, 1)})
    with pytest.raises(ValueError, match=r"'1\.weight' is \(6, 1\), the weight \(6, 1, 3, 3\)"):
        wrong.apply_(make_net())


def test_masks_fitted_to_a_grown_model_keep_new_weights_and_old_choices():
    old = Masks({"kept": torch.tensor([True, False]), "grown": torch.tensor([False])})
    fitted = old.fitted({"kept": torch.ones(2), "grown": torch.ones(3), "new": torch.ones(2)})
    assert {name: mask.tolist() for name, mask in fitted.items()} == {
        "kept": [True, False],
        "grown": [True] * 3,
        "new": [True] * 2,
    }


@pytest.mark.parametrize("name", ["resnet20s", "resnet18", "cnn"])
def test_every_convolution_is_prunable_and_the_classifier_is_not(name):
    model = MODELS.load(name).target(10, 3, 32)
    found = prunable_weights(model)
    parameters = dict(model.named_parameters())
    convolutions = {f"{n}.weight" for n, m in model.named_modules() if isinstance(m, nn.Conv2d)}
    assert set(found) == convolutions
    assert all(parameters[name] is weight for name, weight in found.items())
    assert set(found) <= set(model.state_dict())


def test_hidden_linear_layers_are_prunable_and_the_last_one_is_not():
    model = MODELS.load("mlp").target(10, 1, 8)
    assert [tuple(weight.shape) for weight in prunable_weights(model).values()] == [(128, 64), (128, 128)]


def test_a_single_convolution_is_a_model():
    layer = nn.Conv2d(1, 2, 3)
    assert prunable_weights(layer)["weight"] is layer.weight


def test_a_model_without_prunable_weights_is_refused():
    with pytest.raises(ValueError, match="Linear has no prunable weight"):
        prunable_weights(nn.Linear(3, 2))


@pytest.mark.parametrize("name", MODELS.names())
def test_every_model_names_its_classifier_and_prunes_none_of_it(name):
    with torch.device("meta"):
        model = model_factory(name, classes=7, channels=3, resolution=32, seed=0)(0)
    classifier = model.get_submodule(classifier_of(model))
    assert model.classifier_name and isinstance(classifier, nn.Linear) and classifier.out_features == 7
    owned = {id(parameter) for parameter in classifier.parameters()}
    assert owned.isdisjoint(map(id, prunable_weights(model).values()))


def test_all_heads_of_a_classifier_are_spared():
    class Heads(nn.Module):
        def __init__(self):
            super().__init__()
            self.hidden = nn.Linear(4, 5)
            self.classifier = nn.ModuleList([nn.Linear(5, 2), nn.Linear(5, 2)])

    assert list(prunable_weights(Heads())) == ["hidden.weight"]


def test_a_model_says_which_of_its_layers_is_the_classifier():
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 2), nn.Linear(2, 2))
    assert list(prunable_weights(model)) == ["0.weight", "1.weight"], "the last one, unless told otherwise"
    model.classifier_name = "head"
    with pytest.raises(ValueError, match="names its classifier 'head' and has no such submodule"):
        prunable_weights(model)
    model.classifier_name = "1"
    assert list(prunable_weights(model)) == ["0.weight", "2.weight"]
