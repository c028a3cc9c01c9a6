"""Seeds derived per role, so that adding a consumer of randomness never changes another's numbers."""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import torch


def derived_seed(seed: int, role: str, *path: int) -> int:
    """A 63-bit seed for one role (``"split"``, ``"shuffle"``) and an optional position (megabatch, epoch).

    It depends on nothing but the arguments: not on the machine, the strategy or what ran before. Zeros at the end of
    the path do not count: (role, 3) and (role, 3, 0) are the same seed, so tell draws apart by numbers from 1.
    """
    entropy = [seed, zlib.crc32(role.encode()), *path]
    return int(np.random.SeedSequence(entropy).generate_state(1, np.uint64)[0] >> np.uint64(1))


def numpy_generator(seed: int, role: str, *path: int) -> np.random.Generator:
    """NumPy generator for one role; see :func:`derived_seed`."""
    return np.random.default_rng(derived_seed(seed, role, *path))


def torch_generator(seed: int, role: str, *path: int) -> torch.Generator:
    """CPU torch generator for one role; see :func:`derived_seed`."""
    # Making stand-in images, which takes numbers of NumPy alone, need not wait for torch.
    import torch

    return torch.Generator().manual_seed(derived_seed(seed, role, *path))
