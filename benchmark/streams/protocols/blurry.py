"""Blurry streams: some classes belong to one experience, the others to one above all, and leak over its borders."""

from __future__ import annotations

import numpy as np

from benchmark.registry import PROTOCOLS
from benchmark.streams.protocols.scenario import (
    Arrangement,
    Asked,
    Tested,
    Trained,
    class_groups,
    hold_out,
    spread_note,
)
from strategies.seeds import numpy_generator


@PROTOCOLS.register(
    "blurry",
    shifts=True,
    grows=True,
    options=("disjoint", "blur"),
    reference="Koh et al. 2022, arXiv 2110.10031 (i-Blurry-N-M)",
)
def blurry(asked: Asked) -> Arrangement:
    """i-Blurry: N % of the classes belong to one experience alone, of the others M % of the images come in others.

    Every class has an experience that is its home, as in ``class-incremental``. ``--disjoint`` N says how many of the
    classes, drawn by the seed, are nowhere else; of each other class ``--blur`` M % of the images, drawn too, are dealt
    out evenly over the other experiences. Each test part holds the test images of one experience's home classes.
    """
    groups = class_groups(asked)
    home = {label: number for number, group in enumerate(groups) for label in group}
    rng = numpy_generator(asked.seed, "blurry classes")
    shuffled = rng.permutation(asked.classes)
    leaking = set(map(int, shuffled[round(asked.disjoint / 100 * asked.classes) :])) if len(groups) > 1 else set()
    members: list[list[np.ndarray]] = [[] for _ in groups]
    for label in range(asked.classes):
        own = rng.permutation(np.flatnonzero(asked.targets == label))
        away = round(asked.blur / 100 * len(own)) if label in leaking else 0
        members[home[label]].append(own[away:])
        others = [number for number in rng.permutation(len(groups)).tolist() if number != home[label]]
        for place, number in enumerate(others):
            members[number].append(own[:away][place :: len(others)])
    trained = []
    for number, parts in enumerate(members, start=1):
        own = rng.permutation(np.concatenate(parts))
        part = hold_out(own, asked.targets, asked.val_fraction, rng, f"experience {number}")
        trained.append(Trained(part.train, part.valid, number))
    tested = [Tested(np.flatnonzero(np.isin(asked.test_targets, group))) for group in groups]
    return Arrangement(trained, tested, notes=spread_note(groups))
