"""The slimmed network computes what the masked one does, without the removed channels, in plain PyTorch too."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from benchmark.registry import MODELS
from strategies.anytime import AnytimeStrategy
from strategies.pruning.channels import channel_groups, kept_channels
from strategies.pruning.distributions import uniform
from strategies.pruning.masks import Masks, prunable_weights
from strategies.pruning.parts import PruningParts
from strategies.pruning.plugin import PruningPlugin
from strategies.pruning.rounds import zero_pruned_
from strategies.pruning.schedules import Progressive
from strategies.pruning.scores.magnitude import magnitude
from strategies.pruning.slim import export, export_slim, slimmed
from strategies.pruning.structures.filters import Filters
from strategies.pruning.structures.unstructured import Unstructured

MODELS_OF_EVERY_KIND = [
    *("resnet20s", "resnet20s_1x1", "cnn", "mlp"),
    pytest.param("resnet18", marks=pytest.mark.slow),
    pytest.param("vgg16_bn", marks=pytest.mark.slow),
]


class EveryLayer(nn.Module):
    """A residual connection, a depthwise convolution, biases, a flattened map and batch norm over features."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.inner = nn.Conv2d(8, 6, 3, padding=1)
        self.outer = nn.Conv2d(6, 8, 1)
        self.depthwise = nn.Conv2d(8, 8, 3, padding=1, groups=8)
        self.flat = nn.BatchNorm1d(8 * 16)
        self.hidden = nn.Linear(8 * 16, 10)
        self.norm = nn.BatchNorm1d(10, track_running_stats=False)
        self.classifier = nn.Linear(10, 4)

    def forward(self, x):
        x = F.relu(self.stem(F.adaptive_avg_pool2d(x, 4)))
        x = self.depthwise(F.relu(self.outer(F.gelu(self.inner(x))) + x))
        return self.classifier(F.relu(self.norm(self.hidden(self.flat(x.flatten(1))))))


def lively(model, seed=0):
    """The model with random biases, batch-norm parameters and statistics, as training leaves them."""
    torch.manual_seed(seed)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            for tensor in (module.weight, module.bias, module.running_mean):
                if tensor is not None:
                    nn.init.normal_(tensor)
            if module.running_var is not None:
                nn.init.uniform_(module.running_var, 0.5, 2)
        elif getattr(module, "bias", None) is not None:
            nn.init.normal_(module.bias)
    return model


def masked(model, density=0.366):
    """The masks of random channels, applied to the model."""
    scores = {name: torch.rand_like(weight).detach() for name, weight in prunable_weights(model).items()}
    masks = Filters().select(model, scores, density, uniform)
    zero_pruned_(model, masks, Filters())
    return masks


@pytest.fixture
def small():
    """The small residual network with about a third of its weights, and its masks."""
    model = lively(MODELS.load("resnet20s_1x1").target(10, 3, 32)).eval()
    return model, masked(model)


def close(first, second):
    torch.testing.assert_close(first, second, rtol=1e-5, atol=1e-5 * float(second.detach().abs().max()))


# The same function


@pytest.mark.parametrize(
    "memory_format", [torch.contiguous_format, torch.channels_last], ids=["plain", "channels last"]
)
@pytest.mark.parametrize("name", MODELS_OF_EVERY_KIND)
@torch.no_grad()
def test_a_slimmed_model_computes_what_the_masked_one_does(name, memory_format):
    model = lively(MODELS.load(name).target(10, 3, 32)).to(memory_format=memory_format).eval()
    x = torch.randn(3, 3, 32, 32)
    dense = model(x)
    masks = masked(model)
    expected = model(x)
    slim = slimmed(model, masks)
    close(slim(x), expected)
    assert not torch.allclose(dense, expected, atol=1e-2)
    for module in slim.modules():
        if isinstance(module, nn.Conv2d):
            assert module.weight.is_contiguous(memory_format=memory_format)


@pytest.mark.parametrize("seed", range(5))
@torch.no_grad()
def test_every_kind_of_layer_loses_its_channels(seed):
    model = lively(EveryLayer(), seed).double().eval()
    masks = masked(model, 0.3)
    x = torch.randn(3, 3, 9, 9, dtype=torch.float64)
    slim = slimmed(model, masks)
    torch.testing.assert_close(slim(x), model(x), rtol=1e-10, atol=1e-10)
    wide, inner, hidden = (int(channels.sum()) for channels in kept_channels(channel_groups(model), masks))
    assert wide < 8 and inner < 6 and hidden < 10
    assert (slim.stem.in_channels, slim.stem.out_channels) == (3, wide)
    assert (slim.inner.in_channels, slim.inner.out_channels) == (wide, inner)
    assert (slim.outer.in_channels, slim.outer.out_channels) == (inner, wide)
    assert (slim.depthwise.in_channels, slim.depthwise.out_channels, slim.depthwise.groups) == (wide,) * 3
    assert slim.flat.num_features == slim.hidden.in_features == 16 * wide
    assert slim.hidden.out_features == slim.norm.num_features == slim.classifier.in_features == hidden
    assert slim.classifier.out_features == 4


