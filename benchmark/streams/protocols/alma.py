"""ALMA's protocol: any labelled data set as a stream of i.i.d. megabatches, an Avalanche scenario.

Anytime Learning at Macroscale (Caccia et al., arXiv 2106.09563): data arrive as B large batches drawn from one
distribution; each carries its own validation part; after each, the learner's predictor is tested on one fixed
test set.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from avalanche.benchmarks import CLScenario
from torch.utils.data import Dataset

from benchmark.errors import UsageError
from benchmark.registry import PROTOCOLS
from benchmark.streams.protocols.scenario import (
    Arrangement,
    Asked,
    Megabatch,
    Tested,
    Trained,
    by_class,
    held_out_count,
    hold_out,
    make_scenario,
    parted,
)
from strategies.seeds import numpy_generator


@PROTOCOLS.register("alma", options=("stratified", "wait"), reference="Caccia et al. 2021, arXiv 2106.09563, section 3")
def alma(asked: Asked) -> Arrangement:
    """i.i.d. megabatches of all classes, tested on one fixed test set: anytime learning at macroscale, the default.

    With ``--wait w`` the learner trains on every w-th megabatch only, on all that has arrived since (section 5), and
    after the last one.
    """
    if asked.wait < 1:
        raise UsageError(f"--wait counts megabatches and starts at 1, not {asked.wait}")
    parts = split_megabatches(asked.targets, asked.experiences, asked.val_fraction, asked.seed, asked.stratified)
    trained = []
    for start in range(0, asked.experiences, asked.wait):
        arrived = parts[start : start + asked.wait]
        train, valid = (np.concatenate([getattr(part, name) for part in arrived]) for name in ("train", "valid"))
        trained.append(Trained(train, valid, start + len(arrived)))
    return Arrangement(trained, [Tested(np.arange(len(asked.test_targets)))])


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
        order = by_class(order, targets, rng)
        # Dealt like cards: each megabatch gets every B-th sample of the class-sorted deck.
        parts = [rng.permutation(order[b::megabatches]) for b in range(megabatches)]
    else:
        parts = np.array_split(order, megabatches)
    result = []
    for b, part in enumerate(parts):
        name = f"megabatch {b + 1}"
        if stratified:
            result.append(hold_out(part, targets, val_fraction, rng, name))
        else:
            result.append(parted(part, np.arange(held_out_count(part, val_fraction, name))))
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
        wait: see :func:`alma`. The train stream then has ceil(B / wait) experiences.
        train_transform, eval_transform: applied to x; validation and test images never see the former.

    Returns:
        A scenario whose ``train`` and ``valid`` streams correspond, with the classes timeline and ``n_classes``;
        the ``test`` stream has one experience. All task labels are 0.

    Raises:
        UsageError: the split is impossible.
    """
    targets, tested = np.asarray(train_targets), np.asarray(test_targets)
    asked = Asked(
        targets,
        tested,
        classes=len(set(targets.tolist())),
        experiences=megabatches,
        val_fraction=val_fraction,
        seed=seed,
        stratified=stratified,
        wait=wait,
    )
    return make_scenario(
        alma(asked), train, test, targets, tested, train_transforms=[train_transform], eval_transforms=[eval_transform]
    )
