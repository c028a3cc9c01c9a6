"""CIFAR and MNIST families, downloaded by torchvision on first use."""

from __future__ import annotations

from typing import Any

import numpy as np

from benchmark.errors import DataNotFound, NotDownloaded
from benchmark.registry import STREAMS
from benchmark.streams.loading.images import Images, StreamData, StreamRequest, channel_statistics
from benchmark.streams.loading.resize import resized


@STREAMS.register("cifar10", megabatches=(8, 10, 50, 100), classes=10, train_per_class=5000, test_per_class=1000)
def cifar10(request: StreamRequest) -> StreamData:
    """CIFAR-10: 50,000 + 10,000 images, 10 classes, 32 px (Krizhevsky 2009)."""
    return _downloaded("CIFAR10", "cifar10", request)


@STREAMS.register("cifar100", megabatches=(8, 10, 50, 100), classes=100, train_per_class=500, test_per_class=100)
def cifar100(request: StreamRequest) -> StreamData:
    """CIFAR-100: 50,000 + 10,000 images, 100 classes, 32 px (Krizhevsky 2009)."""
    return _downloaded("CIFAR100", "cifar100", request)


@STREAMS.register(
    "mnist", megabatches=(10,), resolution=28, model="cnn", classes=10, train_per_class=6000, test_per_class=1000
)
def mnist(request: StreamRequest) -> StreamData:
    """MNIST: 60,000 + 10,000 handwritten digits, 28 px grey (LeCun et al. 1998)."""
    return _downloaded("MNIST", "mnist", request, flip=False)


@STREAMS.register(
    "fashion_mnist",
    megabatches=(10,),
    resolution=28,
    model="cnn",
    classes=10,
    train_per_class=6000,
    test_per_class=1000,
)
def fashion_mnist(request: StreamRequest) -> StreamData:
    """Fashion-MNIST: 60,000 + 10,000 pieces of clothing, 28 px grey (Xiao et al. 2017)."""
    return _downloaded("FashionMNIST", "fashion_mnist", request)


def _downloaded(dataset: str, label: str, request: StreamRequest, flip: bool = True) -> StreamData:
    from torchvision import datasets

    parts: list[Any] = []
    for train in (True, False):
        try:
            parts.append(getattr(datasets, dataset)(str(request.data_root), train=train, download=request.download))
        except (OSError, RuntimeError) as error:
            if not request.download:
                raise NotDownloaded(f"{label} is not in {request.data_root}: a run would download it") from error
            raise DataNotFound(
                f"{label} is not in {request.data_root} and could not be downloaded ({type(error).__name__}): "
                f"put torchvision's {dataset} files there, choose a folder with --data-root, "
                "or use stand-in images with --data synthetic"
            ) from error
    train_images, test_images = (_images(part, request.resolution) for part in parts)
    mean, std = channel_statistics(train_images)
    return StreamData(label, train_images, test_images, tuple(parts[0].classes), mean, std, flip=flip)


def _images(part: Any, resolution: int) -> Images:
    pixels = np.asarray(part.data)
    channels_first = pixels.transpose(0, 3, 1, 2) if pixels.ndim == 4 else pixels[:, None]
    return Images(resized(channels_first, resolution), np.asarray(part.targets, dtype=np.int64))