def test_a_slimmed_model_trains_as_the_masked_one_does(small):
    """In training mode too: the same loss, the same gradients where weights are left, the same new statistics."""
    model, masks = small
    slim = slimmed(model, masks)
    x, y = torch.randn(8, 3, 16, 16, generator=torch.Generator().manual_seed(0)), torch.arange(8)
    for network in (model, slim):
        network.train().zero_grad()
        F.cross_entropy(network(x), y).backward()
    kept = dict(zip([g.rows for g in channel_groups(model)], kept_channels(channel_groups(model), masks), strict=True))
    rows = next(channels for layers, channels in kept.items() if "conv1" in layers)
    close(slim.conv1.weight.grad, model.conv1.weight.grad[rows])
    close(slim.bn1.running_var, model.bn1.running_var[rows])
    model.eval()


def test_what_is_left_is_exactly_what_the_masks_keep(small):
    model, masks = small
    weights = prunable_weights(slimmed(model, masks))
    assert {name: weight.numel() for name, weight in weights.items()} == {n: int(m.sum()) for n, m in masks.items()}
    assert all(torch.equal(w.flatten(), model.get_parameter(name)[masks[name]]) for name, w in weights.items())


def test_slimming_leaves_the_model_as_it_was(small):
    model, masks = small
    before = {name: value.clone() for name, value in model.state_dict().items()}
    model.conv1.weight.requires_grad_(False)
    slim = slimmed(model, masks).train()
    assert not slim.conv1.weight.requires_grad
    model.conv1.weight.requires_grad_(True)
    assert slim.blocks[0].conv1.weight.requires_grad
    assert not model.training
    nn.init.zeros_(slim.blocks[0].conv1.weight)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_a_slimmed_model_can_be_pruned_and_slimmed_again(small):
    slim = slimmed(*small).eval()
    masks = masked(slim, 0.5)
    slimmer = slimmed(slim, masks)
    x = torch.randn(2, 3, 16, 16)
    close(slimmer(x), slim(x))
    assert sum(w.numel() for w in prunable_weights(slimmer).values()) == masks.nonzeros


def test_after_training_the_slimmed_model_computes_what_the_learner_handed_over(make_learner, make_stream, train):
    pruning = PruningPlugin(
        PruningParts(score=magnitude, schedule=Progressive(0.8**6.0, 3), distribution=uniform, structure=Filters())
    )
    strategy = train(AnytimeStrategy(learner=make_learner(), plugins=[pruning]), make_stream())
    model = strategy.model.eval()
    slim = slimmed(model, pruning.masks)
    x = torch.randn(7, 6)
    close(slim(x), model(x))
    assert sum(w.numel() for w in prunable_weights(slim).values()) == pruning.masks.nonzeros
    assert pruning.masks.density <= 0.8**6


# What cannot be slimmed


def test_masks_that_remove_no_channel_are_refused(small):
    model, _ = small
    with pytest.raises(ValueError, match="remove no whole channel of CifarResNet"):
        slimmed(model, Masks.full(prunable_weights(model)))
    scores = {name: torch.rand_like(weight) for name, weight in prunable_weights(model).items()}
    unstructured = Unstructured().select(model, scores, 0.8, uniform)
    with pytest.raises(ValueError, match="remove no whole channel of CifarResNet"):
        slimmed(model, unstructured)


def test_masks_that_have_not_been_applied_are_refused_by_the_name_of_a_parameter(small):
    _, masks = small
    dense = lively(MODELS.load("resnet20s_1x1").target(10, 3, 32))
    with pytest.raises(ValueError, match=r"'conv1\.weight' is not zero where it is pruned"):
        slimmed(dense, masks)
    masks.apply_(dense)
    with pytest.raises(ValueError, match=r"'bn1\.bias' is not zero where it is pruned"):
        slimmed(dense, masks)


def test_masks_of_another_model_are_refused(small):
    with pytest.raises(ValueError, match="masks and model differ"):
        slimmed(MODELS.load("cnn").target(10, 3, 32), small[1])


# The file

IN_PLAIN_PYTORCH = """
import sys
for project in ("benchmark", "strategies", "leaderboards"):
    sys.modules[project] = None  # any import of it fails from now on
try:
    import strategies
except ImportError:
    pass
else:
    raise SystemExit("the project can be imported")
import torch
for name in sys.argv[1:]:
    network = torch.export.load(name + ".slim.pt2").module()
    torch.save([network(x) for x in torch.load("inputs.pt")], name + ".outputs.pt")
"""


@pytest.mark.slow
def test_exported_models_run_without_the_project_and_are_smaller(tmp_path):
    names = ["resnet20s", "mlp"]
    models = {name: lively(MODELS.load(name).target(10, 3, 32)).to(memory_format=torch.channels_last) for name in names}
    inputs = [torch.randn(batch, 3, 32, 32) for batch in (1, 5)]
    torch.save(inputs, tmp_path / "inputs.pt")
    for name, model in models.items():
        masks = masked(model.train())
        export_slim(model, masks, inputs[0], tmp_path / f"{name}.slim.pt2")
        export(model, inputs[0], tmp_path / f"{name}.dense.pt2")
        assert model.training
    subprocess.run([sys.executable, "-I", "-c", IN_PLAIN_PYTORCH, *names], cwd=tmp_path, check=True, timeout=200)
    for name, model in models.items():
        model.eval()
        for x, output in zip(inputs, torch.load(tmp_path / f"{name}.outputs.pt"), strict=True):
            close(output, model(x))
        slim, dense = ((tmp_path / f"{name}.{kind}.pt2").stat().st_size for kind in ("slim", "dense"))
        assert slim < 0.6 * dense
