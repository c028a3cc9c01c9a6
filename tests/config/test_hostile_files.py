"""Whatever stands in a file of options or on the command line, it ends in a plan or in one line that says why not."""

from __future__ import annotations

import datetime
from pathlib import Path

import click
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from soak import HANG, cases, no_longer

from benchmark.command.options import collect_given
from benchmark.command.session import Session
from benchmark.config import grid
from benchmark.config.grid import Planned
from benchmark.config.run_config import RunConfig
from benchmark.errors import LONGEST_LINE, UsageError
from benchmark.run import main
from leaderboards.text import printable
from strategies.registry import RegistryError

VALID = [
    "stream: synthetic\nstrategy: APP\n",
    "stream: digits\nstrategy: [dense, APP]\nseed: [0, 1]\ntau: 2\nmodel: mlp\n",
    "stream: digits\nstrategy: IMP\nset: {rewind_to: [0, 1]}\ndensity: 0.3\nprofile: demo\n",
    "stream: synthetic\nstrategy: APP\nscope: custom\nlayer-density:\n  conv1: 0.5\n  3: 2\n",
    "stream: digits\nstrategy: dense\nshots: all\nmilestones: [0.4, 0.8]\nmegabatches: unknown\n",
    "stream: digits\nstrategy: APP\nstructure: '2:4'\n---\nstream: synthetic\nstrategy: RigL\nsettings:\n  every: 5\n",
]

NAMES = [*RunConfig.model_fields, "tau", "set", "profile", "batch-size", "layer-density", "seeds", "__class__", "self"]

LIKELY = {
    "stream": ["digits", "synthetic", "cifar10"],
    "strategy": ["APP", "dense", "IMP", "RigL", "[dense, APP]", "EWC"],
    "data": ["auto", "synthetic"],
    "resolution": ["4", "32", "1024", "1025"],
    "megabatches": ["1", "unknown", "[1, 2]", "1000000000", "1000000001"],
    "shots": ["all", "1", "'5'", "[all, 2]"],
    "replay": ["none", "buffer", "[full, last]"],
    "density": ["1", "0.5", "1e-320", "1.0e-300", "[0.1, 0.2]", "yes"],
    "tau": ["1", "1000", "1e-9", "4.5", "'2'"],
    "scope": ["local", "erk", "custom"],
    "layer_density": ["{a: 1}", "{'*': 1e-6}", "{3: 1e6}", "{'[!a]*': 1e6, no: 1}", "{'é ': 1}"],
    "structure": ["filters", "'2:4'", "2:4", "'1:1024'", "' 02 : 04'", "['1:2', '2:4']"],
    "score_fraction": ["1", "1e-320"],
    "set": ["{}", "{every: 5}", "{rewind_to: [0, 1]}", "{every: 1000000000, until: 0.5}", "~"],
    "model": ["mlp", "cnn", "resnet20s"],
    "epochs": ["1", "1000000000", "'3'", "3.0", "true"],
    "batch_size": ["2", "1000000000"],
    "lr": ["1e308", "1e-320", "'1e-4'", "[0.1, 0.2]", "5"],
    "milestones": ["[]", "[0.5]", "[0.4, 0.4]", "['0.1', 0.9]"],
    "seed": ["0", "4294967295", "[0, 1, 2]", "[[1]]", "0x10", "0o7", "1_0"],
    "device": ["cpu", "cuda:9999", "auto"],
    "profile": ["demo", "paper"],
}
"""What an option may have, and what is just beyond."""

WORDS = [
    *("digits", "synthetic", "APP", "dense", "IMP", "snip", "2:4", "custom", "all", "unknown", "demo", "cpu", "mlp"),
    *("0", "1", "-1", "5", "0.5", "1e-4", "1.5", "0.4,0.8", "yes", "no", "true", "on", "null", "every=5", "conv1=0.5"),
    *("nan", "inf", "-inf", ".nan", ".inf", "1e308", "1e-320", "1.0e+400", "1e999", "1e-999", "-0.0", "4294967296"),
    *("9" * 30, "9" * 400, "9" * 999, "9" * 5000, "0x_", "0b_", "0xffffffffffffffffffff", "1:30", "1_000", "1:2:3:4"),
    *("9" * 5000 + ":4", "1:1000000", "02:04", "\uff12:\uff14", "0:0", "4:2", "n:m", "2:4:8", "-1:4"),
    *("2001-01-01", "2001-01-01T00:00:00Z", "9999-99-99", "!!binary aGk=", "!!set {a}", "!!int x", "!!bool maybe"),
    *("!!float x", "!!int ''", "!!python/name:os.system", "!x y", "!!omap [a: 1]", "!!str 5", "!!null x", "!!map 3"),
    *("''", '""', "'", '"', "*a", "&a x", "&a", "<<: {a: 1}", "=", "- a", "? a", ": a", "| a", ">", "%", "@", "`", "#"),
    *("[]", "{}", "[[]]", "[{}]", "[1, 2]", "[dense, APP]", "{a: 1}", "{every: 5}", "{conv1: .nan}", "[1, [2]]"),
    *("x" * 81, "x" * 1001, "a b " * 300, "a=" + "b" * 2000, "=", "a=", "=a", "a=b=c", "every=nan", "*=1e308"),
    *("\u202e", "\u2066a", "\ufeff", "\u0000", "\u001b[31m", "a\nb", "a\r", "a\tb", "\u2028", "\udcff", "caf\u00e9"),
    *("cuda:", "cuda:99999999", "cuda:\u0663", "cuda:" + "9" * 5000, "/dev/zero", "/", ".", "", "--", "-", "--seed"),
]  # fmt: skip


