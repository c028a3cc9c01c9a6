"""Class-incremental streams: each experience brings classes of its own, and nobody says which experience it is."""

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
    "class-incremental",
    shifts=True,
    new_classes=True,
    grows=True,
    reference="van de Ven and Tolias 2019, arXiv 1904.07734; Rebuffi et al. 2017, arXiv 1611.07725",
)
def class_incremental(asked: Asked) -> Arrangement:
    """Classes of its own in each experience, and one head over all of them: split MNIST and its like, class-IL.

    The seed puts the classes in order; the first experience has the first of them, and so on. Where they do not divide
    the first experiences have one more. Each test part holds the test images of one experience's classes.
    """
    groups = class_groups(asked)
    trained, tested = [], []
    for number, group in enumerate(groups, start=1):
        rng = numpy_generator(asked.seed, "split of classes", number)
        own = rng.permutation(np.flatnonzero(np.isin(asked.targets, group)))
        part = hold_out(own, asked.targets, asked.val_fraction, rng, f"experience {number}")
        trained.append(Trained(part.train, part.valid, number))
        tested.append(Tested(np.flatnonzero(np.isin(asked.test_targets, group))))
    return Arrangement(trained, tested, class_groups=groups, notes=spread_note(groups))
