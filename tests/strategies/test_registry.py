"""Registries: names are listed without importing anything heavy, and one decorator adds one."""

from __future__ import annotations

import re
import subprocess
import sys
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

import strategies
from benchmark.registry import MODELS, STREAMS
from strategies import registry as registry_module
from strategies.registry import (
    DISTRIBUTIONS,
    REPLAYS,
    SCORES,
    STRATEGIES,
    NoTraits,
    Registry,
    RegistryError,
    UnknownName,
)

ALL = [STRATEGIES, SCORES, DISTRIBUTIONS, REPLAYS, STREAMS, MODELS]
KINDS = [registry.kind for registry in ALL]
every_entry = pytest.mark.parametrize(
    ("registry", "name"), [pytest.param(r, name, id=f"{r.kind}-{name}") for r in ALL for name in r.names()]
)


@pytest.fixture
def things(tmp_path, monkeypatch):
    """Function: source of each module -> the registry of a new package with these modules."""

    def make(**files):
        package = f"things_{tmp_path.name.replace('-', '_')}"
        folder = tmp_path / package
        folder.mkdir()
        (folder / "__init__.py").write_text(
            "from dataclasses import dataclass\n"
            "from strategies.registry import Registry\n"
            "@dataclass(frozen=True)\n"
            "class Traits:\n"
            "    colour: str = 'grey'\n"
            "    size: int = 1\n"
            f"THINGS = Registry('thing', 'THINGS', {package!r}, 'nobody.things', Traits)\n"
        )
        for name, body in files.items():
            (folder / f"{name}.py").write_text(f"from {package} import THINGS\n{body}")
        monkeypatch.syspath_prepend(str(tmp_path))
        return __import__(package).THINGS

    return make


def thing(name, function="thing", doc='"""A thing.\n\n    More about it."""', traits=""):
    return f"\n@THINGS.register({name!r}{traits})\ndef {function}():\n    {doc}\n    return {name!r}\n"


def test_listing_imports_nothing_heavy():
    code = (
        "import sys\n"
        "from benchmark.registry import MODELS, STREAMS\n"
        "from strategies.registry import DISTRIBUTIONS, REPLAYS, SCORES, STRATEGIES\n"
        "for registry in (MODELS, STREAMS, DISTRIBUTIONS, REPLAYS, SCORES, STRATEGIES):\n"
        "    assert registry.names() and all(registry.descriptions().values())\n"
        "    registry.check(registry.names()[0])\n"
        "print(sorted({'torch', 'torchvision', 'avalanche', 'numpy', 'sklearn'} & set(sys.modules)))\n"
    )
    root = Path(strategies.__file__).parent.parent
    answer = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == "[]"


@every_entry
def test_every_listed_name_loads(registry, name):
    entry = registry.load(name)
    assert entry.name == name
    assert callable(entry.target)
    assert entry.version >= 1
    assert entry.target.__doc__.strip().split("\n")[0] == registry.descriptions()[name]


@pytest.mark.parametrize("registry", ALL, ids=KINDS)
def test_names_are_sorted_without_regard_to_case(registry):
    assert registry.names() == sorted(registry.names(), key=str.lower)
    assert list(registry.descriptions()) == registry.names()


@pytest.mark.parametrize(
    ("registry", "typed", "meant"),
    [
        (STRATEGIES, "app", "APP"),
        (STRATEGIES, "densse", "dense"),
        (STRATEGIES, "APP-refrence", "APP-reference"),
        (SCORES, "SNIP", "snip"),
        (REPLAYS, "bufer", "buffer"),
        (STREAMS, "cifar-10", "cifar10"),
    ],
)
def test_an_unknown_name_suggests_the_nearest(registry, typed, meant):
    for ask in (registry.check, registry.load):
        with pytest.raises(UnknownName, match=f"unknown {registry.kind} '{typed}': did you mean '{meant}'"):
            ask(typed)


def test_a_name_like_no_other_is_answered_with_all():
    with pytest.raises(UnknownName) as caught:
        SCORES.check("qqqqqqqq")
    assert all(name in str(caught.value) for name in SCORES.names())


def test_a_known_name_checks_as_itself():
    assert [SCORES.check(name) for name in SCORES.names()] == SCORES.names()


def test_one_file_with_one_decorator_adds_an_entry(things):
    registry = things(one=thing("first"), two=thing("second", traits=", version=3, colour='red'"))
    assert registry.descriptions() == {"first": "A thing.", "second": "A thing."}
    entry = registry.load("second")
    assert (entry.target(), entry.version, entry.traits.colour, entry.traits.size) == ("second", 3, "red", 1)
    assert registry.load("first").traits.colour == "grey"


def test_listing_runs_no_file_and_loading_runs_one(things):
    registry = things(good=thing("good"), bad="raise RuntimeError('imported')\n" + thing("bad"))
    assert registry.names() == ["bad", "good"]
    assert registry.load("good").target() == "good"
    with pytest.raises(
        RegistryError, match=r"the thing 'bad' cannot be used: importing .*\.bad failed \(RuntimeError: im"
    ):
        registry.load("bad")


