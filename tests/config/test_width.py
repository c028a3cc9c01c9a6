"""Networks of other widths than their own: an option of the protocol that their own width does not record."""

from __future__ import annotations

import pytest
import torch

from benchmark.config.profiles import resolve
from benchmark.errors import UsageError
from benchmark.models.build import model_factory
from benchmark.registry import MODELS
from strategies.pruning.channels import channel_groups
from strategies.pruning.masks import prunable_weights

SHAPE = {"classes": 7, "channels": 1, "resolution": 8, "seed": 0}

WIDE = ["cnn", "mlp", "resnet20s", "resnet20s_1x1", "resnet44s", "resnet56s"]


def config(**options):
    return resolve({"stream": "digits", "strategy": "APP", **options}, profile="demo")


def weights(name, width):
    return sum(weight.numel() for weight in prunable_weights(model_factory(name, **SHAPE, width=width)(0)).values())


def test_these_come_in_several_widths():
    assert [name for name in MODELS.names() if MODELS.load(name).traits.widths] == sorted(WIDE)


@pytest.mark.parametrize("name", WIDE)
def test_the_own_width_changes_no_bit_and_another_one_the_size(name):
    own, told = (model_factory(name, **SHAPE, **width)(0).state_dict() for width in ({}, {"width": 1.0}))
    assert own.keys() == told.keys() and all(torch.equal(own[key], told[key]) for key in own)
    # Layers between layers grow with the square of the width, the first one with the width.
    assert 2.5 < weights(name, 2) / weights(name, 1) < 4 and 0.2 < weights(name, 0.5) / weights(name, 1) < 0.5


def test_a_multilayer_perceptron_of_any_number_of_units():
    shapes = [weight.shape for weight in prunable_weights(model_factory("mlp", **SHAPE, width=3.125)(0)).values()]
    assert shapes == [(400, 64), (400, 400)]


@pytest.mark.parametrize("name", WIDE)
@pytest.mark.parametrize("width", [1 / 64, 0.3, 1.7])
def test_every_width_runs_and_its_channels_can_be_told(name, width):
    model = model_factory(name, **SHAPE, width=width)(0)
    assert model(torch.zeros(2, 1, 8, 8)).shape == (2, 7)
    for group in channel_groups(model):
        assert {model.get_submodule(layer).weight.shape[0] for layer in group.rows} == {group.size}


def test_only_another_width_than_the_own_is_recorded():
    assert "width" not in config().protocol()
    assert config(width=1).identity() == config().identity() != config(width=2).identity()
    assert config(width=2).protocol()["width"] == 2


@pytest.mark.parametrize(
    ("options", "line"),
    [
        ({"model": "resnet18", "resolution": 16, "width": 2}, "resnet18 has one width: leave --width out or change"),
        ({"width": 0}, "--width"),
        ({"width": 65}, "--width"),
    ],
    ids=str,
)
def test_what_there_is_not_is_refused_in_one_line(options, line):
    with pytest.raises(UsageError) as refused:
        config(**options)
    assert line in str(refused.value) and "\n" not in str(refused.value)
