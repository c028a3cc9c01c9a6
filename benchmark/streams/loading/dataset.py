"""Images as a map-style data set of PyTorch."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from benchmark.streams.loading.images import Images


class ImageDataset(Dataset):
    """Pairs (uint8 tensor (channels, height, width), class) for Avalanche's per-sample loaders."""

    def __init__(self, images: Images):
        self.images = images

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return torch.from_numpy(self.images.read(np.array([index]))[0]), int(self.images.targets[index])