def test_an_entry_that_cannot_be_imported_says_why_in_one_line(things):
    registry = things(bad="raise KeyError('first\\nsecond')\n" + thing("bad"))
    with pytest.raises(RegistryError) as caught:
        registry.load("bad")
    assert "KeyError" in str(caught.value) and "\n" not in str(caught.value)
    assert isinstance(caught.value.__cause__, KeyError)


def test_registering_a_name_twice_raises(things):
    registry = things()
    registry.register("twin")(Registry)
    with pytest.raises(ValueError, match="thing 'twin' is registered twice"):
        registry.register("twin")(Registry)


def test_a_duplicate_in_one_file_raises(things):
    registry = things(one=thing("twin") + thing("twin", "other"))
    with pytest.raises(ValueError, match="'twin'"):
        registry.load("twin")


def test_a_duplicate_in_two_files_raises(things):
    """Only one of the two files is ever imported: the listing itself has to see it."""
    registry = things(one=thing("twin"), two=thing("twin", "other"))
    with pytest.raises(ValueError, match="twin"):
        registry.load("twin")


@pytest.mark.parametrize("doc", ["", '"""  """'])
def test_an_entry_without_a_docstring_raises(things, doc):
    registry = things(one=thing("silent", doc=doc))
    with pytest.raises(ValueError, match="thing 'silent' needs a docstring"):
        registry.load("silent")


def test_an_installed_package_adds_entries_without_a_fork(things, monkeypatch):
    registry = things(own=thing("own"), extra=thing("theirs").replace("@THINGS.register('theirs')", "REGISTER"))
    package = registry.package
    module = Path(__import__(package).__file__).parent / "extra.py"
    module.write_text(f"from {package} import THINGS as T\n@T.register('theirs')\ndef theirs():\n    'Theirs.'\n")
    point = EntryPoint("theirs", f"{package}.extra:theirs", "nobody.things")
    monkeypatch.setattr(registry_module, "entry_points", lambda group: [point] if group == "nobody.things" else [])
    assert registry.names() == ["own", "theirs"]
    assert registry.load("theirs").target.__doc__ == "Theirs."


def test_an_installed_package_cannot_replace_an_entry(things, monkeypatch):
    registry = things(own=thing("own"))
    point = EntryPoint("own", "somewhere.else:own", "nobody.things")
    monkeypatch.setattr(registry_module, "entry_points", lambda **_: [point])
    with pytest.raises(ValueError, match="repeats the thing 'own'"):
        registry.names()


def test_a_registry_of_no_package_says_so():
    with pytest.raises(ModuleNotFoundError, match="no package 'no_such_package'"):
        Registry("thing", "THINGS", "no_such_package", "nobody.things", NoTraits).names()


@pytest.mark.parametrize(
    ("traits", "said"),
    [
        (", color='red'", "unknown trait 'color': did you mean 'colour'?"),
        (", qqqq=1", "unknown trait 'qqqq': known: colour, size"),
    ],
)
def test_a_misspelt_trait_is_refused(things, traits, said):
    registry = things(one=thing("odd", traits=traits))
    with pytest.raises(RegistryError, match=f"thing 'odd' has an {re.escape(said)}"):
        registry.load("odd")


@pytest.mark.parametrize(
    ("registry", "traits", "said"),
    [
        (SCORES, {"round": 10, "samples": 1}, "did you mean 'rounds'"),
        (STRATEGIES, {}, "needs the trait 'options'"),
        (STRATEGIES, {"options": ("score", "scop")}, "unknown option 'scop': did you mean 'scope'"),
        (STRATEGIES, {"options": ("score",), "later": {"control": "none"}}, "'control', which is none of its options"),
        (STREAMS, {"resolution": 8}, "needs the trait 'megabatches'"),
        (STREAMS, {"megabatches": ()}, "numbers from 1 on"),
        (STREAMS, {"megabatches": 5}, "numbers from 1 on"),
        (STREAMS, {"megabatches": (5,), "source": "imagez"}, "'source': input should be 'images' or 'synthetic'"),
        (SCORES, {"rounds": "ten"}, "trait 'rounds': input should be a valid integer, not 'ten'"),
        (STRATEGIES, {"options": ("density",), "defaults": {"densty": 1}}, "did you mean 'density'"),
        (DISTRIBUTIONS, {"options": ("layer_densty",)}, "did you mean 'layer_density'"),
    ],
)
def test_traits_are_checked_when_an_entry_registers(registry, traits, said):
    with pytest.raises(RegistryError, match=f"{registry.kind} 'x'.*{said}"):
        registry.register("x", **traits)


def test_a_module_that_does_not_register_what_its_package_announces_is_one_line(things, monkeypatch):
    registry = things(own=thing("own"))
    module = Path(__import__(registry.package).__file__).parent / "extra.py"
    module.write_text("def theirs():\n    'Theirs.'\n")
    point = EntryPoint("theirs", f"{registry.package}.extra:theirs", "nobody.things")
    monkeypatch.setattr(registry_module, "entry_points", lambda **_: [point])
    assert registry.names() == ["own", "theirs"], "others are not disturbed"
    with pytest.raises(RegistryError, match="does not register the thing 'theirs'"):
        registry.load("theirs")
