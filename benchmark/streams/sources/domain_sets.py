"""Data sets whose images are transformed otherwise in each experience, under the names that the field has for them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from benchmark.registry import STREAMS
from benchmark.streams.loading.images import StreamData, StreamRequest
from benchmark.streams.sources.digits import digits
from benchmark.streams.sources.split_sets import FEW, ONE_PASS
from benchmark.streams.sources.torchvision_sets import mnist

DIGITS: dict[str, Any] = {
    "megabatches": (5, 10),
    "resolution": 8,
    "model": "mlp",
    "profile": "demo",
    "classes": 10,
    "train_per_class": 144,
    "test_per_class": 36,
}

MNIST: dict[str, Any] = {
    "megabatches": (10, 20),
    "resolution": 28,
    "model": "mlp",
    "classes": 10,
    "train_per_class": 6000,
    "test_per_class": 1000,
}


@STREAMS.register("permuted_digits", protocol="domain-incremental", demo=FEW, paper=FEW, **DIGITS)
def permuted_digits(request: StreamRequest) -> StreamData:
    """Permuted digits: scikit-learn's digits, their pixels in another order in each of 5 experiences."""
    return replace(digits(request), label="permuted_digits")


@STREAMS.register(
    "rotated_digits",
    protocol="domain-incremental",
    demo={**FEW, "domain": "rotated"},
    paper={**FEW, "domain": "rotated"},
    **DIGITS,
)
def rotated_digits(request: StreamRequest) -> StreamData:
    """Rotated digits: scikit-learn's digits, turned by another angle in each of 5 experiences."""
    return replace(digits(request), label="rotated_digits")


@STREAMS.register("permuted_mnist", protocol="domain-incremental", demo=ONE_PASS, paper=ONE_PASS, **MNIST)
def permuted_mnist(request: StreamRequest) -> StreamData:
    """Permuted MNIST: all of MNIST, its pixels in another order in each of 10 experiences."""
    return replace(mnist(request), label="permuted_mnist")


@STREAMS.register(
    "rotated_mnist",
    protocol="domain-incremental",
    demo={**ONE_PASS, "domain": "rotated"},
    paper={**ONE_PASS, "domain": "rotated"},
    **MNIST,
)
def rotated_mnist(request: StreamRequest) -> StreamData:
    """Rotated MNIST: all of MNIST, turned by another angle in each of 10 experiences."""
    return replace(mnist(request), label="rotated_mnist")
