"""Streams that shift: which images each experience has, whatever the protocol."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from benchmark.config.profiles import resolve
from benchmark.errors import UsageError
from benchmark.registry import PROTOCOLS, STREAMS
from benchmark.running.prepare import prepare
from benchmark.streams.build import build_stream
from benchmark.streams.loading.loader import sample_ids
from benchmark.streams.protocols.domain_incremental import Permuted, Rotated
from benchmark.streams.protocols.scenario import Asked

SHIFTING = ("class-incremental", "task-incremental", "domain-incremental", "blurry")

PARTITIONS = ("alma", "class-incremental", "task-incremental", "blurry")
"""Protocols in which each image arrives once."""


def ask(classes=10, per_class=12, experiences=5, **options):
    targets, tested = np.repeat(np.arange(classes), per_class), np.repeat(np.arange(classes), 3)
    return Asked(targets, tested, classes, experiences, resolution=4, **options)


def arranged(protocol, asked):
    return PROTOCOLS.load(protocol).target(asked)


def everything(part):
    return np.concatenate([part.train, part.valid])


@pytest.fixture(scope="module")
def stream_of(tmp_path_factory):
    """Function: options -> the stream of one run on digits."""
    cache = tmp_path_factory.mktemp("cache")

    def make(**options):
        config = resolve({"stream": "split_digits", "strategy": "dense", **options}, profile="demo")
        prepared = prepare(config, data_root=cache / "none", cache=cache)
        return build_stream(prepared.config, prepared.data, "cpu")

    return make


protocols = st.sampled_from(PARTITIONS)


@given(protocols, st.integers(2, 9), st.integers(4, 9), st.integers(1, 4), st.integers(0, 50), st.integers(0, 100))
def test_every_image_arrives_once_and_is_trained_on_or_validated_on(protocol, classes, each, parts, seed, blur):
    asked = ask(classes, each, min(parts, classes), seed=seed, blur=blur, disjoint=30)
    trained = arranged(protocol, asked).trained
    found = np.concatenate([everything(part) for part in trained])
    assert sorted(found.tolist()) == list(range(len(asked.targets)))
    assert all(len(part.train) and len(part.valid) for part in trained)


@pytest.mark.parametrize("protocol", SHIFTING)
def test_each_experience_holds_out_its_fraction_of_every_class(protocol):
    asked = ask(per_class=20, val_fraction=0.2)
    for part in arranged(protocol, asked).trained:
        assert len(part.valid) == round(0.2 * len(everything(part)))
        if protocol != "blurry":
            held = np.bincount(asked.targets[part.valid], minlength=10)
            assert set(held.tolist()) <= {0, 4}


@pytest.mark.parametrize("protocol", ["class-incremental", "task-incremental"])
@pytest.mark.parametrize(("classes", "experiences", "sizes"), [(10, 5, [2] * 5), (10, 3, [4, 3, 3]), (4, 4, [1] * 4)])
def test_classes_are_dealt_out_and_belong_to_one_experience(protocol, classes, experiences, sizes):
    asked = ask(classes, experiences=experiences)
    plan = arranged(protocol, asked)
    own = [set(asked.targets[everything(part)].tolist()) for part in plan.trained]
    assert [len(one) for one in own] == sizes
    assert set.union(*own) == set(range(classes)) and sum(map(len, own)) == classes
    assert [set(group) for group in plan.class_groups] == own
    tested = [set(asked.test_targets[part.positions].tolist()) for part in plan.tested]
    assert tested == own and sum(len(part.positions) for part in plan.tested) == len(asked.test_targets)
    assert bool(plan.notes) == (len(set(sizes)) > 1)


@pytest.mark.parametrize("protocol", SHIFTING)
def test_the_seed_decides_and_nothing_else(protocol):
    def drawn(seed):
        plan = arranged(protocol, ask(seed=seed))
        return [everything(part).tolist() for part in plan.trained]

    assert drawn(3) == drawn(3)
    assert len({str(drawn(seed)) for seed in range(6)}) == 6


def test_seeds_put_the_classes_in_another_order():
    orders = {arranged("class-incremental", ask(seed=seed)).class_groups for seed in range(8)}
    assert len(orders) == 8


@given(st.integers(0, 100), st.integers(0, 100), st.integers(0, 20))
def test_blurry_leaks_exactly_as_many_images_as_it_says(disjoint, blur, seed):
    asked = ask(per_class=25, disjoint=disjoint, blur=blur, seed=seed)
    plan = arranged("blurry", asked)
    homes = [set(asked.test_targets[part.positions].tolist()) for part in plan.tested]
    away = np.zeros(10, dtype=int)
    for part, home in zip(plan.trained, homes, strict=True):
        for label in asked.targets[everything(part)].tolist():
            away[label] += label not in home
    leaking = 10 - round(disjoint / 10)
    per_class = round(blur / 100 * 25)
    assert sorted(away.tolist()) == sorted([0] * (10 - leaking) + [per_class] * leaking)


@pytest.mark.parametrize("domain", ["permuted", "rotated"])
def test_every_domain_has_all_images_in_a_form_of_its_own(domain):
    asked = ask(experiences=3, domain=domain)
    plan = arranged("domain-incremental", asked)
    for part in plan.trained:
        assert sorted(everything(part).tolist()) == list(range(len(asked.targets)))
    image = torch.arange(16, dtype=torch.uint8).reshape(1, 1, 4, 4) * 10
    forms = {str(one(image).tolist()) for one in plan.domains}
    assert len(forms) == 3 and len(plan.domains) == 3


def test_a_permutation_moves_pixels_and_changes_none():
    image = torch.arange(32, dtype=torch.uint8).reshape(2, 4, 4)
    order = torch.randperm(16, generator=torch.Generator().manual_seed(0))
    moved = Permuted(order)(image)
    assert torch.equal(moved.flatten(1), image.flatten(1)[:, order])
    assert torch.equal(Permuted(order)(image[None])[0], moved)


def test_rotations_are_about_the_centre():
    image = torch.zeros(1, 3, 5, 5, dtype=torch.uint8)
    image[:, :, 2, 4] = 200
    turned = {tuple(Rotated(angle)(image)[0, 0].nonzero()[0].tolist()) for angle in (90.0, -90.0)}
    assert turned == {(0, 2), (4, 2)}
    assert torch.equal(Rotated(0.0)(image), image)
    assert torch.equal(Rotated(33.0)(image[0]), Rotated(33.0)(image)[0])


@pytest.mark.parametrize("protocol", SHIFTING)
def test_streams_are_avalanche_scenarios_with_as_many_tests_as_experiences(stream_of, protocol):
    scenario = stream_of(scenario=protocol).scenario
    assert [len(stream) for stream in scenario.streams.values()] == [5, 5, 5]
    assert scenario.protocol == protocol
    for number, experience in enumerate(scenario.train_stream):
        told = set(experience.dataset.targets_task_labels)
        assert told == {number if protocol == "task-incremental" else 0} == set(experience.task_labels)
        assert experience.benchmark is scenario
    new = [set(one.classes_in_this_experience) for one in scenario.train_stream]
    if protocol == "class-incremental":
        order = scenario.classes_order
        assert [set(order[2 * number : 2 * number + 2]) for number in range(5)] == new
        assert scenario.n_classes_per_exp == [2] * 5


@pytest.mark.parametrize("protocol", [*SHIFTING, "alma"])
def test_both_loaders_give_the_same_images_classes_and_tasks(stream_of, protocol):
    """Ours, from arrays, and Avalanche's, sample by sample."""
    stream = stream_of(scenario=protocol, augment=False, domain="rotated" if protocol.startswith("dom") else "permuted")
    for part in (stream.scenario.valid_stream[-1], stream.scenario.test_stream[-1]):
        dataset = part.dataset.subset(range(0, len(part.dataset), 7))
        [[x, y, tasks]] = list(stream.loader.eval_batches(dataset, 1000))
        samples = [dataset[number] for number in range(len(dataset))]
        assert torch.equal(x, torch.stack([image for image, *_ in samples]))
        assert y.tolist() == [label for _, label, *_ in samples]
        assert tasks.tolist() == [task for *_, task in samples]


