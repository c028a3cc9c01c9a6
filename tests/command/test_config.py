from __future__ import annotations

from pathlib import Path

import pytest

from benchmark.command.options import collect_given
from benchmark.config.fields import by_group, earlier_values, role_of, with_role
from benchmark.config.files import load_file
from benchmark.config.grid import expand
from benchmark.config.merge import merge
from benchmark.config.profiles import resolve
from benchmark.config.run_config import RunConfig
from benchmark.errors import UsageError
from leaderboards.numbers.names import variant_name
from leaderboards.record import fingerprint


def config(**options):
    return resolve({"stream": "synthetic", "strategy": "APP", **options}, profile="demo")


def test_paper_profile_is_the_papers_recipe():
    paper = resolve({"stream": "restricted_imagenet_fewshot", "strategy": "APP"}, profile="paper")
    assert (paper.epochs, paper.lr, paper.momentum, paper.weight_decay) == (50, 0.1, 0.9, 1e-4)
    assert (paper.milestones, paper.lr_decay, paper.batch_size) == ((0.4, 0.8), 0.1, 64)
    assert (paper.megabatches, paper.shots, paper.density, paper.replay) == (10, 540, 0.8**4.5, "full")
    assert (paper.optimizer, paper.lr_schedule) == ("sgd", "multistep")


def test_the_longest_few_shot_stream_has_batches_of_32():
    long = resolve({"stream": "restricted_imagenet_fewshot", "strategy": "APP", "megabatches": 120}, profile="paper")
    assert long.batch_size == 32


def test_few_shot_streams_are_stratified_and_others_are_not():
    assert config().stratified
    assert not resolve({"stream": "cifar10", "strategy": "APP"}, profile="paper").stratified


def test_density_and_tau_say_the_same():
    assert config(tau=3) == config(density=0.8**3)
    assert config(tau="4.5") == config()
    assert config(density=1).density == 1
    with pytest.raises(UsageError, match="one of them"):
        config(density=0.5, tau=2)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"density": 0}, "--density: Input should be greater than 0"),
        ({"density": 1.5}, "--density: Input should be less than or equal to 1"),
        ({"density": "many"}, "--density"),
        ({"tau": 0}, "--tau: the final density is 0.8 ** tau"),
        ({"tau": "nan"}, "--tau: the final density is 0.8 ** tau"),
        ({"tau": "many"}, "--tau: a number is needed"),
        ({"shots": 0}, "or 'all'"),
        ({"optimizer": "adam"}, "'sgd' or 'adamw'"),
        ({"lr_schedule": "step"}, "--lr-schedule"),
        ({"ties": "best"}, "--ties"),
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
        ({"schedule": "cubical"}, "did you mean 'cubic'"),
        ({"structure": "3:2"}, "0 < N <= M"),
        ({"structure": "n:m"}, "as in 2:4"),
        ({"structure": "filter"}, "did you mean 'filters'"),
        ({"structure": "2:4", "density": 0.3}, "ends at density 0.5"),
        ({"structure": "2:4", "tau": 4.5}, "ends at density 0.5"),
        ({"scope": "custom"}, "--layer-density"),
        ({"layer_density": {"conv1": 0.5}}, "--scope custom"),
        ({"scope": "custom", "layer_density": {"conv1": 0}}, "positive number"),
        ({"megabatches": "many"}, "--megabatches"),
        ({"settings": {"every": 5}}, "APP has no setting 'every'"),
        ({"strategy": "IMP", "settings": {"rewind_to": "early"}}, "rewind_to=early"),
        ({"strategy": "IMP", "settings": {"rewind_to": -1}}, "greater than or equal to 0"),
        ({"strategy": "EWC", "settings": {"ewc_lambda": "inf"}}, "a finite number"),
        ({"megabatches": "many"}, "or 'unknown'"),
        ({"megabatches": "unknown", "known_length": True}, "contradict each other"),
        ({"structure": 124}, "write it in quotes"),
    ],
)
def test_bad_options_are_named_in_one_line(options, message):
    with pytest.raises(UsageError) as caught:
        config(**options)
    assert message in str(caught.value) and "\n" not in str(caught.value)


def test_a_config_survives_json():
    for one in (config(seed=3, nested=False), config(strategy="IMP", settings={"rewind_to": "2"})):
        assert RunConfig.model_validate_json(one.model_dump_json()) == one


def test_n_of_m_says_the_density():
    two_of_four = config(structure="2:4")
    assert two_of_four.density == pytest.approx(0.5)
    assert config(structure="2:4", density=0.5) == two_of_four
    assert "scope" not in two_of_four.variant() and two_of_four.variant()["structure"] == "2:4"
    assert config(strategy="RigL", structure="2:4").variant() == config(strategy="RigL").variant()


def test_a_stream_of_unknown_length_is_cut_as_usual_and_the_learner_is_not_told():
    unknown = config(megabatches="unknown")
    assert unknown.megabatches == config().megabatches and not unknown.known_length
    assert unknown.protocol() == config().protocol() and unknown.variant() != config().variant()
    assert not config(megabatches=7, known_length=False).known_length


