"""Channels: which rows and columns of which layers go together when a channel is removed.

A channel is one output of a convolution or linear layer: row c of its weight. What is added to it (a residual
connection) has its channel c removed too, batch norm loses entry c, and the layers that read it lose columns.
The groups are found by following the channels through the traced network (as Fang et al. 2023, arXiv 2301.12900, do
through the autograd graph). Only operations that are known to turn a channel of zeros into a channel of zeros are
followed; the channels that any other operation reads are never removed, nor are the network's inputs and outputs.
"""

from __future__ import annotations

import operator
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

import torch
from torch import Tensor, fx, nn
from torch.nn import functional as F

from strategies.pruning.masks import Masks, prunable_weights

ELEMENTWISE = (
    *(nn.Identity, nn.Dropout, nn.Dropout2d),
    *(nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.ELU, nn.GELU, nn.SiLU, nn.Hardswish, nn.Tanh),
    *(torch.relu, torch.relu_, torch.tanh, F.relu, F.relu6, F.leaky_relu, F.elu, F.gelu, F.silu, F.hardswish),
    *(F.dropout, F.dropout2d, "relu", "relu_", "tanh", "contiguous"),
)
POOLING = (
    *(nn.MaxPool2d, nn.AvgPool2d, nn.AdaptiveAvgPool2d, nn.AdaptiveMaxPool2d),
    *(F.max_pool2d, F.avg_pool2d, F.adaptive_avg_pool2d, F.adaptive_max_pool2d),
)
ADDITIVE = (
    *(operator.add, operator.iadd, operator.sub, operator.isub),
    *(torch.add, torch.sub, "add", "add_", "sub", "sub_"),
)
FLATTENING = (nn.Flatten, torch.flatten, "flatten")


@dataclass(frozen=True)
class ChannelGroup:
    """Channels of which number c can only be removed from all these layers at once; layers are module names.

    Attributes:
        size: number of channels.
        rows: convolutions and linear layers that produce the channels: row c of their weight, entry c of their bias.
        norms: batch norms that the channels pass.
        columns: convolutions and linear layers that read the channels: column c of their weight, or a block of
            consecutive columns where each channel is a flattened map.
    """

    size: int
    rows: tuple[str, ...]
    norms: tuple[str, ...]
    columns: tuple[str, ...]


def channel_groups(model: nn.Module) -> list[ChannelGroup]:
    """The groups of channels of ``model`` that can be removed, in the order in which the network computes them.

    Raises:
        ValueError: the network cannot be traced.
    """
    walk = _Walk(model)
    for node in traced(model).nodes:
        walk.visit(node)
    return walk.groups()


def kept_channels(groups: Sequence[ChannelGroup], masks: Masks) -> list[Tensor]:
    """For each group a boolean tensor (channels,): False where the masks keep no weight of the channel's rows."""
    rows = [[masks[f"{layer}.weight"].flatten(1).any(1) for layer in group.rows] for group in groups]
    return [torch.stack(of_group).any(0) for of_group in rows]


def following_norms(model: nn.Module) -> dict[str, nn.BatchNorm1d | nn.BatchNorm2d]:
    """Layer -> the batch norm with a scale that takes the layer's output as it is, where there is one.

    Raises:
        ValueError: the network cannot be traced.
    """
    found: dict[str, nn.BatchNorm1d | nn.BatchNorm2d] = {}
    for node in traced(model).nodes:
        if node.op == "call_module" and isinstance(before := next(iter(node.args), None), fx.Node):
            norm = model.get_submodule(str(node.target))
            if isinstance(norm, nn.BatchNorm1d | nn.BatchNorm2d) and norm.affine and before.op == "call_module":
                found[str(before.target)] = norm
    return found


def traced(model: nn.Module) -> fx.Graph:
    """The operations of ``model`` in the order of its forward pass.

    Raises:
        ValueError: the forward pass depends on values, so that there is no one graph.
    """
    try:
        return fx.Tracer().trace(model)
    except Exception as error:
        raise ValueError(f"the channels of {type(model).__name__} are unknown, it cannot be traced: {error}") from error


class Layout(Enum):
    """Where the channels of a tensor are."""

    MAP = "dimension 1 of (batch, channels, height, width)"
    FLATTENED = "blocks of consecutive entries of dimension 1, each a flattened map"
    FEATURES = "the last dimension"


FLAT = (Layout.FLATTENED, Layout.FEATURES)


@dataclass(frozen=True)
class _Channels:
    """The channels that a tensor carries."""

    group: int
    size: int
    layout: Layout


