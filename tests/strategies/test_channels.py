"""Channels that are removed together are found in every network, and what is not understood is left alone."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from benchmark.registry import MODELS
from strategies.pruning.channels import channel_groups, following_norms, kept_channels
from strategies.pruning.masks import Masks, prunable_weights


class Net(nn.Module):
    """Layers by name, and a function (net, x) that says how they are connected."""

    def __init__(self, forward, **layers):
        super().__init__()
        for name, layer in layers.items():
            setattr(self, name, layer)
        self.connections = forward

    def forward(self, x):
        return self.connections(self, x)


def conv(channels_in, channels_out, **options):
    return nn.Conv2d(channels_in, channels_out, 3, padding=1, **options)


def head(net, x):
    return net.classifier(torch.flatten(F.adaptive_avg_pool2d(x, 1), 1))


def between(operation, **layers):
    """Convolution a, ``operation``, convolution b, classifier: can the channels of a be removed?"""
    own = {"a": conv(3, 4), "b": conv(4, 5), "classifier": nn.Linear(5, 2), **layers}
    return Net(lambda net, x: head(net, net.b(operation(net, net.a(x)))), **own)


def removable(model):
    return {layer for group in channel_groups(model) for layer in group.rows}


def on_meta(name, resolution):
    with torch.device("meta"):
        return MODELS.load(name).target(10, 3, resolution)


# Which layers belong together

PADDED = {"resnet20s": 3, "resnet44s": 7, "resnet56s": 9}
"""Models whose shortcuts pad with channels of zeros -> blocks a stage."""


@pytest.mark.parametrize("resolution", [32, 224])
@pytest.mark.parametrize("name", [name for name in MODELS.names() if name not in PADDED])
def test_in_every_model_all_channels_but_inputs_and_outputs_can_be_removed(name, resolution):
    model = on_meta(name, resolution)
    groups = channel_groups(model)
    weights = prunable_weights(model)
    rows = [f"{layer}.weight" for group in groups for layer in group.rows]
    columns = [f"{layer}.weight" for group in groups for layer in group.columns]
    first = next(iter(weights))
    classifier = [f"{n}.weight" for n, m in model.named_modules() if isinstance(m, nn.Linear)][-1]
    assert sorted(rows) == sorted(weights)
    assert sorted(columns) == sorted({*weights, classifier} - {first})
    assert classifier not in weights
    for group in groups:
        assert {model.get_submodule(layer).weight.shape[0] for layer in group.rows} == {group.size}
        assert {model.get_submodule(layer).num_features for layer in group.norms} <= {group.size}


@pytest.mark.parametrize(("name", "blocks"), PADDED.items())
def test_shortcuts_that_pad_leave_the_first_convolution_of_each_block_to_be_cut(name, blocks):
    """As Li et al. 2017 prune these networks: a stage's own channels are shifted by the padding, so they stay."""
    groups = {group.rows: group.columns for group in channel_groups(on_meta(name, 32))}
    assert groups == {(f"blocks.{b}.conv1",): (f"blocks.{b}.conv2",) for b in range(3 * blocks)}


def test_a_stage_of_a_small_resnet_with_projections_shares_its_channels_and_each_block_has_its_own():
    blocks = 3
    groups = {frozenset(group.rows): group for group in channel_groups(on_meta("resnet20s_1x1", 32))}
    own = {frozenset({f"blocks.{b}.conv1"}) for b in range(3 * blocks)}
    stages = []
    for stage in range(3):
        first = "conv1" if stage == 0 else f"blocks.{stage * blocks}.shortcut.0"
        stages.append(frozenset({first} | {f"blocks.{stage * blocks + b}.conv2" for b in range(blocks)}))
    assert groups.keys() == own | set(stages)
    readers = {f"blocks.{b}.conv1" for b in range(blocks, 2 * blocks)} - {f"blocks.{blocks}.conv1"}
    following = {f"blocks.{2 * blocks}.conv1", f"blocks.{2 * blocks}.shortcut.0"}
    assert set(groups[stages[1]].columns) == readers | following
    assert set(groups[stages[0]].norms) == {"bn1"} | {f"blocks.{b}.bn2" for b in range(blocks)}
    assert groups[frozenset({"blocks.4.conv1"})].columns == ("blocks.4.conv2",)


@pytest.mark.parametrize("resolution", [32, 224])
@pytest.mark.parametrize("name", ["resnet18", "resnet34", "resnet50", "resnet101", "wide_resnet50_2"])
def test_a_stage_of_a_large_resnet_shares_the_last_convolution_of_its_blocks_and_the_downsampling(name, resolution):
    model = on_meta(name, resolution)
    groups = {frozenset(group.rows) for group in channel_groups(model)}
    last = "conv3" if hasattr(model.layer1[0], "conv3") else "conv2"
    expected = {frozenset({"conv1"})} if last == "conv3" else set()
    for stage in range(1, 5):
        blocks = getattr(model, f"layer{stage}")
        downsampled = f"layer{stage}.0.downsample.0" if blocks[0].downsample else "conv1"
        expected.add(frozenset({downsampled} | {f"layer{stage}.{b}.{last}" for b in range(len(blocks))}))
        inner = ["conv1", "conv2"] if last == "conv3" else ["conv1"]
        expected |= {frozenset({f"layer{stage}.{b}.{layer}"}) for b in range(len(blocks)) for layer in inner}
    assert groups == expected