def test_replayed_images_of_several_domains_keep_their_domain(stream_of):
    stream = stream_of(scenario="domain-incremental", augment=False)
    first, last = (stream.scenario.train_stream[number].dataset.subset([3, 5]) for number in (0, 4))
    mixed = first.concat(last)
    assert len(set(sample_ids(mixed).tolist())) == 4
    [[x, *_]] = list(stream.loader.eval_batches(mixed, 10))
    apart = [next(iter(stream.loader.eval_batches(one, 10)))[0] for one in (first, last)]
    assert torch.equal(x, torch.cat(apart))


def test_untouched_images_are_trained_on_where_augmentation_is_off(stream_of):
    stream = stream_of(augment=False)
    dataset = stream.scenario.train_stream[0].dataset
    [[plain, *_]] = list(stream.loader.eval_batches(dataset, 1000))
    [[trained, *_]] = list(stream.loader.train_batches(dataset, 1000, 0))
    assert sorted(map(str, trained.tolist())) == sorted(map(str, plain.tolist()))


def config(**options):
    return resolve({"stream": "split_digits", "strategy": "Naive", **options}, profile="demo")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"scenario": "task"}, "unknown protocol 'task': known: alma, blurry, class-incremental"),
        ({"wait": 2}, "--wait belongs to --protocol alma: class-incremental does not read it"),
        ({"scenario": "alma", "blur": 20}, "--blur belongs to --protocol blurry"),
        ({"scenario": "blurry", "disjoint": 101}, "less than or equal to 100"),
        ({"strategy": "ensemble", "scenario": "task-incremental"}, "networks that take no task labels"),
        ({"online": True, "epochs": 3}, "--online and --epochs 3 contradict each other"),
    ],
)
def test_what_does_not_go_together_is_refused_in_one_line(options, said):
    with pytest.raises(UsageError, match=said):
        config(**options)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"megabatches": 11}, "11 experiences, but only 10 classes"),
        ({"scenario": "blurry", "megabatches": 11}, "11 experiences, but only 10 classes"),
        ({"shots": 1, "megabatches": 10}, "experience 1 has 1 images, of which 1 would be for validation"),
    ],
)
def test_streams_that_cannot_be_made_are_refused_before_anything_starts(options, said, tmp_path):
    with pytest.raises(UsageError, match=said):
        prepare(config(**options), data_root=tmp_path, cache=tmp_path)