class _Walk:
    """Union-find over groups of channels, along the graph. None stands for channels that are never removed."""

    def __init__(self, model: nn.Module):
        self.model = model
        self.prunable = set(prunable_weights(model))
        owners = Counter(id(p) for _, p in model.named_parameters(remove_duplicate=False))
        self.shared = {id(p) for p in model.parameters() if owners[id(p)] > 1}
        self.parent: list[int] = []
        self.frozen: set[int] = set()
        self.carried: dict[fx.Node, _Channels | None] = {}
        self.attached: dict[tuple[str, str], _Channels | None] = {}

    def visit(self, node: fx.Node) -> None:
        """Find out what ``node`` carries; its inputs have been visited."""
        if node.op == "get_attr":
            # A parameter that is used outside of its own layer must keep its shape.
            owner = str(node.target).rpartition(".")[0]
            for kind in ("rows", "norms", "columns"):
                self.attach(kind, owner, None)
        if node.op == "call_module":
            module = self.model.get_submodule(str(node.target))
            self.carried[node] = self.through_module(node, str(node.target), module)
        elif node.op in ("call_function", "call_method"):
            self.carried[node] = self.through_operation(node, node.target)
        else:
            self.carried[node] = self.unknown(node)

    def through_module(self, node: fx.Node, layer: str, module: nn.Module) -> _Channels | None:
        if not isinstance(module, nn.Conv2d | nn.Linear | nn.BatchNorm1d | nn.BatchNorm2d):
            return self.through_operation(node, type(module), module)
        own = dict(module.named_parameters(recurse=False))
        # Batch norm without a scale turns zeros into something else; a weight may be computed from other parameters.
        if len(node.all_input_nodes) != 1 or "weight" not in own or not self.shared.isdisjoint(map(id, own.values())):
            return self.unknown(node)
        x = self.carried[node.all_input_nodes[0]]
        match module:
            case nn.Linear():
                self.attach("columns", layer, self.read(x, module.in_features, *FLAT))
                return self.attach("rows", layer, self.new(module.out_features, Layout.FEATURES))
            case nn.Conv2d(groups=1):
                self.attach("columns", layer, self.read(x, module.in_channels, Layout.MAP))
                return self.attach("rows", layer, self.new(module.out_channels, Layout.MAP))
            case nn.Conv2d() if module.groups == module.in_channels == module.out_channels:
                return self.attach("rows", layer, self.read(x, module.in_channels, Layout.MAP))
            case nn.BatchNorm2d():
                return self.attach("norms", layer, self.read(x, module.num_features, Layout.MAP))
            case nn.BatchNorm1d():
                return self.attach("norms", layer, self.read(x, module.num_features, *FLAT))
        return self.unknown(node)

    def through_operation(self, node: fx.Node, kind: object, module: nn.Module | None = None) -> _Channels | None:
        inputs = [self.carried[source] for source in node.all_input_nodes]
        if kind in ADDITIVE and len(node.args) == 2 and all(isinstance(term, fx.Node) for term in node.args):
            return self.coupled(inputs[0], inputs[-1])
        if len(inputs) != 1 or inputs[0] is None:
            return self.unknown(node)
        x = inputs[0]
        if kind in ELEMENTWISE or (kind in POOLING and x.layout is Layout.MAP):
            return x
        if kind in FLATTENING and _flattened_dimensions(node, module) == (1, -1):
            return x if x.layout is Layout.FEATURES else _Channels(x.group, x.size, Layout.FLATTENED)
        return self.unknown(node)

    def new(self, size: int, layout: Layout) -> _Channels:
        self.parent.append(len(self.parent))
        return _Channels(self.parent[-1], size, layout)

    def root(self, group: int) -> int:
        while self.parent[group] != group:
            group = self.parent[group]
        return group

    def unknown(self, node: fx.Node) -> _Channels | None:
        """Nothing is known of what this node does: the channels that it reads stay."""
        for source in node.all_input_nodes:
            self.coupled(self.carried[source], None)
        return None

    def coupled(self, first: _Channels | None, second: _Channels | None) -> _Channels | None:
        """Channels that can only be removed together; where they do not match, they all stay."""
        if first is None or second is None or (first.size, first.layout) != (second.size, second.layout):
            self.frozen |= {channels.group for channels in (first, second) if channels is not None}
            return None
        self.parent[self.root(second.group)] = self.root(first.group)
        return first

    def attach(self, kind: str, layer: str, channels: _Channels | None) -> _Channels | None:
        """Note that ``layer`` has these channels as its rows, norms or columns; a second call of it couples them."""
        if (kind, layer) in self.attached:
            channels = self.coupled(self.attached[kind, layer], channels)
        self.attached[kind, layer] = channels
        return channels

    def read(self, x: _Channels | None, entries: int, *layouts: Layout) -> _Channels | None:
        """``x``, if a layer of so many inputs that takes these layouts reads it channel by channel."""
        if x is not None and x.layout in layouts:
            whole_maps = x.layout is Layout.FLATTENED and entries % x.size == 0
            if entries == x.size or whole_maps:
                return x
        return self.coupled(x, None)

    def groups(self) -> list[ChannelGroup]:
        size: dict[int, int] = {}
        layers: dict[int, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
        for (kind, layer), channels in self.attached.items():
            if channels is not None:
                size[self.root(channels.group)] = channels.size
                layers[self.root(channels.group)][kind].append(layer)
        stay = {self.root(group) for group in self.frozen}
        return [
            ChannelGroup(size[root], tuple(of["rows"]), tuple(of["norms"]), tuple(of["columns"]))
            for root, of in layers.items()
            if root not in stay and all(f"{layer}.weight" in self.prunable for layer in of["rows"])
        ]


def _flattened_dimensions(node: fx.Node, module: nn.Module | None) -> tuple[object, object]:
    if isinstance(module, nn.Flatten):
        return module.start_dim, module.end_dim
    positional = dict(zip(("start_dim", "end_dim"), node.args[1:], strict=False))
    given = {"start_dim": 0, "end_dim": -1, **positional, **node.kwargs}
    return given["start_dim"], given["end_dim"]