@pytest.mark.parametrize("name", ["vgg16_bn", "cnn", "mlp"])
def test_in_a_chain_each_layer_is_read_by_the_next(name):
    model = on_meta(name, 32)
    layers = [n for n, m in model.named_modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    groups = channel_groups(model)
    assert [group.rows for group in groups] == [(layer,) for layer in layers[:-1]]
    assert [group.columns for group in groups] == [(layer,) for layer in layers[1:]]


def test_a_depthwise_convolution_goes_with_the_channels_it_reads():
    net = between(
        lambda net, x: F.relu(net.norm(net.depthwise(x))), depthwise=conv(4, 4, groups=4), norm=nn.BatchNorm2d(4)
    )
    assert channel_groups(net)[0].rows == ("a", "depthwise")
    assert channel_groups(net)[0].norms == ("norm",)
    assert channel_groups(net)[0].columns == ("b",)


def test_a_depthwise_convolution_of_the_input_stays():
    net = Net(
        lambda net, x: head(net, net.b(net.depthwise(x))),
        depthwise=conv(3, 3, groups=3),
        b=conv(3, 5),
        classifier=nn.Linear(5, 2),
    )
    assert removable(net) == {"b"}


def test_a_layer_that_is_called_twice_ties_what_it_reads_and_what_it_makes():
    def forward(net, x):
        return head(net, net.twice(net.a(x)) + net.twice(net.b(x)))

    net = Net(forward, a=conv(3, 4), b=conv(3, 4), twice=conv(4, 5), classifier=nn.Linear(5, 2))
    assert [(group.rows, group.columns) for group in channel_groups(net)] == [
        (("a", "b"), ("twice",)),
        (("twice",), ("classifier",)),
    ]


def test_a_recurrent_layer_loses_rows_and_columns_together():
    net = between(lambda net, x: net.again(net.again(x)), again=conv(4, 4))
    assert [group.rows for group in channel_groups(net)] == [("a", "again"), ("b",)]
    assert set(channel_groups(net)[0].columns) == {"again", "b"}


def test_the_channels_of_kept_weights_are_kept(make_net):
    model = make_net()
    masks = dict(Masks.full(prunable_weights(model)))
    masks["1.weight"] = masks["1.weight"].clone()
    masks["1.weight"][2] = False
    masks["1.weight"][3, 0, 1:] = False
    kept = kept_channels(channel_groups(model), Masks(masks))
    assert [channels.tolist() for channels in kept] == [[c != 2 for c in range(6)], [True] * 6, [True] * 8]


# What a channel of zeros passes through, and what it does not


def accumulated(net, x):
    x += torch.tanh(x)
    return x


PASSED = {
    "relu": lambda _, x: F.relu(x),
    "in place": lambda _, x: x.relu_(),
    "pooling": lambda _, x: F.avg_pool2d(F.max_pool2d(x, 2), 2),
    "dropout": lambda net, x: F.dropout(x, 0.1, net.training),
    "itself": lambda _, x: x + x,
    "difference": lambda _, x: x - F.gelu(x),
    "accumulated": accumulated,
}
STOPPED = {
    "sigmoid": lambda _, x: torch.sigmoid(x),
    "constant": lambda _, x: x + 1,
    "product": lambda _, x: x * torch.relu(x),
    "concatenation": lambda _, x: torch.cat([x[:, 2:], x[:, :2]], 1),
    "transposition": lambda _, x: x.transpose(1, 2),
    "flattened batch": lambda _, x: torch.flatten(x),
    "flattened map": lambda _, x: torch.flatten(x, 2),
    "broadcast": lambda net, x: x + net.one(x),
    "parameter": lambda net, x: x + net.shift,
}
STOPPING = {
    "grouped": lambda: conv(4, 4, groups=2),
    "multiplied": lambda: conv(4, 8, groups=4),
    "transposed": lambda: nn.ConvTranspose2d(4, 4, 1),
    "group norm": lambda: nn.GroupNorm(2, 4),
    "without scale": lambda: nn.BatchNorm2d(4, affine=False),
    "sigmoid": lambda: nn.Sigmoid(),
    "linear": lambda: nn.Linear(4, 4),
    "features": lambda: nn.BatchNorm1d(4),
    "flatten": lambda: nn.Flatten(2),
}


@pytest.mark.parametrize("name", PASSED)
def test_channels_are_followed_through_what_keeps_zeros(name):
    assert removable(between(PASSED[name])) == {"a", "b"}


@pytest.mark.parametrize("name", STOPPED)
def test_channels_that_an_unknown_operation_reads_stay(name):
    extras = {"one": conv(4, 1), "shift": nn.Parameter(torch.ones(1))}
    assert "a" not in removable(between(STOPPED[name], **extras))


@pytest.mark.parametrize("name", STOPPING)
def test_channels_that_an_unknown_module_reads_stay(name):
    assert removable(between(lambda net, x: net.odd(x), odd=STOPPING[name]())) == {"b"}


@pytest.mark.parametrize("dimensions", [(), (0,), (2,), (1, 2)])
def test_only_a_map_that_is_flattened_as_a_whole_is_read_in_blocks(dimensions):
    def flattened(*dimensions):
        return Net(
            lambda net, x: net.classifier(torch.flatten(net.a(x), *dimensions)),
            a=conv(3, 4),
            classifier=nn.Linear(4 * 36, 2),
        )

    assert removable(flattened(1)) == removable(flattened(1, -1)) == {"a"}
    assert removable(flattened(*dimensions)) == set()


def test_features_are_no_map_to_pool():
    net = Net(lambda net, x: net.classifier(F.max_pool2d(net.a(x), 1)), a=nn.Linear(6, 4), classifier=nn.Linear(4, 2))
    assert removable(net) == set()


def test_channels_that_the_network_returns_stay():
    net = Net(lambda net, x: (net.b(x_a := net.a(x)), x_a), a=conv(3, 4), b=conv(4, 5), classifier=nn.Linear(5, 2))
    assert removable(net) == set()


def test_channels_of_a_weight_that_something_else_reads_stay():
    net = between(lambda _, x: x)
    both = Net(lambda model, x: (model.net(x), model.net.a.weight.sum()), net=net)
    assert removable(both) == {"net.b"}


def test_channels_added_to_the_input_stay():
    net = Net(lambda net, x: head(net, net.b(net.a(x) + x)), a=conv(3, 3), b=conv(3, 4), classifier=nn.Linear(4, 2))
    assert removable(net) == {"b"}


def test_channels_of_layers_that_share_a_weight_stay():
    net = between(lambda net, x: net.tied(x), tied=conv(4, 4))
    net.b = conv(4, 4)
    net.b.weight = net.tied.weight
    net.classifier = nn.Linear(4, 2)
    assert removable(net) == set()


def test_channels_of_a_computed_weight_stay():
    net = between(lambda _, x: x)
    nn.utils.parametrizations.weight_norm(net.b)
    assert removable(net) == set()


def test_a_network_whose_path_depends_on_values_is_refused_by_name():
    net = between(lambda _, x: x if x.sum() > 0 else -x)
    with pytest.raises(ValueError, match=r"channels of Net are unknown, it cannot be traced"):
        channel_groups(net)


# A channel that is silent has no influence

SILENCED = {
    "residual": lambda: between(
        lambda net, x: F.relu(net.norm(net.inner(F.relu(x))) + x), inner=conv(4, 4), norm=nn.BatchNorm2d(4)
    ),
    "depthwise": lambda: between(
        lambda net, x: F.gelu(net.norm(net.depthwise(x))), depthwise=conv(4, 4, groups=4), norm=nn.BatchNorm2d(4)
    ),
    "flattened": lambda: Net(
        lambda net, x: net.classifier(net.norm(net.hidden(F.relu(net.wide(net.a(x).flatten(1)))))),
        a=conv(3, 4),
        wide=nn.BatchNorm1d(4 * 36),
        hidden=nn.Linear(4 * 36, 7),
        norm=nn.BatchNorm1d(7),
        classifier=nn.Linear(7, 2),
    ),
    **{name: partial(between, operation) for name, operation in PASSED.items()},
}


@pytest.mark.parametrize("name", SILENCED)
@torch.no_grad()
def test_the_columns_that_read_a_silent_channel_do_not_matter(name):
    """The columns of one channel are replaced by noise after its rows, biases and batch norm have been zeroed."""
    torch.manual_seed(0)
    model = SILENCED[name]().double().eval()
    for tensor in model.state_dict().values():
        if tensor.is_floating_point():
            tensor.uniform_(0.5, 1.5)
    x = torch.randn(2, 3, 6, 6, dtype=torch.float64)
    for group in channel_groups(model):
        dense = model(x)
        for layer in (*group.rows, *group.norms):
            for parameter in model.get_submodule(layer).parameters(recurse=False):
                parameter.view(group.size, -1)[1] = 0
        silent = model(x)
        assert not torch.allclose(silent, dense)
        for layer in group.columns:
            weight = model.get_submodule(layer).weight
            weight.view(len(weight), group.size, -1)[:, 1].normal_()
        assert torch.equal(model(x), silent)


def test_the_batch_norm_that_follows_a_layer_reads_its_output_as_it_is():
    net = between(
        lambda net, x: F.relu(net.late(F.relu(net.early(x)))), early=nn.BatchNorm2d(4), late=nn.BatchNorm2d(4)
    )
    assert following_norms(net) == {"a": net.early}
