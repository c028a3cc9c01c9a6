"""The digits of scikit-learn: real images that come with the package."""

from __future__ import annotations

import numpy as np

from benchmark.registry import STREAMS
from benchmark.streams.loading.images import Images, StreamData, StreamRequest, channel_statistics
from benchmark.streams.loading.resize import resized
from strategies.seeds import numpy_generator

TEST_FRACTION = 0.2

DEMO = {"shots": None, "test_shots": None, "epochs": 10}
"""All of these few and small images fit the demo profile."""


@STREAMS.register(
    "digits",
    megabatches=(10,),
    resolution=8,
    model="cnn",
    profile="demo",
    classes=10,
    demo=DEMO,
    train_per_class=144,
    test_per_class=36,
)
def digits(request: StreamRequest) -> StreamData:
    """1,797 handwritten digits, 8 px grey, embedded in scikit-learn (UCI ML digits): for quick real runs."""
    from sklearn.datasets import load_digits

    data = load_digits()
    pixels = np.rint(data.images * (255 / 16)).astype(np.uint8)[:, None]
    targets = data.target.astype(np.int64)
    # The test set is the same for every seed of a run, as ALMA has it.
    order = numpy_generator(0, "digits test set").permutation(len(targets))
    order = order[np.argsort(targets[order], kind="stable")]
    is_test = np.zeros(len(targets), dtype=bool)
    is_test[order[:: round(1 / TEST_FRACTION)]] = True
    pixels = resized(pixels, request.resolution)
    train = Images(pixels[~is_test], targets[~is_test])
    mean, std = channel_statistics(train)
    return StreamData(
        label="digits",
        train=train,
        test=Images(pixels[is_test], targets[is_test]),
        classes=tuple(str(digit) for digit in range(10)),
        mean=mean,
        std=std,
        flip=False,
    )
