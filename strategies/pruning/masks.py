"""Masks: which weights of a network are kept.

Density is the kept fraction (1 is dense), sparsity is 1 - density. Masks are plain boolean tensors under the
names of the state dict; weights are zeroed in place, without hooks, wrappers or renamed keys.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor, nn


class EmptyLayerWarning(UserWarning):
    """A pruned layer kept no weight: nothing passes through it any more."""


@runtime_checkable
class SeparateNetworks(Protocol):
    """A module made of whole networks, each with a classifier of its own, such as an ensemble."""

    def separate_networks(self) -> Mapping[str, nn.Module]:
        """Name of each network in the module -> the network."""


def prunable_weights(model: nn.Module) -> dict[str, nn.Parameter]:
    """The weights that pruning may remove: name in the state dict -> parameter, in module order.

    They are the weights of all ``Conv2d`` (stem and 1x1 shortcuts included) and ``Linear`` modules, except those of
    the classifier (:func:`classifier_of`). Biases and batch norm are never pruned. Of :class:`SeparateNetworks`
    they are those of each network.

    Raises:
        ValueError: the model has no such weight.
    """
    if isinstance(model, SeparateNetworks):
        return {
            f"{prefix}.{name}": weight
            for prefix, network in model.separate_networks().items()
            for name, weight in prunable_weights(network).items()
        }
    layers = [(n, m) for n, m in model.named_modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    classifier = classifier_of(model)
    found: dict[str, nn.Parameter] = {}
    for name, module in layers:
        in_classifier = classifier is not None and (name == classifier or name.startswith(f"{classifier}."))
        if not in_classifier and isinstance(module.weight, nn.Parameter):
            found[f"{name}.weight".lstrip(".")] = module.weight
    if not found:
        raise ValueError(f"{type(model).__name__} has no prunable weight: no Conv2d, and no Linear but the classifier")
    return found


def classifier_of(model: nn.Module) -> str | None:
    """Name of the module, in ``model``, that is its classifier with all that is in it, such as several heads.

    It is what the model names in an attribute ``classifier_name``; else its submodule ``classifier``, as Avalanche's
    models call it; else its last ``Linear``. None where there is none of them.

    Raises:
        ValueError: the model names one that it does not have.
    """
    named = getattr(model, "classifier_name", None)
    if named is not None:
        if str(named) not in dict(model.named_modules()):
            raise ValueError(f"{type(model).__name__} names its classifier {named!r} and has no such submodule")
        return str(named)
    if isinstance(getattr(model, "classifier", None), nn.Module):
        return "classifier"
    linear = [name for name, module in model.named_modules() if isinstance(module, nn.Linear)]
    return linear[-1] if linear else None


def kept_count(density: float, size: int) -> int:
    """Exactly round(density * size); ``int((1 - d) * n)`` would be off by one (0.9 of 1000 gives 99).

    Raises:
        ValueError: ``density`` is not in [0, 1].
    """
    if not 0 <= density <= 1:
        raise ValueError(f"density is the kept fraction and lies in [0, 1]; got {density}")
    return round(density * size)


class Masks(Mapping[str, Tensor]):
    """An immutable mapping from weight name to a boolean tensor of the weight's shape (True: kept)."""

    def __init__(self, masks: Mapping[str, Tensor]):
        """Take the given tensors as they are.

        Raises:
            TypeError: a tensor is not boolean.
        """
        for name, mask in masks.items():
            if mask.dtype != torch.bool:
                raise TypeError(f"mask {name!r} must be boolean, not {mask.dtype}")
        self._masks = dict(masks)

    def __getitem__(self, name: str) -> Tensor:
        return self._masks[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._masks)

    def __len__(self) -> int:
        return len(self._masks)

    def __repr__(self) -> str:
        return f"Masks({len(self)} layers, {self.nonzeros} of {self.size} kept, density {self.density:.4f})"

    @classmethod
    def full(cls, weights: Mapping[str, Tensor]) -> Masks:
        """Masks that keep every one of ``weights``."""
        return cls({name: torch.ones_like(w, dtype=torch.bool) for name, w in weights.items()})

    @classmethod
    def of(cls, weights: Mapping[str, Tensor]) -> Masks:
        """Masks that keep the nonzero entries of ``weights``: what is applied, whatever was asked for."""
        return cls({name: w.detach() != 0 for name, w in weights.items()})

    @property
    def size(self) -> int:
        """Number of weights that the masks speak of."""
        return sum(mask.numel() for mask in self.values())

    @property
    def nonzeros(self) -> int:
        """Number of kept weights."""
        return int(torch.stack([mask.sum() for mask in self.values()]).sum()) if self._masks else 0

    @property
    def density(self) -> float:
        """Kept fraction over all layers together."""
        return self.nonzeros / self.size

    def __and__(self, other: Masks) -> Masks:
        """Weights kept by both.

        Raises:
            ValueError: the two do not speak of the same weights.
        """
        if self.keys() != other.keys():
            raise ValueError("masks of different layers cannot be intersected")
        return Masks({name: self[name] & other[name] for name in self})

    def __or__(self, other: Masks) -> Masks:
        """Weights kept by either.

        Raises:
            ValueError: the two do not speak of the same weights.
        """
        if self.keys() != other.keys():
            raise ValueError("masks of different layers cannot be united")
        return Masks({name: self[name] | other[name] for name in self})

    def __le__(self, other: Masks) -> bool:
        """True if every weight kept here is kept in ``other`` (nested masks)."""
        return self.keys() == other.keys() and all(bool((~self[n] | other[n]).all()) for n in self)

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, Masks)
            and self.keys() == other.keys()
            and all(torch.equal(self[name], other[name]) for name in self)
        )

    __hash__ = None  # type: ignore[assignment]

    def warn_of_empty_layers(self) -> None:
        """Emit an :class:`EmptyLayerWarning` for each layer that keeps nothing."""
        for name, mask in self.items():
            if not mask.any():
                warnings.warn(f"layer {name!r} keeps no weight", EmptyLayerWarning, stacklevel=3)

    def fitted(self, weights: Mapping[str, Tensor]) -> Masks:
        """The same masks for a model that grew: layers that are new, or of a new shape, are kept whole."""
        full = Masks.full(weights)
        same = {n for n in full if n in self and self[n].shape == full[n].shape}
        return Masks({n: self[n] if n in same else full[n] for n in full})

    def check(self, weights: Mapping[str, Tensor]) -> None:
        """Make sure that the masks fit ``weights``.

        Raises:
            ValueError: a layer is missing, unknown or of another shape.
        """
        if self.keys() != weights.keys():
            odd = sorted(self.keys() ^ weights.keys())
            raise ValueError(f"masks and model differ in {len(odd)} layers, the first is {odd[0]!r}")
        for name, mask in self.items():
            if mask.shape != weights[name].shape:
                raise ValueError(f"mask {name!r} is {tuple(mask.shape)}, the weight {tuple(weights[name].shape)}")

    @torch.no_grad()
    def apply_(self, model: nn.Module) -> None:
        """Set the pruned weights of ``model`` to zero, in place.

        Raises:
            ValueError: the masks do not fit the model.
        """
        weights = prunable_weights(model)
        self.check(weights)
        for name, weight in weights.items():
            weight.masked_fill_(~self[name], 0)

    def save(self, path: str | Path) -> None:
        """Write the masks as a dictionary of boolean tensors that ``torch.load(weights_only=True)`` reads."""
        torch.save({name: mask.cpu().contiguous() for name, mask in self.items()}, path)

    @classmethod
    def load(cls, path: str | Path) -> Masks:
        """Read what :meth:`save` wrote.

        Raises:
            TypeError: the file holds something else.
        """
        stored = torch.load(path, weights_only=True)
        if not isinstance(stored, dict):
            raise TypeError(f"{path} holds no masks")
        return cls(stored)