@pytest.fixture(scope="module", autouse=True)
def few_runs():
    """Large grids are planned like small ones, and take longer."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(grid, "MOST_RUNS", 12)
        yield


def outcome(arguments: list[str], folder: Path) -> list[Planned] | str:
    """What the command plans, or the line in which it says why not."""
    try:
        options = main.make_context("benchmark.run", arguments).params
        config_file, profile, slim = options["config_file"], options["profile"], options["slim"]
        chosen = collect_given({name: options[name] for name in options if name in (*RunConfig.model_fields, "tau")})
        session = Session(options["data_root"], folder, folder, None, "tests")
        return session.plan(chosen, config_file, profile, slim=slim)
    except click.UsageError as error:
        return error.format_message()
    except (UsageError, RegistryError) as error:
        return str(error)


def check(arguments: list[str], folder: Path) -> None:
    """The law; and a plan, written down as a dry run does, is planned again."""
    found = outcome(arguments, folder)
    if isinstance(found, str):
        assert 0 < len(found) <= LONGEST_LINE and printable(found) == found, found
        return
    assert 0 < len(found) <= grid.MOST_RUNS
    first = found[0]
    again = folder / "again.yaml"
    again.write_text(yaml.safe_dump({"profile": first.profile, **first.config.model_dump(mode="json")}))
    [planned] = outcome(["--config", str(again)], folder)
    assert planned.config == first.config


def edits(valid: list[str]) -> st.SearchStrategy[str]:
    """Valid texts, several pieces of which were replaced by others, left out or repeated."""
    piece = st.one_of(
        st.sampled_from(WORDS), st.text(max_size=8), st.sampled_from([": ", "- ", "\n", "  ", "---\n", ","])
    )
    edit = st.tuples(st.floats(0, 1), st.integers(0, 12), piece, st.sampled_from([1, 1, 1, 2, 50]))

    def edited(text, changes):
        for place, length, new, times in changes:
            start = round(place * len(text))
            text = text[:start] + new * times + text[start + length :]
        return text

    return st.builds(edited, st.sampled_from(valid), st.lists(edit, max_size=4))


def pairs() -> st.SearchStrategy[str]:
    """Options with values, most of which they may have."""

    def lines(options, more):
        own = {"stream": "synthetic", "strategy": "APP"} | dict(options) | dict(more)
        return "".join(f"{name}: {value}\n" for name, value in own.items())

    likely = st.sampled_from([(name, value) for name, values in LIKELY.items() for value in values])
    other = st.tuples(st.sampled_from(NAMES), st.sampled_from(WORDS))
    documents = st.lists(
        st.builds(lines, st.lists(likely, max_size=6), st.lists(other, max_size=1)), min_size=1, max_size=2
    )
    return documents.map("---\n".join)


def structures() -> st.SearchStrategy[str]:
    """Any structure of any values, as YAML writes it: with tags, and with aliases where something stands twice."""
    leaves = st.one_of(
        st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=20), st.binary(max_size=5), st.dates(),
        st.datetimes(), st.sampled_from([10**999, datetime.date.max, {1}, set(), (), ("a", "b"), *WORDS]),
    )  # fmt: skip
    name = st.one_of(st.sampled_from(NAMES), leaves.filter(lambda leaf: not isinstance(leaf, set)))
    inner = st.recursive(
        leaves,
        lambda one: st.one_of(
            st.lists(one, max_size=4),
            st.dictionaries(name, one, max_size=4),
            one.map(lambda same: [same, [same, same]]),
        ),
        max_leaves=12,
    )
    run = st.dictionaries(name, inner, max_size=6).map(lambda more: {"stream": "synthetic", "strategy": "APP"} | more)
    return st.builds(
        lambda content, style, unicode: yaml.dump(content, default_flow_style=style, allow_unicode=unicode),
        st.one_of(inner, run),
        st.sampled_from([None, True, False]),
        st.booleans(),
    )


@st.composite
def alias_graphs(draw) -> str:
    """Values that name each other, backwards and forwards; written out they would be of any size."""
    nodes = draw(st.integers(1, 30))
    lines = ["stream: synthetic", "strategy: APP"]
    for node in range(nodes):
        named = draw(st.lists(st.integers(0, nodes), max_size=9))
        lines.append(f"{draw(st.sampled_from(NAMES))}{node}: &a{node} [{', '.join(f'*a{one}' for one in named)}]")
    return "\n".join(draw(st.permutations(lines)))


def nests() -> st.SearchStrategy[str]:
    """Brackets, dashes and names within each other, up to some thousand deep."""
    opening = st.lists(
        st.sampled_from(["[", "{a: ", "- ", "? ", "- - ", "{? ", "[a, ", "!!seq [", "'"]), min_size=1, max_size=4
    )
    return st.builds(
        lambda parts, depth, head: head + "".join(parts) * depth,
        opening,
        st.integers(1, 5000),
        st.sampled_from(["", "set: "]),
    )


TEXTS = st.one_of(edits(VALID), pairs(), pairs(), structures(), alias_graphs(), nests())

CONTENTS = st.one_of(
    TEXTS.map(lambda text: text.encode("utf-8", "surrogatepass")),
    st.builds(
        lambda text, code, cut: text.encode(code, "replace")[cut:],
        TEXTS,
        st.sampled_from(["utf-16", "utf-16-be", "utf-32", "latin-1", "utf-7", "utf-8-sig"]),
        st.integers(0, 3),
    ),
    st.binary(max_size=200),
)


@cases(150)
@given(content=CONTENTS)
def test_any_file_is_a_plan_or_one_line(tmp_path, content):
    file = tmp_path / "run.yaml"
    file.write_bytes(content)
    check(["--config", str(file), "--data-root", str(tmp_path)], tmp_path)


ONCE_FAILED = sorted((Path(__file__).parent / "once_failed").glob("*.yaml"))
"""Files of the kinds that once ended in a traceback, took a minute or gigabytes, or were told in megabytes."""


@pytest.mark.parametrize("file", ONCE_FAILED, ids=lambda file: file.stem)
def test_what_once_failed_is_one_line(tmp_path, file):
    with no_longer(HANG):
        found = outcome(["--config", str(file), "--data-root", str(tmp_path)], tmp_path)
    assert isinstance(found, str) and 0 < len(found) <= LONGEST_LINE and printable(found) == found


FLAGS = sorted({flag for one in main.params for flag in (*one.opts, *one.secondary_opts)} - {"--list"})

LINES = [
    ["--stream", "synthetic", "--strategy", "APP"],
    ["--stream", "digits", "--strategy", "dense", "--strategy", "IMP", "--set", "rewind_to=1", "--seed", "0"],
    ["--stream", "digits", "--strategy", "APP", "--scope", "custom", "--layer-density", "conv1=0.5"],
    ["--stream", "digits", "--strategy", "APP", "--structure", "2:4", "--megabatches", "unknown", "--no-nested"],
    ["--config", "run.yaml", "--profile", "demo"],
    ["--config", "run.yaml", "--device", "cpu", "--tau", "3"],
]


@st.composite
def command_lines(draw) -> list[str]:
    """Valid arguments beside known flags with any values, in any order, some of them cut or left out."""
    arguments = list(draw(st.sampled_from(LINES)))
    value = st.one_of(st.sampled_from(WORDS), st.text(max_size=8))
    for flag in draw(st.lists(st.sampled_from([*FLAGS, *FLAGS, *WORDS]), max_size=4)):
        form = draw(st.sampled_from(["apart", "apart", "joined", "alone", "twice", "cut"]))
        likely = LIKELY.get(flag.removeprefix("--").replace("-", "_"))
        word = draw(st.one_of(st.sampled_from(likely), value) if likely else value)
        new = {
            "apart": [flag, word],
            "joined": [f"{flag}={word}"],
            "alone": [flag],
            "twice": [flag, word, flag, word],
            "cut": [flag[: draw(st.integers(0, len(flag)))], word],
        }[form]
        place = draw(st.integers(0, len(arguments)))
        arguments[place:place] = new
    if draw(st.integers(0, 4)) == 0 and arguments:
        del arguments[draw(st.integers(0, len(arguments) - 1))]
    # No process can be given a null byte.
    return [argument.replace("\0", "") for argument in arguments]


@cases(150)
@given(arguments=command_lines(), content=st.one_of(st.sampled_from(VALID), TEXTS))
def test_any_command_line_is_a_plan_or_one_line(tmp_path, monkeypatch, arguments, content):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "run.yaml").write_bytes(content.encode("utf-8", "surrogatepass"))
    check(arguments, tmp_path)
