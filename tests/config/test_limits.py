"""What a file and a command may hold, and the one line for what is beyond."""

from __future__ import annotations

import os

import pytest

from benchmark.config.files import DEEPEST, LARGEST_FILE, LONGEST_TEXT, MOST_DOCUMENTS, MOST_VALUES, load_file
from benchmark.config.grid import MOST_RUNS, expand
from benchmark.config.profiles import resolve
from benchmark.errors import LONGEST_LINE, LONGEST_VALUE, UsageError, in_one_line, plain, shortened
from leaderboards.text import printable

BOMB = "a0: &a0 [x, x, x]\n" + "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 9))

REFUSED = {
    "aliases": (BOMB, "an alias"),
    "a cycle": ("a: &a [*a]", "an alias"),
    "a merge": ("<<: {a: 1}", "type merge"),
    "a name given twice": ("a: 1\nb: 2\na: 3", "line 3: 'a' is given more than once"),
    "a name given twice further in": ("set: {every: 1, every: 2}", "'every' is given more than once"),
    "a name in two spellings": ("batch-size: 2\nbatch_size: 4", "batch-size and batch_size, which are one option"),
    "a name in two words": ("set: {a: 1}\nsettings: {b: 1}", "set and settings, which are one option"),
    "a list as a name": ("? [a]\n: 1", "where a name should"),
    "depth": ("a: " + "[" * DEEPEST + "]" * DEEPEST, f"more than {DEEPEST} deep"),
    "great depth": ("[" * 100_000, f"more than {DEEPEST} deep"),
    "values": (f"seed: [{'1,' * MOST_VALUES}]", "more than 20,000 names and values"),
    "documents": ("a: 1\n---\n" * (MOST_DOCUMENTS + 1), "more than 1,000 documents"),
    "size": ("#" * (LARGEST_FILE + 1), "larger than 262,144 bytes"),
    "a long text": ("a: " + "x" * (LONGEST_TEXT + 1), "longer than 1,000 characters"),
    "a date": ("a: 2001-01-01", "type timestamp: write a text in quotes"),
    "bytes": ("a: !!binary aGk=", "type binary"),
    "a set": ("a: !!set {b}", "type set"),
    "an object of Python's": ("a: !!python/object/apply:os.getcwd []", "type python/object/apply:os.getcwd"),
    "a number that is none": ("a: 0x_", "'0x_' cannot be read"),
    "a null byte": ("a: \0", "not valid YAML"),
    "an escape sequence": ("a: \x1b[31m", "not valid YAML"),
    "an unclosed list": ("stream: digits\na: [1", "line 2: expected ',' or ']'"),
    "nothing": ("", "must hold options"),
    "nothing but remarks": ("# a: 1", "must hold options"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_options_are_not_made_of_is_refused_in_one_line(tmp_path, case):
    text, message = REFUSED[case]
    file = tmp_path / "run.yaml"
    file.write_text(text)
    with pytest.raises(UsageError) as caught:
        load_file(file)
    line = str(caught.value)
    assert message in line and "run.yaml" in line and line.isprintable() and len(line) <= LONGEST_LINE


def test_what_is_within_the_limits_is_read(tmp_path):
    file = tmp_path / "run.yaml"
    seeds = ", ".join(map(str, range(MOST_RUNS)))
    file.write_text(f"stream: digits\nstrategy: dense\nseed: [{seeds}]\nset: {{no: {'x' * LONGEST_TEXT}, 3: 0.5}}\n")
    [options] = load_file(file)
    assert options["seed"] == list(range(MOST_RUNS)) and options["settings"] == {"no": "x" * LONGEST_TEXT, "3": 0.5}
    file.write_text("a: 1\n---\n" * (MOST_DOCUMENTS - 1) + "a: 1")
    assert len(load_file(file)) == MOST_DOCUMENTS
    file.write_text("a: " + "[" * (DEEPEST - 1) + "1" + "]" * (DEEPEST - 1))
    assert load_file(file)


@pytest.mark.parametrize("code", ["utf-8", "utf-8-sig", "utf-16"])
def test_files_of_any_unicode_are_read(tmp_path, code):
    file = tmp_path / "run.yaml"
    file.write_bytes("a: caf\u00e9".encode(code))
    assert load_file(file) == [{"a": "caf\u00e9"}]
    file.write_bytes("a: caf\u00e9".encode("latin-1"))
    with pytest.raises(UsageError, match="not valid YAML"):
        load_file(file)


def test_what_is_no_file_is_not_read(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path, tmp_path / "pipe", tmp_path / "\0", tmp_path / ("a" * 300), "/dev/zero"):
        with pytest.raises(UsageError, match="cannot read"):
            load_file(tmp_path / path)


def test_a_grid_is_counted_before_it_is_expanded(tmp_path):
    many = [str(n) for n in range(3000)]
    options = {"stream": "digits", "strategy": "dense", "seed": many, "epochs": many, "lr": ["0.1"] * 3}
    with pytest.raises(UsageError, match="make 27,000,000 runs, and a command takes at most 10,000: give fewer"):
        expand(options, profile=None, data_root=tmp_path)
    settings = {"every": many, "until": many, "fraction": many}
    with pytest.raises(UsageError, match="27,000,000,000 runs"):
        expand({"stream": "digits", "strategy": "RigL", "settings": settings}, profile=None, data_root=tmp_path)


@pytest.mark.parametrize(
    "option", ["lr", "momentum", "weight_decay", "lr_decay", "density", "val_fraction", "milestones"]
)
@pytest.mark.parametrize("number", ["nan", "inf", float("-inf"), 10**400])
def test_numbers_are_finite(option, number):
    value = (number,) if option == "milestones" else number
    with pytest.raises(UsageError, match=f"--{option.replace('_', '-')}: "):
        resolve({"stream": "digits", "strategy": "APP", option: value}, profile="demo")


@pytest.mark.parametrize("option", ["epochs", "megabatches", "batch_size", "shots", "buffer_size", "wait", "seed"])
def test_numbers_have_an_end(option):
    for number in (10**30, "9" * 30, "9" * 5000, -1):
        with pytest.raises(UsageError, match=f"--{option.replace('_', '-')}: "):
            resolve({"stream": "digits", "strategy": "APP", option: number}, profile="demo")


@pytest.mark.parametrize("density", [1e308, 1e-320, "nan", 0, -1])
def test_layer_densities_are_of_a_size_that_can_be_added(density):
    options = {"stream": "digits", "strategy": "APP", "scope": "custom", "layer_density": {"conv1": density}}
    with pytest.raises(UsageError, match="--layer-density: "):
        resolve(options, profile="demo")


@pytest.mark.parametrize("number", ["nan", "inf", 1e39, 10**400], ids=["nan", "inf", "large", "huge"])
def test_numbers_fit_into_those_that_networks_are_trained_with(number):
    for options in ({"lr": number}, {"weight_decay": number}, {"strategy": "EWC", "settings": {"ewc_lambda": number}}):
        with pytest.raises(UsageError, match=r"--(lr|weight-decay|set ewc_lambda=.*): "):
            resolve({"stream": "digits", "strategy": "APP", **options}, profile="demo")


def test_settings_that_are_counted_have_an_end():
    with pytest.raises(UsageError, match=r"--set every=.*: a finite number of at most 1e\+09 is needed"):
        resolve({"stream": "digits", "strategy": "RigL", "settings": {"every": 10**30}}, profile="demo")


@pytest.mark.parametrize("structure", ["1:1025", "9" * 5000 + ":4", "1:" + "9" * 30], ids=["larger", "digits", "huge"])
def test_groups_of_weights_have_an_end(structure):
    with pytest.raises(UsageError, match="structure '"):
        resolve({"stream": "digits", "strategy": "APP", "structure": structure}, profile="demo")


LARGE = {
    "text": "a" * 10**6,
    "number": 10**10**5,
    "lists": ["b" * 10**6] * 10**4,
    "invisible": "\n\x1b[31m\u202e\udcff",
    "nest": {"a": {"b": ["c"] * 100}},
}


@pytest.mark.parametrize("value", LARGE.values(), ids=LARGE)
def test_values_are_shown_short_and_visible(value):
    for shown in (shortened(value), plain(value)):
        assert 0 < len(shown) <= LONGEST_VALUE and printable(shown) == shown


def test_short_values_are_shown_as_they_are():
    assert shortened("it's") == '"it\'s"' and shortened(12) == "12" and shortened([1.5, None]) == "[1.5, None]"
    assert plain("a b") == "a b" and plain("a\nb") == "a\\nb"
    assert in_one_line("x" * LONGEST_LINE) == "x" * LONGEST_LINE
    assert in_one_line("start" + "x" * 2000 + "end").startswith("startx") and in_one_line("x" * 2000 + "end").endswith(
        "xend"
    )


@pytest.mark.parametrize(
    "option", ["stream", "strategy", "score", "model", "device", "data", "profile", "structure", "tau"]
)
def test_a_long_value_makes_no_long_line(tmp_path, option):
    options = {"stream": "digits", "strategy": "APP", option: "\u202e" * 10**6}
    profile = options.pop("profile", None)
    with pytest.raises(UsageError) as caught:
        expand(options, profile=profile, data_root=tmp_path)
    assert len(str(caught.value)) <= LONGEST_LINE and str(caught.value).isprintable()
