"""What it costs to be able to go on."""

from __future__ import annotations

from time import perf_counter

import pytest

from benchmark.config.profiles import resolve
from benchmark.recording.store import Store
from benchmark.running.keeper import Keeper, Keeping
from benchmark.running.prepare import prepare
from benchmark.running.run import run

pytestmark = pytest.mark.speed

OPTIONS = {
    "the demo's size": {"stream": "synthetic", "model": "resnet20s", "megabatches": 10, "shots": 108},
    "resnet18": {"stream": "synthetic", "model": "resnet18", "megabatches": 3, "shots": 40, "epochs": 3},
    "seconds": {"stream": "digits", "model": "cnn", "megabatches": 10},
}


@pytest.mark.parametrize("size", OPTIONS)
def test_share_and_size_of_checkpoints(size, device, tmp_path, monkeypatch, report):
    spent, sizes = [], []
    save = Keeper.save

    def timed(keeper, strategy):
        start = perf_counter()
        save(keeper, strategy)
        spent.append(perf_counter() - start)
        state = sum(tensor.numel() * tensor.element_size() for tensor in strategy.model.state_dict().values())
        sizes.append(keeper.file.path.stat().st_size / state)

    monkeypatch.setattr(Keeper, "save", timed)
    config = resolve({"strategy": "APP", "device": device, **OPTIONS[size]}, profile="demo")
    prepared = prepare(config, data_root=tmp_path, cache=tmp_path)
    store = Store(None, tmp_path, "speed")
    start = perf_counter()
    run(prepared, store=store, keeping=Keeping(tmp_path / "checkpoints"))
    share = 100 * sum(spent) / (perf_counter() - start)
    note = f"{len(spent)} times in {config.megabatches} megabatches, at most {max(sizes):.1f} times the model's size"
    report(
        f"{config.model} on {config.stream}: checkpoints, share of a run",
        share,
        "<= 1",
        device=device,
        unit=" %",
        note=note,
    )
