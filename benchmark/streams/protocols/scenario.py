"""What every protocol arranges samples into, and the Avalanche scenario that is made of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

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
from torch import Tensor
from torch.utils.data import Dataset

from benchmark.errors import UsageError
from benchmark.registry import ProtocolTraits
from strategies.seeds import numpy_generator

SAMPLE_ID = "sample_id"
"""Data attribute that names each sample of a scenario: its position in the training set, then the test set; those of
the second domain follow, and so on."""

Transform = Callable[[Tensor], Tensor]
"""Batch of images, or one image -> the same, changed."""

ALMA = "alma"
"""Name of the protocol whose stream does not shift."""


@dataclass(frozen=True)
class Asked:
    """What a protocol is asked to arrange.

    Attributes:
        targets, test_targets: class of each training and test sample, int64.
        classes: how many classes there are.
        experiences: how many parts the stream has; megabatches are experiences.
        val_fraction: part of each experience that is held out for validation.
        seed: of everything random.
        resolution: height and width of the images in pixels.
        stratified, wait, domain, disjoint, blur: the options of that name.
    """

    targets: np.ndarray
    test_targets: np.ndarray
    classes: int
    experiences: int
    val_fraction: float = 0.1
    seed: int = 0
    resolution: int = 0
    stratified: bool = False
    wait: int = 1
    domain: str = "permuted"
    disjoint: int = 50
    blur: int = 10


@dataclass(frozen=True)
class Megabatch:
    """Positions in the training set that make up one megabatch, its validation part apart."""

    train: np.ndarray
    valid: np.ndarray


@dataclass(frozen=True)
class Trained:
    """What is trained on at once.

    Attributes:
        train, valid: positions in the training set.
        last_megabatch: number of the last megabatch that it is made of, from 1.
        task: label that the learner is told.
        domain: number of the transformation that its images go through.
    """

    train: np.ndarray
    valid: np.ndarray
    last_megabatch: int
    task: int = 0
    domain: int = 0


@dataclass(frozen=True)
class Tested:
    """What is tested by itself: positions in the test set, and the rest as :class:`Trained` has it."""

    positions: np.ndarray
    task: int = 0
    domain: int = 0


@dataclass(frozen=True)
class Arrangement:
    """A stream, as positions of samples.

    Attributes:
        trained: in order of arrival.
        tested: the parts of a test; after each experience all of them are tested, those of later ones included.
        tasks: classes of each task, for a head each; empty where the learner is told no task.
        class_groups: classes that are new in each experience, where each class belongs to one; else empty.
        domains: transformation of each domain, of uint8 images; empty where images stay what they are.
        notes: lines for the user.
    """

    trained: Sequence[Trained]
    tested: Sequence[Tested]
    tasks: tuple[tuple[int, ...], ...] = ()
    class_groups: tuple[tuple[int, ...], ...] = ()
    domains: Sequence[Transform] = field(default_factory=tuple)
    notes: tuple[str, ...] = ()


class MegabatchExperience(DatasetExperience):
    """Data that the learner trains on at once, with its own validation part.

    Attributes:
        last_megabatch: number of megabatches, from 1, that have arrived once this experience is there. It is
            the experience's own number unless the learner waits and several megabatches form one experience.
        megabatches: how many megabatches the experience is made of.
        valid_dataset: the validation part, never augmented, never trained on.
        domain: number of the transformation that its images go through, from 0.
        benchmark: the scenario, as older Avalanche code expects it.
    """

    benchmark: CLScenario

    def __init__(
        self,
        *,
        dataset: AvalancheDataset,
        valid: AvalancheDataset,
        number: int,
        last_megabatch: int,
        megabatches: int,
        task: int = 0,
        domain: int = 0,
    ):
        super().__init__(dataset=dataset, current_experience=number)
        self.valid_dataset = valid
        self.last_megabatch = last_megabatch
        self.megabatches = megabatches
        self.domain = domain
        self.task_label = task
        self.task_labels = [task]

    @property
    def dataset(self) -> AvalancheDataset:
        """The training data; settable, because some Avalanche plugins replace it."""
        return self._dataset

    @dataset.setter
    def dataset(self, dataset: AvalancheDataset) -> None:
        self._dataset = dataset


def make_scenario(
    arrangement: Arrangement,
    train: Dataset,
    test: Dataset,
    train_targets: Sequence[int] | np.ndarray,
    test_targets: Sequence[int] | np.ndarray,
    *,
    train_transforms: Sequence[object] = (None,),
    eval_transforms: Sequence[object] = (None,),
    protocol: str = ALMA,
    traits: ProtocolTraits | None = None,
) -> CLScenario:
    """An arrangement as an Avalanche scenario with streams train, valid and test.

    Args:
        arrangement: of the samples.
        train, test: map-style data sets of pairs (x, y).
        train_targets, test_targets: the class of each sample, in order.
        train_transforms, eval_transforms: of each domain, applied to x; what is held out and tested sees the latter.
        protocol, traits: what the scenario says of itself, in its attributes ``protocol`` and ``traits``.

    Returns:
        A scenario whose ``train`` and ``valid`` streams correspond, with the classes timeline and ``n_classes``;
        where each class belongs to one experience also ``n_classes_per_exp`` and ``classes_order``.
    """
    samples = len(np.asarray(train_targets)), len(np.asarray(test_targets))
    task_of = {"train": np.zeros(samples[0], dtype=int), "test": np.zeros(samples[1], dtype=int)}
    for part in arrangement.trained:
        task_of["train"][part.train] = task_of["train"][part.valid] = part.task
    for tested in arrangement.tested:
        task_of["test"][tested.positions] = tested.task
    trains, valids, tests = {}, {}, {}
    for domain in range(1 + max(part.domain for part in arrangement.trained)):
        first = domain * sum(samples)
        augmented, plain = train_transforms[domain], eval_transforms[domain]
        trains[domain] = _avalanche_dataset(train, train_targets, task_of["train"], first, augmented, plain)
        # The same samples once more, so that nothing can switch augmentation on for what is held out.
        valids[domain] = _avalanche_dataset(train, train_targets, task_of["train"], first, plain, plain)
        tests[domain] = _avalanche_dataset(test, test_targets, task_of["test"], first + samples[0], plain, plain)
    learnt, validated, start = [], [], 0
    for number, part in enumerate(arrangement.trained):
        valid = valids[part.domain].subset(part.valid.tolist()).eval()
        about = {
            "valid": valid,
            "number": number,
            "last_megabatch": part.last_megabatch,
            "megabatches": part.last_megabatch - start,
            "task": part.task,
            "domain": part.domain,
        }
        learnt.append(MegabatchExperience(dataset=trains[part.domain].subset(part.train.tolist()), **about))
        validated.append(MegabatchExperience(dataset=valid, **about))
        start = part.last_megabatch
    seen = []
    for number, tested in enumerate(arrangement.tested):
        whole = len(tested.positions) == samples[1]
        part_of_test = tests[tested.domain] if whole else tests[tested.domain].subset(tested.positions.tolist())
        dataset = part_of_test.eval()
        # One test of everything is the test of the whole stream.
        last = start if len(arrangement.tested) == 1 else number + 1
        seen.append(
            MegabatchExperience(
                dataset=dataset,
                valid=dataset,
                number=number,
                last_megabatch=last,
                megabatches=last if len(arrangement.tested) == 1 else 1,
                task=tested.task,
                domain=tested.domain,
            )
        )
    streams = [EagerCLStream("train", learnt), EagerCLStream("valid", validated), EagerCLStream("test", seen)]
    scenario = with_classes_timeline(CLScenario(streams))
    scenario.n_classes = len(set(np.asarray(train_targets).tolist()) | set(np.asarray(test_targets).tolist()))
    scenario.protocol = protocol
    scenario.traits = traits or ProtocolTraits()
    if arrangement.class_groups:
        scenario.n_classes_per_exp = [len(group) for group in arrangement.class_groups]
        scenario.classes_order = [label for group in arrangement.class_groups for label in group]
    for stream in scenario.streams.values():
        stream.benchmark = scenario
        for experience in stream:
            experience.benchmark = scenario
            for name in ("classes_in_this_experience", "previous_classes", "classes_seen_so_far", "future_classes"):
                setattr(experience, name, sorted(getattr(experience, name)))
    return scenario


def class_groups(asked: Asked) -> tuple[tuple[int, ...], ...]:
    """The classes in seeded order, cut into a near-equal group for each experience; sorted within a group.

    Where they do not divide, the first groups have one more.

    Raises:
        UsageError: there are more experiences than classes.
    """
    if asked.experiences > asked.classes:
        raise UsageError(
            f"{asked.experiences} experiences, but only {asked.classes} classes to tell them apart: lower --megabatches"
        )
    order = numpy_generator(asked.seed, "class order").permutation(asked.classes)
    return tuple(tuple(sorted(map(int, part))) for part in np.array_split(order, asked.experiences))


def spread_note(groups: Sequence[Sequence[int]]) -> tuple[str, ...]:
    """A line about classes that do not divide into as many experiences; none where they do."""
    sizes = [len(group) for group in groups]
    if len(set(sizes)) < 2:
        return ()
    more, total = sizes.count(max(sizes)), sum(sizes)
    return (
        f"Note: {total} classes in {len(sizes)} experiences do not divide: the first {more} have {max(sizes)} classes, "
        f"the others {min(sizes)}.",
    )


def hold_out(
    part: np.ndarray, targets: np.ndarray, val_fraction: float, rng: np.random.Generator, name: str
) -> Megabatch:
    """Hold out round(val_fraction * n) samples of ``part`` for validation, spread over its classes; at least one.

    Raises:
        UsageError: no sample would be left to train on, or none to validate on.
    """
    held_out = held_out_count(part, val_fraction, name)
    part = by_class(part, targets, rng)
    return parted(part, ((np.arange(held_out) + 0.5) * len(part) / held_out).astype(int))


def held_out_count(part: np.ndarray, val_fraction: float, name: str) -> int:
    """How many samples of ``part`` are for validation; see :func:`hold_out`."""
    # A megabatch that rounds to none still has one: without it no epoch could be chosen.
    held_out = max(round(val_fraction * len(part)), int(val_fraction > 0))
    if not 0 < held_out < len(part):
        raise UsageError(
            f"{name} has {len(part)} images, of which {held_out} would be for validation: "
            "lower --megabatches, raise --shots or change --val-fraction"
        )
    return held_out


def parted(part: np.ndarray, chosen: np.ndarray) -> Megabatch:
    """``part`` without the samples at ``chosen``, and those."""
    is_valid = np.zeros(len(part), dtype=bool)
    is_valid[chosen] = True
    return Megabatch(train=part[~is_valid], valid=part[is_valid])


def by_class(order: np.ndarray, targets: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """``order`` sorted by class, the classes in random order, stable within a class."""
    classes = np.unique(targets)
    rank = np.empty(len(classes), dtype=int)
    rank[rng.permutation(len(classes))] = np.arange(len(classes))
    return order[np.argsort(rank[np.searchsorted(classes, targets[order])], kind="stable")]


def _avalanche_dataset(
    base: Dataset,
    targets: Sequence[int] | np.ndarray,
    tasks: np.ndarray,
    first_id: int,
    train_transform: object,
    eval_transform: object,
) -> TaskAwareSupervisedClassificationDataset:
    labels = np.asarray(targets).tolist()
    told = tasks.tolist() if tasks.any() else ConstantSequence(0, len(labels))
    return TaskAwareSupervisedClassificationDataset(
        [base],
        data_attributes=[
            DataAttribute(labels, "targets"),
            TaskLabels(told),
            DataAttribute(list(range(first_id, first_id + len(labels))), SAMPLE_ID),
        ],
        transform_groups=TransformGroups({"train": (train_transform, None), "eval": (eval_transform, None)}),
    )