def test_settings_are_complete_typed_and_part_of_the_variant():
    assert config(strategy="IMP").settings == {"rewind_to": 0}
    later = config(strategy="IMP", settings={"rewind_to": "2"})
    assert later.settings == {"rewind_to": 2} and later.variant()["rewind_to"] == 2
    assert later.protocol() == config(strategy="IMP").protocol()


def test_a_strategys_own_defaults_hold_unless_something_else_is_given():
    assert config(strategy="static-random").scope == "erk"
    assert config(strategy="static-random", scope="local").scope == "local"


def test_layer_densities_are_options_of_the_custom_scope_alone():
    custom = config(scope="custom", layer_density={"conv1": "0.5"})
    assert custom.variant()["layer_density"] == {"conv1": 0.5}
    assert "layer_density" not in config().variant()


@pytest.mark.parametrize(
    ("options", "differing"),
    [
        ({"strategy": "dense"}, {}),
        ({"strategy": "IMP"}, {}),
        ({"strategy": "IMP", "settings": {"rewind_to": 3}, "density": 0.1}, {"density": 0.1, "rewind_to": 3}),
        ({"strategy": "static-random", "scope": "global"}, {"scope": "global"}),
        ({"strategy": "EWC", "schedule": "exponent"}, {"schedule": "exponent"}),
        ({"strategy": "Replay", "buffer_size": 20}, {"buffer_size": 20}),
        ({"strategy": "EWC", "schedule": "cubic", "score": "force"}, {"schedule": "cubic", "score": "force"}),
        ({"structure": "2:4"}, {"structure": "2:4"}),
        ({"scope": "custom", "layer_density": {"0": 2.0}}, {"scope": "custom", "layer_density": {"0": 2.0}}),
        ({"megabatches": "unknown"}, {"known_length": False}),
    ],
)
def test_the_default_variant_is_the_strategy_as_it_comes(options, differing):
    run = config(**options)
    usual = run.default_variant()
    assert usual.keys() == run.variant().keys()
    assert {name: value for name, value in run.variant().items() if usual[name] != value} == differing


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


def test_an_option_that_came_later_changes_no_run_that_does_not_use_it():
    """Records of APP-reference are older than its controls."""
    plain, shuffled = config(strategy="APP-reference"), config(strategy="APP-reference", control="shuffle")
    assert "control" not in plain.variant() and shuffled.variant()["control"] == "shuffle"
    assert plain.variant() == {name: value for name, value in shuffled.variant().items() if name != "control"}
    assert variant_name(shuffled.variant(), None, shuffled.default_variant()) == "APP-reference (shuffle)"


def test_avalanche_strategies_have_their_own_memory():
    assert config(strategy="Naive").protocol()["replay"] == "own"


def test_every_field_becomes_an_option_with_a_description():
    fields = {name: field for group in by_group(RunConfig).values() for name, field in group.items()}
    assert fields.keys() == RunConfig.model_fields.keys()
    assert all(field.description for field in fields.values())


def test_a_grid_is_all_combinations_and_repeats_nothing(tmp_path):
    options = {"stream": "synthetic", "strategy": ["dense", "APP"], "score": ["snip", "magnitude"], "seed": [0, 1]}
    runs = expand(options, profile="demo", data_root=tmp_path)
    # dense reads no score, so its two scores are one run.
    assert len(runs) == 2 + 4


def test_settings_make_a_grid_for_the_strategies_that_have_them(tmp_path):
    options = {"stream": "synthetic", "strategy": ["dense", "IMP"], "settings": {"rewind_to": ["0", "1"]}}
    runs = [run.config for run in expand(options, profile="demo", data_root=tmp_path)]
    assert [(run.strategy, run.settings.get("rewind_to")) for run in runs] == [("dense", None), ("IMP", 0), ("IMP", 1)]
    with pytest.raises(UsageError, match="no strategy of this run has a setting 'evry': dense has none; IMP has rew"):
        expand({**options, "settings": {"evry": 1}}, profile="demo", data_root=tmp_path)
    with pytest.raises(UsageError, match="one 'name: value' a line"):
        expand({**options, "settings": 3}, profile="demo", data_root=tmp_path)


def test_pairs_on_the_command_line():
    assert collect_given({"settings": ("a=1", "b=x=y", "a=2"), "layer_density": ("conv1=0.5",), "seed": (1,)}) == {
        "settings": {"a": ["1", "2"], "b": "x=y"},
        "layer_density": {"conv1": "0.5"},
        "seed": 1,
    }
    with pytest.raises(UsageError, match="--layer-density conv1 is given more than once"):
        collect_given({"layer_density": ("conv1=1", "conv1=2")})
    for wrong in ("a", "=1", "a="):
        with pytest.raises(UsageError, match="--set takes NAME=VALUE"):
            collect_given({"settings": (wrong,)})


