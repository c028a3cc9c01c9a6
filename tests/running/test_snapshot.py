"""Snapshots: what a strategy owns, in and out of bytes, and nothing that could run code."""

from __future__ import annotations

import io
import os
import pickle
import subprocess
from collections import Counter
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from benchmark.running.checkpoint import CheckpointFile
from benchmark.running.snapshot import PROTOCOL, Surroundings, Unsaveable, Untrusted, _Restricted, load, save


class Owner(nn.Module):
    """Something with state of its own, and with a function that has no name."""

    def __init__(self, images, factor):
        super().__init__()
        self.images = images
        self.scale = lambda x: factor * x
        self.layer = nn.Linear(3, 2)
        self.memory = {}


@pytest.fixture(autouse=True)
def trusted(monkeypatch):
    """This file is taken for a registered package."""
    from benchmark.running import snapshot

    root = Owner.__module__.partition(".")[0]
    monkeypatch.setattr(snapshot, "_registered_packages", lambda: frozenset({root}))


def built(factor=2.0):
    images = SimpleNamespace(pixels=[1, 2, 3])
    owner = Owner(images, factor)
    return owner, Surroundings(owner, SimpleNamespace(images=images), [])


def test_state_comes_back_and_surroundings_are_those_of_the_process():
    first, surroundings = built()
    first.memory = {"view": first.layer.weight.data[0], "weight": first.layer.weight, "step": 3}
    data = save(first, surroundings)
    fresh, own = built(factor=5.0)
    second = load(data, own, "cpu")
    assert torch.equal(second.layer.weight, first.layer.weight) and second.memory["step"] == 3
    assert second.images is fresh.images and second.scale is fresh.scale and second.scale(1.0) == 5.0
    # What was one tensor still is, and views look at what they looked at.
    assert second.memory["weight"] is second.layer.weight
    second.layer.weight.data[0, 0] = 7.0
    assert second.memory["view"][0] == 7.0


def test_plugins_that_are_left_out_leave_a_gap():
    owner, surroundings = built()
    recorder = SimpleNamespace(file=io.StringIO())
    owner.plugins = [1, recorder, 2]
    surroundings.leave_out([recorder])
    assert load(save(owner, surroundings), built()[1], "cpu").plugins == [1, None, 2]


def test_what_cannot_be_written_down_is_said():
    owner, surroundings = built()
    owner.file = Path(os.devnull).open()  # noqa: SIM115
    with pytest.raises(Unsaveable, match="TextIOWrapper"):
        save(owner, surroundings)
    owner.file.close()
    owner.file = lambda: None  # Not there when the surroundings were numbered.
    with pytest.raises(Unsaveable):
        save(owner, surroundings)


class Hostile:
    """An object whose pickle calls something."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize(
    "call",
    [
        (os.system, "touch {victim}"),
        (subprocess.Popen, ["touch", "{victim}"]),
        (eval, "open('{victim}', 'w')"),
        (exec, "open('{victim}', 'w')"),
        (open, "{victim}", "w"),
        (getattr, torch.Tensor, "__class__"),
        (getattr, torch._C._VariableFunctionsClass, "from_file"),
        (torch.load, "{victim}"),
        (torch.hub.load, "{victim}", "model"),
        (torch.from_file, "{victim}", True, 10),
        (partial, os.system, "touch {victim}"),
        (pickle.loads, b""),
        (__import__, "os"),
    ],
    ids=lambda call: getattr(call[0], "__qualname__", str(call[0])),
)
def test_code_in_a_file_is_refused_and_not_run(tmp_path, call):
    victim = tmp_path / "victim"
    function, *arguments = call
    filled = [one.format(victim=victim) if isinstance(one, str) else one for one in arguments]
    filled = [[part.format(victim=victim) for part in one] if isinstance(one, list) else one for one in filled]
    buffer = io.BytesIO()
    shim = SimpleNamespace(__name__="pickle", Pickler=pickle.Pickler)
    torch.save({"strategy": Hostile(function, *filled)}, buffer, pickle_module=shim, pickle_protocol=PROTOCOL)
    with pytest.raises(Untrusted):
        load(buffer.getvalue(), built()[1], "cpu")
    assert not victim.exists()


@pytest.mark.parametrize(
    ("module", "name"),
    [
        # Guests in trusted modules, which pickle finds by dotted names.
        ("benchmark.engines.processes", "os.system"),
        ("benchmark.recording.provenance", "subprocess.check_output"),
        ("benchmark.running.checkpoint", "shutil.rmtree"),
        ("torch.utils.cpp_extension", "subprocess.Popen"),
        ("torch.multiprocessing", "Process"),
        ("avalanche.benchmarks.datasets.downloadable_dataset", "Path"),
        # Their own functions, and classes that open files.
        ("benchmark.running.checkpoint", "clear_checkpoints"),
        ("torch.package", "PackageImporter"),
        ("torch.hub", "load"),
        ("numpy", "memmap"),
        ("numpy", "fromfile"),
        ("builtins", "eval"),
        ("builtins", "getattr.__call__"),
        ("os", "system"),
    ],
)
def test_only_what_is_listed_can_be_named(module, name):
    class Reader(_Restricted):
        found_outside = built()[1].__getitem__

    reader = Reader(io.BytesIO())
    reader.proto = PROTOCOL
    with pytest.raises(Untrusted):
        reader.find_class(module, name)


@pytest.mark.parametrize("called", [nn.Linear, CheckpointFile, Owner.forward], ids=lambda one: one.__qualname__)
def test_classes_that_can_be_named_are_not_called(called):
    buffer = io.BytesIO()
    shim = SimpleNamespace(__name__="pickle", Pickler=pickle.Pickler)
    torch.save([Hostile(called, 1, 2)], buffer, pickle_module=shim, pickle_protocol=PROTOCOL)
    with pytest.raises(Untrusted):
        load(buffer.getvalue(), built()[1], "cpu")


@pytest.mark.parametrize(
    "call", [(set, range(10**12)), (bytearray, 10**12), (Counter, range(10**12))], ids=lambda call: call[0].__name__
)
def test_a_small_file_makes_nothing_large(call):
    buffer = io.BytesIO()
    shim = SimpleNamespace(__name__="pickle", Pickler=pickle.Pickler)
    torch.save([Hostile(*call)], buffer, pickle_module=shim, pickle_protocol=PROTOCOL)
    with pytest.raises(Untrusted, match="of a number"):
        load(buffer.getvalue(), built()[1], "cpu")


def test_a_program_in_the_file_is_not_loaded():
    buffer = io.BytesIO()
    torch.jit.save(torch.jit.script(nn.Linear(1, 1)), buffer)
    with pytest.raises(Untrusted, match="program"):
        load(buffer.getvalue(), built()[1], "cpu")
