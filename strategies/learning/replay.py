"""Replay: what is trained on at megabatch t, given what has arrived (ALMA, arXiv 2106.09563, section 3).

A memory sees the megabatches in order and answers each with the data to use: training memories feed the
learner, and a second one of the same kind accumulates the validation parts just so.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import numpy as np
from avalanche.benchmarks.utils import AvalancheDataset
from avalanche.core import SupervisedPlugin
from avalanche.training.templates import SupervisedTemplate

from strategies.registry import REPLAYS
from strategies.seeds import numpy_generator


class Memory(ABC):
    """Takes megabatches in order of arrival and says which data to use after each.

    ``capacity`` is the number of earlier samples a bounded memory keeps; ``seed`` and ``role`` fix its draws. Of one
    that ``joins``, each batch of new samples is joined by earlier ones; of others each sample is seen once an epoch.
    """

    joins = False

    def __init__(self, *, capacity: int, seed: int, role: str):
        self.capacity = capacity
        self.seed = seed
        self.role = role

    @abstractmethod
    def observe(self, megabatch: AvalancheDataset) -> AvalancheDataset:
        """Data to use once ``megabatch`` has arrived; every sample at most once, the newest ones last."""


@REPLAYS.register("full")
class FullReplay(Memory):
    """M_1..M_t: everything that has arrived, ALMA's and APP's default."""

    _seen: AvalancheDataset | None = None

    def observe(self, megabatch: AvalancheDataset) -> AvalancheDataset:
        """All megabatches so far."""
        self._seen = megabatch if self._seen is None else self._seen.concat(megabatch)
        return self._seen


@REPLAYS.register("none")
class NoReplay(Memory):
    """M_t: only the newest megabatch."""

    def observe(self, megabatch: AvalancheDataset) -> AvalancheDataset:
        """The megabatch itself."""
        return megabatch


@REPLAYS.register("last")
class LastReplay(Memory):
    """M_{t-1}, M_t: the newest megabatch and the one before."""

    _previous: AvalancheDataset | None = None

    def observe(self, megabatch: AvalancheDataset) -> AvalancheDataset:
        """The previous megabatch, if there is one, and this one."""
        both = megabatch if self._previous is None else self._previous.concat(megabatch)
        self._previous = megabatch
        return both


@REPLAYS.register("buffer", bounded=True)
class BufferReplay(Memory):
    """M_t and a reservoir of k earlier samples, in which each earlier sample is equally likely (Vitter 1985)."""

    _reservoir: AvalancheDataset | None = None
    _arrivals = 0
    _megabatches = 0

    def observe(self, megabatch: AvalancheDataset) -> AvalancheDataset:
        """The reservoir as it was before this megabatch, then the megabatch, which afterwards enters it."""
        held = 0 if self._reservoir is None else len(self._reservoir)
        both = megabatch if self._reservoir is None else self._reservoir.concat(megabatch)
        rng = numpy_generator(self.seed, f"reservoir of {self.role}", self._megabatches)
        # Algorithm R over the positions of `both`: slot j of the reservoir holds the sample at slots[j].
        slots = list(range(held))
        for position in range(held, len(both)):
            self._arrivals += 1
            if len(slots) < self.capacity:
                slots.append(position)
            else:
                slot = int(rng.integers(self._arrivals))
                if slot < self.capacity:
                    slots[slot] = position
        self._megabatches += 1
        self._reservoir = both.subset(np.array(slots, dtype=int).tolist()) if slots else None
        return both


@REPLAYS.register("interleaved", bounded=True, reference="https://arxiv.org/abs/1902.10486")
class InterleavedReplay(BufferReplay):
    """M_t, each batch joined by as many of k earlier samples, a reservoir: experience replay (Chaudhry et al. 2019).

    Each new sample is seen once an epoch, and the reservoir over and over; ``buffer`` has all once, so that k samples
    beside a large megabatch are nearly forgotten. A step sees up to twice as many samples. The reservoir is that of
    ``buffer``, for validation, too: an epoch is chosen by the new validation part and what is left of earlier ones.
    """

    joins = True


def training_mixture(strategy: SupervisedTemplate, size: int, rng: np.random.Generator) -> list[int]:
    """Positions in ``strategy.adapted_dataset`` of ``size`` samples, in random order, mixed as training mixes them.

    They are different ones; but where remembered samples join batches, every second one is remembered, and these are
    taken over and over.

    Raises:
        ValueError: there are fewer samples, or fewer new ones than half of ``size``.
    """
    joined, everything = getattr(strategy, "joined", 0), len(strategy.adapted_dataset)
    if not joined:
        alone: list[int] = rng.choice(everything, size, replace=False).tolist()
        return alone
    remembered = size // 2
    rounds = [rng.permutation(joined) for _ in range(-(-remembered // joined))]
    newest = joined + rng.choice(everything - joined, size - remembered, replace=False)
    earlier = np.concatenate([*rounds, np.zeros(0, dtype=int)])[:remembered]
    mixed: list[int] = rng.permutation(np.concatenate([earlier, newest])).tolist()
    return mixed


class ReplayMegabatches(SupervisedPlugin):
    """Puts the data that a :class:`Memory` answers with in place of the newest megabatch, for training.

    Where the memory joins batches, ``strategy.joined`` is how many of them, the first, are earlier samples.
    """

    def __init__(self, memory: Memory):
        super().__init__()
        self.memory = memory

    def after_train_dataset_adaptation(self, strategy: SupervisedTemplate, *args: object, **kwargs: object) -> None:
        """Replace the adapted data set before Avalanche makes the data loader."""
        newest = strategy.experience.dataset
        strategy.adapted_dataset = self.memory.observe(newest).train()
        strategy.joined = len(strategy.adapted_dataset) - len(newest) if self.memory.joins else 0