def test_profile_follows_the_images(tmp_path):
    def profile(**options):
        [run] = expand({"strategy": "APP", **options}, profile=None, data_root=tmp_path)
        return run.profile

    assert profile(stream="restricted_imagenet_fewshot") == "demo"
    assert profile(stream="cifar10") == "paper"
    assert profile(stream="cifar10", data="synthetic") == "demo"
    assert profile(stream="digits") == "demo", "a stream may name its own"
    (tmp_path / "train").mkdir()
    (tmp_path / "val").mkdir()
    assert profile(stream="restricted_imagenet_fewshot") == "paper"


def test_unknown_profile(tmp_path):
    with pytest.raises(UsageError, match="known are demo, paper"):
        expand({"stream": "digits", "strategy": "APP"}, profile="quick", data_root=tmp_path)


def test_scores_that_look_at_no_sample_have_no_sample_size():
    for score in ("magnitude", "random", "l2", "bn_scale", "synflow"):
        assert "score_fraction" not in config(score=score).variant()
    assert "score_fraction" in config(score="grasp").variant()


def test_layers_of_a_plain_sequence_are_numbers_in_yaml():
    assert config(model="cnn", scope="custom", layer_density={3: 0.5}).layer_density == {"3": 0.5}


def test_flags_win_over_the_file_and_take_its_other_words_along():
    document = {"tau": 3, "scope": "custom", "layer_density": {"a": 1, "b": 2}, "settings": {"every": 7}}
    assert merge(document, {"density": 0.5}).keys() == document.keys() - {"tau"} | {"density"}
    joined = merge({**document, "known_length": True}, {"settings": {"until": 1}, "megabatches": "unknown"})
    assert joined["settings"] == {"every": 7, "until": 1} and "known_length" not in joined
    assert "layer_density" not in merge(document, {"scope": "global"})
    assert merge(document, {"layer_density": {"b": 3}})["layer_density"] == {"a": 1, "b": 3}
    assert "tau" not in merge(document, {"structure": "2:4"})
    assert merge(document, {"structure": "filters"})["tau"] == 3


@pytest.mark.parametrize("text", ["- a\n- b\n", "a: [1", "just words"])
def test_config_files_hold_options(tmp_path, text):
    path = tmp_path / "run.yaml"
    path.write_text(text)
    with pytest.raises(UsageError):
        load_file(path)
    with pytest.raises(UsageError, match="cannot read"):
        load_file(Path(tmp_path / "missing.yaml"))


def test_every_field_has_a_role_and_the_identity_is_made_of_the_roles():
    assert {role_of(field) for field in RunConfig.model_fields.values()} == {"protocol", "variant", "seed", "execution"}
    assert with_role(RunConfig, "seed") == ["seed"]
    assert set(with_role(RunConfig, "execution")) == {"skip_corrupt", "max_pixels", "compile", "device"}
    identity = config(seed=3).identity("f" * 16)
    assert identity.protocol.keys() - {"stream_version", "model_version", "protocol_version"} < set(
        with_role(RunConfig, "protocol")
    )
    assert (identity.seed, identity.data_fingerprint) == (3, "f" * 16)


def test_the_identity_changes_with_what_shapes_a_result_and_with_nothing_else():
    base = config().identity("a")
    for same in (
        {"device": "cpu"},
        {"compile": True},
        {"skip_corrupt": True},
        {"max_pixels": 9},
        {"buffer_size": 7},
        {"tau": 4.5},
    ):
        assert config(**same).identity("a").key == base.key
    for other in ({"seed": 1}, {"score": "magnitude"}, {"epochs": 3}, {"strategy": "dense"}, {"ties": "first"}):
        assert config(**other).identity("a").key != base.key
    assert config().identity("b").key != base.key


@pytest.mark.parametrize("written", ["2:4", "02:04", " 2 : 4", "\uff12:\uff14"])
def test_one_structure_is_written_in_many_ways_and_is_one_run(written):
    assert config(structure=written) == config(structure="2:4")


def test_options_that_are_not_read_make_no_further_run(tmp_path):
    first, second = ({"stream": "digits", "strategy": "dense", "density": density} for density in (0.1, 0.2))
    runs = [run for options in (first, second) for run in expand(options, profile=None, data_root=tmp_path)]
    assert runs[0].config.identity() == runs[1].config.identity()


def test_what_other_fields_make_meaningless_is_not_in_the_protocol():
    assert config(optimizer="adamw", momentum=0.5).protocol() == config(optimizer="adamw").protocol()
    assert config(lr_schedule="cosine", lr_decay=0.5).protocol() == config(lr_schedule="cosine").protocol()
    assert config(momentum=0.5).protocol() != config().protocol() != config(lr_decay=0.5).protocol()


def test_fields_of_the_protocol_that_came_later_say_what_was_before():
    assert earlier_values(RunConfig) == {
        "ties": "first", "optimizer": "sgd", "lr_schedule": "multistep", "precision": "fp32"
    }  # fmt: skip


def test_all_shots_unsets_what_a_profile_says(tmp_path):
    assert config().shots == 108
    assert config(shots="all", test_shots="all").shots is None
    options = {"stream": "synthetic", "strategy": "dense", "shots": ["all", "5"]}
    assert [run.config.shots for run in expand(options, profile="demo", data_root=tmp_path)] == [None, 5]
