"""Whatever stands in a checkpoint, the run goes on, starts anew, or one line says why not."""

from __future__ import annotations

import io
import zipfile
from collections import Counter

import pytest
import torch
from avalanche.training.determinism.rng_manager import RNGManager
from hypothesis import example, given
from hypothesis import strategies as st
from soak import cases

from benchmark.config.profiles import resolve
from benchmark.errors import LONGEST_LINE, UsageError
from benchmark.running.build import build_strategy, make_evaluator
from benchmark.running.checkpoint import CheckpointFile
from benchmark.running.interruption import Interruption
from benchmark.running.keeper import Keeper
from benchmark.running.prepare import prepare
from benchmark.running.snapshot import Surroundings
from benchmark.running.train import train
from benchmark.streams.build import build_stream
from leaderboards.text import printable

OPTIONS = {
    **{"stream": "digits", "strategy": "APP", "model": "mlp", "megabatches": 2, "epochs": 1, "shots": 10},
    "test_shots": 5,
}

ABOUT = {"identity": "this", "name": "a run", "code": "c", "device": "cpu", "threads": "1"}


class Points:
    def __init__(self):
        self.emitted = Counter()

    def flush(self):
        pass


class Kept:
    """A run that was saved, and the process that goes on with it."""

    def __init__(self, folder):
        config = resolve(OPTIONS, profile="demo")
        prepared = prepare(config, data_root=folder / "none", cache=folder / "cache")
        stream = build_stream(prepared.config, prepared.data, "cpu")
        self.fresh = build_strategy(prepared.config, stream, "cpu", make_evaluator(None))
        others = [*self.fresh.evaluator.loggers, stream.loader]
        surroundings = Surroundings(self.fresh, stream.scenario, others)
        self.file = CheckpointFile(folder / "kept")
        self.keeper = Keeper(self.file, ABOUT, surroundings, Points(), Interruption())
        train(self.fresh, stream.scenario, 1)
        self.keeper.save(self.fresh)
        self.about, self.state = self.file.read()
        with zipfile.ZipFile(io.BytesIO(self.state)) as parts:
            self.parts = {name: parts.read(name) for name in parts.namelist()}
        self.pickled = next(name for name in self.parts if name.endswith("data.pkl"))

    def zipped(self, pickled):
        """The state with another pickle in it, as sound to PyTorch as the first."""
        whole = io.BytesIO()
        with zipfile.ZipFile(whole, "w") as parts:
            for name, content in self.parts.items():
                parts.writestr(name, pickled if name == self.pickled else content)
        return whole.getvalue()


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patched:
        # What is made of a file is not to disturb the tests after it.
        patched.setattr(RNGManager, "__setstate__", lambda _: None)
        yield Kept(tmp_path_factory.mktemp("kept"))


places = st.floats(0, 1, exclude_max=True)
edits = st.lists(
    st.one_of(
        st.tuples(st.just("flip"), places, st.integers(1, 255)),
        st.tuples(st.just("write"), places, st.binary(min_size=1, max_size=12)),
        st.tuples(st.just("insert"), places, st.binary(min_size=1, max_size=12)),
        st.tuples(st.just("copy"), places, st.tuples(places, st.integers(1, 60))),
        st.tuples(st.just("remove"), places, st.integers(1, 60)),
        st.tuples(st.just("cut"), places, st.none()),
    ),
    min_size=1,
    max_size=4,
)


def edited(content, changes):
    for how, place, what in changes:
        at = int(place * len(content))
        rest = content[at + 1 :]
        if how == "flip":
            content = content[:at] + bytes(byte ^ what for byte in content[at : at + 1]) + rest
        elif how == "write":
            content = content[:at] + what + content[at + len(what) :]
        elif how == "insert":
            content = content[:at] + what + content[at:]
        elif how == "copy":
            start = int(what[0] * len(content))
            content = content[:at] + content[start : start + what[1]] + content[at:]
        else:
            content = content[:at] + (content[at + what :] if how == "remove" else b"")
    return content


def check(kept, capsys):
    """The law."""
    try:
        restored = kept.keeper.restore(kept.fresh)
    except UsageError as error:
        line = str(error)
        assert str(kept.file) in line or "--device" in line
        assert 0 < len(line) <= LONGEST_LINE and printable(line) == line
    else:
        assert restored is not kept.fresh or "starts anew" in capsys.readouterr().err
    assert torch.get_num_threads() < 1000


@cases(20, each=2)
@given(changes=edits)
def test_damage_that_no_checksum_shows_is_noticed_or_does_not_matter(kept, capsys, changes):
    kept.file.write(kept.about, edited(kept.state, changes))
    check(kept, capsys)


@cases(25)
@given(changes=edits)
@example([("write", 0.0, b"\x96\x00\x00\x00\x00\x07")])  # Room for terabytes was taken.
def test_any_pickle_is_a_run_or_one_line(kept, capsys, changes):
    kept.file.write(kept.about, kept.zipped(edited(kept.parts[kept.pickled], changes)))
    check(kept, capsys)


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8)
    | st.sampled_from(["1", "10000000000", "-1", "cuda:1", "cpu:9", "x" * 3000, "\x1b[2J", 10**400]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=4,
)  # fmt: skip


@cases(20, each=5)
@given(changes=st.dictionaries(st.sampled_from([*ABOUT, "outside", "megabatch", "version.torch"]), values))
def test_any_header_is_a_run_or_one_line(kept, capsys, changes):
    kept.file.write({**kept.about, **changes}, kept.state)
    check(kept, capsys)
