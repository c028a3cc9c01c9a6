from __future__ import annotations

from pathlib import Path

import pytest

from benchmark.config import RunConfig, fingerprint, load_file, options_by_group, resolved
from benchmark.errors import UsageError
from benchmark.grid import expanded


def config(**options):
    return resolved({"stream": "synthetic", "strategy": "APP", **options}, profile="demo")


def test_paper_profile_is_the_papers_recipe():
    paper = resolved({"stream": "restricted_imagenet_fewshot", "strategy": "APP"}, profile="paper")
    assert (paper.epochs, paper.lr, paper.momentum, paper.weight_decay) == (50, 0.1, 0.9, 1e-4)
    assert (paper.milestones, paper.lr_decay, paper.batch_size) == ((0.4, 0.8), 0.1, 64)
    assert (paper.megabatches, paper.shots, paper.tau, paper.replay) == (10, 540, 4.5, "full")
    assert paper.density == pytest.approx(0.366, abs=1e-3)


def test_the_longest_few_shot_stream_has_batches_of_32():
    long = resolved({"stream": "restricted_imagenet_fewshot", "strategy": "APP", "megabatches": 120}, profile="paper")
    assert long.batch_size == 32


def test_few_shot_streams_are_stratified_and_others_are_not():
    assert config().stratified
    assert not resolved({"stream": "cifar10", "strategy": "APP"}, profile="paper").stratified


def test_density_and_tau_say_the_same():
    assert config(density=0.8**3).tau == pytest.approx(3)
    assert config(density=1).density == pytest.approx(1)
    with pytest.raises(UsageError, match="one of them"):
        config(density=0.5, tau=2)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"density": 0}, "lies in"),
        ({"density": 1.5}, "lies in"),
        ({"density": "many"}, "--density"),
        ({"epochs": 0}, "--epochs"),
        ({"seed": -1}, "--seed"),
        ({"milestones": (0.8, 0.4)}, "increasing"),
        ({"batchsize": 3}, "did you mean 'batch_size'"),
        ({"stream": "cifar1"}, "did you mean 'cifar10'"),
        ({"strategy": "app"}, "did you mean 'APP'"),
        ({"score": "snup"}, "did you mean 'snip'"),
        ({"model": "resnet20"}, "did you mean 'resnet20s'"),
        ({"model": "vgg16_bn", "resolution": 16}, "32 px or more"),
        ({"device": "tpu"}, "unknown device"),
    ],
)
def test_bad_options_are_named_in_one_line(options, message):
    with pytest.raises(UsageError) as caught:
        config(**options)
    assert message in str(caught.value) and "\n" not in str(caught.value)


def test_a_config_survives_json():
    one = config(seed=3, nested=False)
    assert RunConfig.model_validate_json(one.model_dump_json()) == one


def test_protocol_ignores_strategy_and_seed_and_nothing_that_shapes_results():
    base = config().protocol()
    for same in ({"strategy": "dense"}, {"seed": 5}, {"score": "magnitude"}, {"device": "cpu"}):
        assert config(**same).protocol() == base
    for other in ({"epochs": 6}, {"replay": "none"}, {"lr": 0.2}, {"shots": 50}, {"wait": 2}, {"carry_momentum": True}):
        assert fingerprint(config(**other).protocol()) != fingerprint(base)


def test_variant_holds_the_options_that_the_strategy_uses():
    assert set(config(strategy="dense").variant()) == {"strategy", "strategy_version"}
    assert config(strategy="APP").variant()["nested"] is True
    assert "score" not in config(strategy="APP-reference").variant()


def test_avalanche_strategies_have_their_own_memory():
    assert config(strategy="Naive").protocol()["replay"] == "own"


def test_every_field_becomes_an_option_with_a_description():
    fields = {name: field for group in options_by_group().values() for name, field in group.items()}
    assert fields.keys() == RunConfig.model_fields.keys()
    assert all(field.description for field in fields.values())


def test_a_grid_is_all_combinations_and_repeats_nothing(tmp_path):
    given = {"stream": "synthetic", "strategy": ["dense", "APP"], "score": ["snip", "magnitude"], "seed": [0, 1]}
    runs = expanded(given, profile="demo", data_root=tmp_path)
    # dense reads no score, so its two scores are one run.
    assert len(runs) == 2 + 4


def test_profile_follows_the_images(tmp_path):
    def profile(**options):
        [(name, _)] = expanded({"strategy": "APP", **options}, profile=None, data_root=tmp_path)
        return name

    assert profile(stream="restricted_imagenet_fewshot") == "demo"
    assert profile(stream="cifar10") == "paper"
    assert profile(stream="cifar10", data="synthetic") == "demo"
    (tmp_path / "train").mkdir()
    (tmp_path / "val").mkdir()
    assert profile(stream="restricted_imagenet_fewshot") == "paper"


def test_unknown_profile(tmp_path):
    with pytest.raises(UsageError, match="known are demo, paper"):
        expanded({"stream": "digits", "strategy": "APP"}, profile="quick", data_root=tmp_path)


@pytest.mark.parametrize("text", ["- a\n- b\n", "a: [1", "just words"])
def test_config_files_hold_options(tmp_path, text):
    path = tmp_path / "run.yaml"
    path.write_text(text)
    with pytest.raises(UsageError):
        load_file(path)
    with pytest.raises(UsageError, match="cannot read"):
        load_file(Path(tmp_path / "missing.yaml"))
