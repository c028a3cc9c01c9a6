"""Drafts of cache files: room for all of them or a word, and none of a dead process for long."""

from __future__ import annotations

import errno
import multiprocessing
import os
import shutil
import signal
import subprocess

import numpy as np
import pytest

from benchmark.errors import UsageError
from benchmark.streams.loading.images import cached
from benchmark.streams.loading.room import reserve
from leaderboards.drafts import LOCK, PREFIX, clear_dead_drafts, draft_folder

SHAPE = (2, 3, 4, 4)
PIXELS = np.arange(2 * 3 * 16, dtype=np.uint8).reshape(SHAPE)

forked = multiprocessing.get_context("fork")


def build(pixels):
    pixels[:] = PIXELS
    return [3, 4], []


def assert_whole(result):
    images, skipped = result
    np.testing.assert_array_equal(images.pixels, PIXELS)
    assert (images.targets.tolist(), skipped) == ([3, 4], ())


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "cache"


def drafts_in(folder):
    return sorted(path.name for path in folder.glob(f"{PREFIX}*"))


# Room on the disk


def never(pixels):
    raise AssertionError("there is no room to build in")


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EFBIG])
def test_a_disk_without_room_is_found_before_anything_is_built(folder, monkeypatch, code):
    def full(*args):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(UsageError) as refused:
        cached("two", SHAPE, folder, never)
    assert str(folder) in str(refused.value) and os.strerror(code) in str(refused.value)
    assert f"{128 + PIXELS.size:,} bytes" in str(refused.value) and "--cache" in str(refused.value)
    assert list(folder.iterdir()) == []


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 256 KiB."""
    place = tmp_path / "disk"
    place.mkdir()
    try:
        subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(place)], check=True, capture_output=True
        )
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("this user may not mount file systems")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


@pytest.mark.parametrize("fallocate", [True, False])
def test_a_full_disk_is_a_word_and_no_signal(small_disk, monkeypatch, fallocate):
    if not fallocate:
        monkeypatch.delattr(os, "posix_fallocate")
    assert_whole(cached("two", SHAPE, small_disk, build))
    with pytest.raises(UsageError, match=r"No space left on device; it takes 3,072,128 bytes: .*--cache"):
        cached("many", (1000, 3, 32, 32), small_disk, never)
    assert sorted(path.name for path in small_disk.iterdir()) == ["two.json", "two.npy"]
    assert_whole(cached("two", SHAPE, small_disk, never))


def unsupported(*args):
    raise OSError(errno.EOPNOTSUPP, "Operation not supported")


@pytest.mark.parametrize("fallocate", ["as it is", "not supported", "not there"])
def test_what_is_reserved_takes_room_and_keeps_what_was_written(tmp_path, monkeypatch, fallocate):
    if fallocate == "not supported":
        monkeypatch.setattr(os, "posix_fallocate", unsupported)
    elif fallocate == "not there":
        monkeypatch.delattr(os, "posix_fallocate")
    size = 3 * 2**20 + 1
    with (tmp_path / "file").open("wb") as file:
        file.write(b"beginning")
        reserve(file, size)
    about = (tmp_path / "file").stat()
    assert about.st_size == size and about.st_blocks * 512 >= size
    content = (tmp_path / "file").read_bytes()
    assert content == b"beginning".ljust(size, b"\0")


# Whose drafts they are


def killed(pixels):
    pixels[:] = 1
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.parametrize("next_call", ["builds", "reads"])
def test_drafts_of_a_killed_process_are_removed_by_the_next_call(folder, next_call):
    if next_call == "reads":
        cached("two", SHAPE, folder, build)
    process = forked.Process(target=cached, args=("other", SHAPE, folder, killed))
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL and len(drafts_in(folder)) == 1
    assert_whole(cached("two", SHAPE, folder, build if next_call == "builds" else never))
    assert sorted(path.name for path in folder.iterdir()) == ["two.json", "two.npy"]


@pytest.mark.parametrize("content", [[], ["pixels.npy"]])
def test_a_process_that_died_before_it_held_the_lock_leaves_nothing_either(folder, content):
    (folder / f"{PREFIX}abc").mkdir(parents=True)
    for name in content:
        (folder / f"{PREFIX}abc" / name).touch()
    clear_dead_drafts(folder)
    assert list(folder.iterdir()) == []


def test_drafts_of_a_living_process_stay_however_old(folder):
    begun, go_on = forked.Event(), forked.Event()

    def slow(pixels):
        begun.set()
        assert go_on.wait(60)
        return build(pixels)

    process = forked.Process(target=cached, args=("slow", SHAPE, folder, slow))
    process.start()
    assert begun.wait(60)
    [name] = drafts_in(folder)
    for path in (folder / name, *(folder / name).iterdir()):
        os.utime(path, (0, 0))
    assert_whole(cached("two", SHAPE, folder, build))
    assert drafts_in(folder) == [name]
    go_on.set()
    process.join()
    assert process.exitcode == 0 and drafts_in(folder) == []
    assert_whole(cached("slow", SHAPE, folder, never))


def test_a_process_whose_new_folder_is_cleared_at_once_takes_another(folder, monkeypatch):
    """Between making a folder and holding its lock, a process looks dead to others."""
    import leaderboards.drafts as module

    make, made = module.tempfile.mkdtemp, []

    def cleared(**where):
        made.append(make(**where))
        if len(made) == 1:
            clear_dead_drafts(folder)
        return made[-1]

    monkeypatch.setattr(module.tempfile, "mkdtemp", cleared)
    with draft_folder(folder) as drafts:
        assert (str(drafts), len(made)) == (made[1], 2)
        clear_dead_drafts(folder)
        assert drafts.is_dir()
    assert list(folder.iterdir()) == []


def test_where_nothing_can_be_locked_nothing_is_cleared(folder, monkeypatch):
    import leaderboards.drafts as module

    monkeypatch.setattr(module.fcntl, "flock", unsupported)
    (folder / f"{PREFIX}abc").mkdir(parents=True)
    assert_whole(cached("two", SHAPE, folder, build))
    assert drafts_in(folder) == [f"{PREFIX}abc"]


def test_other_folders_and_files_are_left_alone(folder, tmp_path):
    for place in (folder / "mine", folder / "tmpabcdefgh", tmp_path / "elsewhere"):
        place.mkdir(parents=True)
        (place / LOCK).touch()
    (folder / f"{PREFIX}file").touch()
    (folder / f"{PREFIX}link").symlink_to(tmp_path / "elsewhere")
    clear_dead_drafts(folder)
    assert len(list(folder.iterdir())) == 4 and (tmp_path / "elsewhere" / LOCK).exists()


def test_two_processes_that_build_one_cache_at_once_both_have_it_whole(folder):
    together = forked.Barrier(2)

    def beside(pixels):
        together.wait(60)
        result = build(pixels)
        together.wait(60)
        return result

    def work():
        assert_whole(cached("two", SHAPE, folder, beside))

    processes = [forked.Process(target=work) for _ in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0, 0]
    assert sorted(path.name for path in folder.iterdir()) == ["two.json", "two.npy"]
    assert_whole(cached("two", SHAPE, folder, never))


def test_a_folder_that_is_removed_while_it_is_used_is_a_word(folder):
    def removed(pixels):
        shutil.rmtree(folder)
        return build(pixels)

    with pytest.raises(UsageError, match=r"cannot write the image cache .*cache: No such file.*--cache"):
        cached("two", SHAPE, folder, removed)