def test_online_is_one_pass_in_batches_of_ten():
    online = config(online=True)
    assert (online.epochs, online.batch_size) == (1, 10)
    assert online == config(online=True, batch_size="10") == config(epochs=1, batch_size=10)


def test_runs_on_almas_streams_are_who_they_were():
    """Computed before there were other protocols."""
    usual = resolve({"stream": "digits", "strategy": "APP"}, profile="demo")
    assert usual.identity("0123456789abcdef").key == "2618ae98b041"
    other = resolve({"stream": "synthetic", "strategy": "Naive", "wait": 2, "replay": "none"}, profile="demo")
    assert other.identity("0123456789abcdef").key == "6e144f7f87a3"


def test_a_record_says_what_the_streams_own_defaults_would_change():
    """The command that makes a run again is written from its record."""
    told = config(scenario="alma", augment=True).protocol()
    assert told["scenario"] == "alma" and told["augment"] is True
    plain = resolve({"stream": "digits", "strategy": "Naive"}, profile="demo").protocol()
    assert not {"scenario", "augment", "domain", "blur", "disjoint"} & plain.keys()


def test_protocols_and_what_they_read_tell_runs_apart():
    keys = [config(**options).identity().key for options in (
        {}, {"scenario": "task-incremental"}, {"scenario": "blurry"}, {"scenario": "blurry", "blur": 20},
        {"scenario": "domain-incremental"}, {"scenario": "domain-incremental", "domain": "rotated"}, {"augment": True},
    )]  # fmt: skip
    assert len(set(keys)) == len(keys)
    assert config(stratified=True).identity() == config().identity()


def test_memory_is_part_of_the_method_where_the_stream_shifts():
    dense = [config(strategy="dense", replay=replay) for replay in ("none", "full", "buffer")]
    assert len({str(one.protocol()) for one in (*dense, config(), config(strategy="Replay"))}) == 1
    assert [one.variant()["replay"] for one in dense] == ["none", "full", "buffer"]
    assert [one.variant().get("buffer_size") for one in dense] == [None, None, 100]
    assert "replay" not in config().variant()


def test_ready_streams_name_a_protocol_that_there_is():
    shifting = {name: STREAMS.load(name).traits.protocol for name in STREAMS.names()}
    assert set(shifting.values()) <= set(PROTOCOLS.names())
    assert all(STREAMS.told(name, "protocol", "alma") == protocol for name, protocol in shifting.items())
