"""What a strategy keeps from one experience to the next is counted, each image and each tensor once."""

from __future__ import annotations

import pytest
from avalanche.core import SupervisedPlugin

from benchmark.config.profiles import resolve
from benchmark.metrics.series import on_test_stream, trained_on
from benchmark.running.prepare import prepare
from benchmark.running.run import run
from strategies.learning.remembered import remembered

OPTIONS = {"stream": "split_digits", "megabatches": 2, "epochs": 1, "shots": 40, "buffer_size": 20, "lr": 0.01}
PIXELS = 8 * 8
FLOAT = 4
"""Bytes of a number."""

BUFFER, FOR_VALIDATION = 20, 2
"""Images that a buffer of 20 keeps, and those for validation: a tenth of all."""


class Watch(SupervisedPlugin):
    """What is remembered after each experience, and the bytes of the network's weights."""

    def __init__(self):
        super().__init__()
        self.found, self.arrived, self.weights = [], [], 0

    def before_eval(self, strategy, *args, **kwargs):
        if not on_test_stream(strategy):
            return
        self.found.append(remembered(strategy, not_of="tests"))
        self.weights = sum(p.nbytes for p in strategy.model.parameters())
        self.arrived.append(sum(len(one.dataset) + len(one.valid_dataset) for one in trained_on(strategy)))


def watched(tmp_path, **options):
    watch, scenario = Watch(), options.pop("scenario", "class-incremental")
    config = resolve({**OPTIONS, "scenario": scenario, **options}, profile="demo")
    result = run(prepare(config, data_root=tmp_path, cache=tmp_path), plugins=[watch])
    return watch, result


def test_who_remembers_nothing_keeps_the_network_alone(tmp_path):
    watch, result = watched(tmp_path, strategy="Naive")
    assert [(one.images, one.bytes) for one in watch.found] == [(0, 0), (0, 0)]
    assert result.series["size/memory_bytes"][1] == result.series["size/bytes_bitmask"][1]


def test_masks_of_tasks_are_weighed_with_the_network(tmp_path):
    _, result = watched(tmp_path, strategy="PackNet-masks", scenario="task-incremental")
    assert result.series["size/memory_bytes"][1] == result.series["size/bytes_bitmask"][1]


@pytest.mark.parametrize("strategy", ["Replay", "ER-ACE", "APP", "SparCL"])
def test_a_buffer_counts_its_images_at_a_byte_a_pixel(tmp_path, strategy):
    own = {"replay": "buffer"} if strategy in ("APP", "SparCL") else {}
    watch, result = watched(tmp_path, strategy=strategy, **own)
    images = BUFFER + FOR_VALIDATION
    # Avalanche's reservoirs hold a random number for each image.
    numbers = 0 if own else BUFFER * FLOAT
    assert [(one.images, one.image_bytes, one.tensor_bytes) for one in watch.found] == [
        (images, images * PIXELS, numbers)
    ] * 2
    stored = result.series["size/bytes_bitmask"][1]
    assert result.series["size/memory_bytes"][1] == [size + images * PIXELS + numbers for size in stored]
    assert result.series["size/memory_images"][1] == [images, images]


@pytest.mark.parametrize("strategy", ["Cumulative", "dense"])
def test_full_replay_keeps_everything_that_has_arrived(tmp_path, strategy):
    own = {"replay": "full"} if strategy == "dense" else {}
    watch, _ = watched(tmp_path, strategy=strategy, **own)
    assert [one.images for one in watch.found] == watch.arrived and watch.arrived[0] < watch.arrived[1]


def test_logits_are_kept_with_their_images(tmp_path):
    watch, _ = watched(tmp_path, strategy="DER")
    assert watch.found[-1].images == BUFFER + FOR_VALIDATION
    assert watch.found[-1].tensor_bytes == BUFFER * (10 + 1) * FLOAT


@pytest.mark.parametrize(
    ("strategy", "copies"),
    # EWC: weights and their importance, of each experience. LwF: the teacher. GDumb: the first initialisation.
    [("EWC", [2, 4]), ("LwF", [1, 1])],
)
def test_copies_of_the_weights_are_counted(tmp_path, strategy, copies):
    watch, _ = watched(tmp_path, strategy=strategy)
    assert [one.tensor_bytes for one in watch.found] == [watch.weights * number for number in copies]
    assert not any(one.images for one in watch.found)


def test_images_that_are_kept_as_numbers_count_as_these(tmp_path):
    watch, _ = watched(tmp_path, strategy="GEM", settings={"patterns_per_exp": 10})
    assert [one.images for one in watch.found] == [20, 40], "for validation"
    first, second = (one.tensor_bytes for one in watch.found)
    # Pixels, class and task, in 4, 8 and 8 bytes; gradients are made anew at each step.
    assert first == 10 * (PIXELS * FLOAT + 8 + 8)
    assert second == 2 * first


def test_what_is_made_anew_in_each_experience_is_not_counted(tmp_path):
    watch, _ = watched(tmp_path, strategy="SI")
    # Where the experience began, importances, and the sum of all paths so far.
    assert [one.tensor_bytes for one in watch.found] == [3 * watch.weights] * 2
