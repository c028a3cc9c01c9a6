"""ALMA's protocol: any labelled data set as a stream of i.i.d. megabatches, an Avalanche scenario.

Anytime Learning at Macroscale (Caccia et al., arXiv 2106.09563): data arrive as B large batches drawn from one
distribution; each carries its own validation part; after each, the learner's predictor is tested on one fixed
test set.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from avalanche.benchmarks import CLScenario, DatasetExperience, EagerCLStream, with_classes_timeline
from avalanche.benchmarks.utils import (
    AvalancheDataset,
    DataAttribute,
    TaskAwareSupervisedClassificationDataset,
    TaskLabels,
    TransformGroups,
)
from avalanche.benchmarks.utils.flat_data import ConstantSequence
from torch.utils.data import Dataset

from benchmark.errors import UsageError
from strategies.seeds import numpy_generator

SAMPLE_ID = "sample_id"
"""Data attribute that names each sample of a scenario: its position in the training set, then the test set."""


@dataclass(frozen=True)
class Megabatch:
    """Positions in the training set that make up one megabatch, its validation part apart."""

    train: np.ndarray
    valid: np.ndarray


class MegabatchExperience(DatasetExperience):
    """Data that the learner trains on at once, with its own validation part.

    Attributes:
        last_megabatch: number of megabatches, from 1, that have arrived once this experience is there. It is
            the experience's own number unless the learner waits and several megabatches form one experience.
        megabatches: how many megabatches the experience is made of.
        valid_dataset: the validation part, never augmented, never trained on.
        benchmark: the scenario, as older Avalanche code expects it.
    """

    benchmark: CLScenario

    def __init__(
        self, *, dataset: AvalancheDataset, valid: AvalancheDataset, number: int, last_megabatch: int, megabatches: int
    ):
        super().__init__(dataset=dataset, current_experience=number)
        self.valid_dataset = valid
        self.last_megabatch = last_megabatch
        self.megabatches = megabatches
        self.task_label = 0
        self.task_labels = [0]

    @property
    def dataset(self) -> AvalancheDataset:
        """The training data; settable, because some Avalanche plugins replace it."""
        return self._dataset

    @dataset.setter
    def dataset(self, dataset: AvalancheDataset) -> None:
        self._dataset = dataset


def split_megabatches(
    targets: Sequence[int] | np.ndarray, megabatches: int, val_fraction: float, seed: int, stratified: bool = False
) -> list[Megabatch]:
    """Split n samples into B near-equal megabatches and hold out a part of each for validation.

    One global random permutation, seeded, is cut into B parts whose sizes differ by at most one; nothing is
    dropped. ``stratified`` deals each class out evenly instead (per class, too, counts differ by at most one),
    and spreads the validation parts over the classes.

    Args:
        targets: class of each sample, shape (n,).
        megabatches: B.
        val_fraction: fraction of each megabatch that is its validation part; round(fraction * size) samples, at least
            one unless the fraction is 0.
        seed: the only thing that the split depends on, beside the targets.
        stratified: see above.

    Raises:
        UsageError: fewer samples than megabatches, or a megabatch without training or validation samples.
    """
    targets = np.asarray(targets)
    n = len(targets)
    if megabatches < 1:
        raise UsageError(f"a stream needs at least 1 megabatch, not {megabatches}")
    if megabatches > n:
        raise UsageError(f"{megabatches} megabatches, but only {n} training images: lower --megabatches")
    rng = numpy_generator(seed, "split")
    order = rng.permutation(n)
    if stratified:
        order = _by_class(order, targets, rng)
        # Dealt like cards: each megabatch gets every B-th sample of the class-sorted deck.
        parts = [rng.permutation(order[b::megabatches]) for b in range(megabatches)]
    else:
        parts = np.array_split(order, megabatches)
    result = []
    for b, part in enumerate(parts):
        # A megabatch that rounds to none still has one: without it no epoch could be chosen.
        held_out = max(round(val_fraction * len(part)), int(val_fraction > 0))
        if not 0 < held_out < len(part):
            raise UsageError(
                f"megabatch {b + 1} has {len(part)} images, of which {held_out} would be for validation: "
                "lower --megabatches, raise --shots or change --val-fraction"
            )
        if stratified:
            part = _by_class(part, targets, rng)
            chosen = ((np.arange(held_out) + 0.5) * len(part) / held_out).astype(int)
        else:
            chosen = np.arange(held_out)
        is_valid = np.zeros(len(part), dtype=bool)
        is_valid[chosen] = True
        result.append(Megabatch(train=part[~is_valid], valid=part[is_valid]))
    return result


def alma_scenario(
    train: Dataset,
    test: Dataset,
    train_targets: Sequence[int] | np.ndarray,
    test_targets: Sequence[int] | np.ndarray,
    *,
    megabatches: int,
    val_fraction: float = 0.1,
    seed: int = 0,
    stratified: bool = False,
    wait: int = 1,
    train_transform: object = None,
    eval_transform: object = None,
) -> CLScenario:
    """Express a data set as an ALMA stream: an Avalanche scenario with streams train, valid and test.

    Args:
        train, test: map-style data sets of pairs (x, y).
        train_targets, test_targets: the class of each sample, in order.
        megabatches, val_fraction, seed, stratified: see :func:`split_megabatches`.
        wait: the learner trains on every ``wait``-th megabatch only, on all that has arrived since ("how long to
            wait", ALMA section 5), and after the last one. The train stream then has ceil(B / wait) experiences.
        train_transform, eval_transform: applied to x; validation and test images never see the former.

    Returns:
        A scenario whose ``train`` and ``valid`` streams correspond, with the classes timeline and ``n_classes``;
        the ``test`` stream has one experience. All task labels are 0.

    Raises:
        UsageError: the split is impossible.
    """
    if wait < 1:
        raise UsageError(f"--wait counts megabatches and starts at 1, not {wait}")
    parts = split_megabatches(train_targets, megabatches, val_fraction, seed, stratified)
    whole = _avalanche_dataset(train, train_targets, 0, train_transform, eval_transform)
    # The same samples once more, so that nothing can switch augmentation on for what is held out.
    held_out = _avalanche_dataset(train, train_targets, 0, eval_transform, eval_transform)
    tested = _avalanche_dataset(test, test_targets, len(whole), eval_transform, eval_transform)
    trains, valids, ends = [], [], []
    for start in range(0, megabatches, wait):
        arrived = parts[start : start + wait]
        trains.append(whole.subset(np.concatenate([part.train for part in arrived]).tolist()))
        valids.append(held_out.subset(np.concatenate([part.valid for part in arrived]).tolist()).eval())
        ends.append(start + len(arrived))
    scenario = with_classes_timeline(
        CLScenario(
            [
                _stream("train", list(zip(trains, valids, ends, strict=True))),
                _stream("valid", list(zip(valids, valids, ends, strict=True))),
                _stream("test", [(tested.eval(), tested.eval(), megabatches)]),
            ]
        )
    )
    scenario.n_classes = len(set(np.asarray(train_targets).tolist()) | set(np.asarray(test_targets).tolist()))
    for stream in scenario.streams.values():
        stream.benchmark = scenario
        for experience in stream:
            experience.benchmark = scenario
            for name in ("classes_in_this_experience", "previous_classes", "classes_seen_so_far", "future_classes"):
                setattr(experience, name, sorted(getattr(experience, name)))
    return scenario


def _stream(name: str, parts: list[tuple[AvalancheDataset, AvalancheDataset, int]]) -> EagerCLStream:
    experiences, start = [], 0
    for number, (dataset, valid, end) in enumerate(parts):
        experiences.append(
            MegabatchExperience(
                dataset=dataset, valid=valid, number=number, last_megabatch=end, megabatches=end - start
            )
        )
        start = end
    return EagerCLStream(name, experiences)


def _avalanche_dataset(
    base: Dataset, targets: Sequence[int] | np.ndarray, first_id: int, train_transform: object, eval_transform: object
) -> TaskAwareSupervisedClassificationDataset:
    labels = np.asarray(targets).tolist()
    return TaskAwareSupervisedClassificationDataset(
        [base],
        data_attributes=[
            DataAttribute(labels, "targets"),
            TaskLabels(ConstantSequence(0, len(labels))),
            DataAttribute(list(range(first_id, first_id + len(labels))), SAMPLE_ID),
        ],
        transform_groups=TransformGroups({"train": (train_transform, None), "eval": (eval_transform, None)}),
    )


def _by_class(order: np.ndarray, targets: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """``order`` sorted by class, the classes in random order, stable within a class."""
    classes = np.unique(targets)
    rank = np.empty(len(classes), dtype=int)
    rank[rng.permutation(len(classes))] = np.arange(len(classes))
    return order[np.argsort(rank[np.searchsorted(classes, targets[order])], kind="stable")]
