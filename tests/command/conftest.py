"""The real command in a subprocess, with tiny settings and one image cache for all tests."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import commands
import numpy as np
import pytest
from PIL import Image


@pytest.fixture(scope="session")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="session")
def start_command(tmp_path_factory, cache, preloaded):
    """Function: start ``python -m benchmark.run`` in a folder, in the background; see :class:`commands.Running`.

    It is a process of its own, whose libraries were imported before. ``site`` is a folder of installed packages that it
    sees beside those of the environment.
    """

    def start(folder: Path, *arguments: str, site: str = "", **options):
        streams = [tmp_path_factory.mktemp("streams") / name for name in ("stdout", "stderr")]
        own = commands.environment_of(cache, site)
        return preloaded.start(*arguments, folder=folder, streams=streams, environment=own, **options)

    return start


@pytest.fixture
def command(tmp_path, cache, start_command):
    """Function: run ``python -m benchmark.run`` in an empty folder and return what it did.

    The arguments are those of ``start_command``; with ``fresh`` it is a new interpreter, as a user's is.
    """

    def run(*arguments: str, module: str = "benchmark.run", site: str = "", fresh: bool = False):
        if fresh:
            return commands.fresh(module, *arguments, folder=tmp_path, environment=commands.environment_of(cache, site))
        return start_command(tmp_path, *arguments, module=module, site=site).end()

    return run


@pytest.fixture
def called(tmp_path, cache, monkeypatch, capsys):
    """Function: a command in this process, in an empty folder: its exit code, what it printed and what it said."""
    from benchmark.run import main

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ANYTIME_BENCH_CACHE", str(cache))

    def call(*arguments: str, command: Callable[[list[str]], None] = main) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as ended:
            command(list(arguments))
        return (ended.value.code, *capsys.readouterr())

    return call


def write_images(folder: Path, count: int, size: int = 32, seed: int = 0) -> None:
    """``count`` random JPEG files."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng([seed, *folder.name.encode()])
    for number in range(count):
        Image.fromarray(rng.integers(0, 256, (size, size, 3), dtype=np.uint8)).save(folder / f"{number:03d}.JPEG")


@pytest.fixture(scope="session")
def class_folders(tmp_path_factory):
    """A folder of three class folders without a test split."""
    root = tmp_path_factory.mktemp("folders")
    for name in ("ant", "bee", "cow"):
        write_images(root / name, 20)
    return root


@pytest.fixture(scope="session")
def imagenet_tree(tmp_path_factory):
    """train/<wnid> and val/<wnid> with one wnid of each group."""
    from benchmark.streams.sources.restricted_imagenet import GROUPS

    root = tmp_path_factory.mktemp("imagenet")
    for wnid, *_ in GROUPS.values():
        write_images(root / "train" / wnid, 6)
        write_images(root / "val" / wnid, 2)
    return root


@pytest.fixture(scope="session")
def tiny_imagenet_tree(tmp_path_factory):
    """Tiny ImageNet's own layout with one wnid of each group."""
    from benchmark.streams.sources.tiny_restricted_imagenet import GROUPS

    root = tmp_path_factory.mktemp("tiny")
    lines = []
    for wnid, *_ in GROUPS.values():
        write_images(root / "train" / wnid / "images", 6, size=64)
        write_images(root / "val" / "images" / wnid, 2, size=64)
        for path in sorted((root / "val" / "images" / wnid).iterdir()):
            path.rename(root / "val" / "images" / f"{wnid}_{path.name}")
            lines.append(f"{wnid}_{path.name}\t{wnid}\t0\t0\t9\t9")
        (root / "val" / "images" / wnid).rmdir()
    (root / "val" / "val_annotations.txt").write_text("\n".join(lines) + "\n")
    return root