def keep_largest(scores: Mapping[str, Tensor], counts: Mapping[str, int]) -> Masks:
    """Keep the ``counts[name]`` highest-scoring weights of each layer, exactly, ties to the lower index.

    A threshold (``score <= kthvalue``) would remove every tied weight at once and can empty a network; a
    stable sort keeps the count.

    Warns:
        EmptyLayerWarning: a layer keeps nothing.

    Raises:
        ValueError: a count exceeds the layer's size.
    """
    masks: dict[str, Tensor] = {}
    for name, score in scores.items():
        count = counts[name]
        if not 0 <= count <= score.numel():
            raise ValueError(f"cannot keep {count} of the {score.numel()} weights of {name!r}")
        order = torch.argsort(ranked(score), descending=True, stable=True)
        mask = torch.zeros(score.numel(), dtype=torch.bool, device=score.device)
        mask[order[:count]] = True
        masks[name] = mask.reshape(score.shape)
    kept = Masks(masks)
    kept.warn_of_empty_layers()
    return kept


def ranked(score: Tensor) -> Tensor:
    """Scores as a flat tensor in logical (row-major) order, whatever the memory format.

    NaN becomes the lowest finite number: last among the candidates, but before those excluded by -inf.
    """
    lowest = torch.finfo(score.dtype).min
    return torch.nan_to_num(score.detach().reshape(-1), nan=lowest, posinf=torch.inf, neginf=-torch.inf)
