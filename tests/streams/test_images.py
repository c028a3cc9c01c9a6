"""Decoding and its cache: every image right or refused by name, and nothing half-written."""

from __future__ import annotations

import dataclasses
import io
import json
import os
import re
import struct
import time
import zlib

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from soak import cases

from benchmark.errors import UsageError
from benchmark.streams.loading import images as loading
from benchmark.streams.loading.dataset import ImageDataset
from benchmark.streams.loading.images import (
    Images,
    StreamData,
    StreamRequest,
    cached,
    channel_statistics,
    decoded,
    list_images,
)


@pytest.fixture
def files(tmp_path, write_image):
    """Four images, each of one grey level that tells its class: files and classes."""
    colours = [(10, 10, 10), (20, 20, 20), (30, 30, 30), (40, 40, 40)]
    return [(write_image(tmp_path / "in" / f"{i}.png", colour), i) for i, colour in enumerate(colours)]


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "cache"


class Builder:
    """Fills a cache with two images, and counts how often it was asked to."""

    def __init__(self):
        self.calls = 0

    def __call__(self, pixels):
        self.calls += 1
        pixels[:] = np.arange(pixels.size, dtype=np.uint8).reshape(pixels.shape)
        return [3, 4], []


def build_two(folder, builder):
    return cached("two", (2, 3, 4, 4), folder, builder)[0]


def assert_two(images):
    expected = np.arange(2 * 3 * 16, dtype=np.uint8).reshape(2, 3, 4, 4)
    np.testing.assert_array_equal(images.pixels, expected)
    assert images.targets.tolist() == [3, 4]


# Decoding


def test_pixels_and_classes_are_those_of_the_files_in_order(files, request_for):
    images, skipped = decoded("few", files, request_for())
    assert images.pixels.shape == (4, 3, 8, 8)
    assert images.pixels.dtype == np.uint8
    assert images.pixels.reshape(4, -1).tolist() == [[level] * 192 for level in (10, 20, 30, 40)]
    assert images.targets.tolist() == [0, 1, 2, 3]
    assert skipped == ()


def test_an_image_is_scaled_by_its_shorter_side_and_cut_to_its_centre(tmp_path, write_image, request_for):
    thirds = np.zeros((16, 48, 3), np.uint8)
    for k in range(3):
        thirds[:, 16 * k : 16 * (k + 1), k] = 200
    wide = write_image(tmp_path / "wide.png", thirds)
    tall = write_image(tmp_path / "tall.png", thirds.transpose(1, 0, 2))
    for pixels in decoded("thirds", [(wide, 0), (tall, 0)], request_for())[0].pixels:
        assert (pixels[:, 2:-2, 2:-2] == np.reshape([0, 200, 0], (3, 1, 1))).all()


def test_an_image_of_the_right_size_is_not_touched(tmp_path, write_image, request_for):
    pixels = np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    path = write_image(tmp_path / "exact.png", pixels)
    np.testing.assert_array_equal(decoded("exact", [(path, 0)], request_for())[0].pixels[0], pixels.transpose(2, 0, 1))


@given(st.integers(1, 40), st.integers(1, 40), st.sampled_from([1, 8, 13]))
def test_every_size_of_image_becomes_the_asked_square(tmp_path_factory, height, width, resolution):
    folder = tmp_path_factory.mktemp("sizes")
    Image.new("RGB", (width, height), (50, 60, 70)).save(folder / "one.png")
    request = StreamRequest(data_root=folder, cache=folder / "cache", resolution=resolution)
    images, _ = decoded("one", [(folder / "one.png", 0)], request)
    assert images.pixels.shape == (1, 3, resolution, resolution)
    assert (images.pixels[0].reshape(3, -1).T == [50, 60, 70]).all()


@pytest.mark.parametrize("format", ["PNG", "JPEG"])
def test_greyscale_is_read_as_three_equal_channels(tmp_path, write_image, request_for, format):
    level = np.full((8, 8), 77, np.uint8)
    path = write_image(tmp_path / "grey.img", level, format=format)
    assert (decoded("grey", [(path, 0)], request_for())[0].pixels == 77).all()


@pytest.mark.parametrize(
    ("mode", "format"), [("RGBA", "PNG"), ("P", "PNG"), ("1", "PNG"), ("LA", "PNG"), ("CMYK", "JPEG")]
)
def test_other_colour_modes_are_refused_by_name(tmp_path, files, write_image, request_for, mode, format):
    odd = write_image(tmp_path / "in" / "odd.png", mode=mode, format=format)
    with pytest.raises(UsageError, match=rf"1 unusable images, the first is .*odd\.png: its mode is {mode}, not RGB"):
        decoded("odd", [*files, (odd, 4)], request_for())


def broken(path):
    path.write_bytes(b"\x89PNG\r\n\x1a\n not an image")
    return path


def test_unreadable_files_are_refused_with_their_number_and_a_way_out(tmp_path, files, request_for):
    bad = [(broken(tmp_path / f"bad{i}.png"), 0) for i in range(2)]
    with pytest.raises(UsageError, match=r"2 unusable images, the first is .*bad0\.png.*--skip-corrupt"):
        decoded("bad", [*files[:1], *bad, *files[1:]], request_for())


def test_skipped_files_are_counted_and_the_others_keep_their_classes(tmp_path, files, request_for, write_image, capsys):
    bad = (broken(tmp_path / "bad.png"), 9)
    odd = (write_image(tmp_path / "odd.png", mode="RGBA"), 9)
    request = request_for(skip_corrupt=True)
    for _ in range(2):
        images, skipped = decoded("some", [files[0], bad, *files[1:], odd], request)
        assert images.targets.tolist() == [0, 1, 2, 3]
        assert images.pixels[:, 0, 0, 0].tolist() == [10, 20, 30, 40]
        assert [line.split(": ")[0] for line in skipped] == [str(bad[0]), str(odd[0])]
        assert "2 unreadable images left out" in capsys.readouterr().err


def test_what_was_skipped_once_is_still_refused_without_leave(tmp_path, files, request_for):
    bad = (broken(tmp_path / "bad.png"), 0)
    decoded("some", [*files, bad], request_for(skip_corrupt=True))
    with pytest.raises(UsageError, match="--skip-corrupt"):
        decoded("some", [*files, bad], request_for())


def test_nothing_readable_at_all_is_refused(tmp_path, request_for):
    with pytest.raises(UsageError, match="none of the 1 images can be read"):
        decoded("none", [(broken(tmp_path / "bad.png"), 0)], request_for(skip_corrupt=True))


@pytest.mark.parametrize("format", ["PNG", "JPEG", "BMP", "WEBP", "GIF", "TIFF", "PPM"])
def test_no_truncated_or_garbled_file_stops_the_decoder(tmp_path, files, request_for, format):
    rng = np.random.default_rng(0)
    stream = io.BytesIO()
    Image.fromarray(rng.integers(0, 256, (16, 16, 3), dtype=np.uint8)).save(stream, format)
    whole = stream.getvalue()
    versions = [whole[:length] for length in np.unique(np.linspace(0, len(whole) - 1, 60).astype(int))]
    for _ in range(60):
        garbled = np.frombuffer(whole, np.uint8).copy()
        garbled[rng.integers(0, min(120, len(garbled)), 3)] = rng.integers(0, 256, 3)
        versions.append(garbled.tobytes())
    damaged = []
    for number, content in enumerate(versions):
        path = tmp_path / f"damaged{number}.img"
        path.write_bytes(content)
        damaged.append((path, 0))
    images, skipped = decoded("damaged", [*damaged, *files], request_for(skip_corrupt=True))
    assert len(images) + len(skipped) == len(damaged) + 4
    assert images.targets[-4:].tolist() == [0, 1, 2, 3]


def png_header(width, height):
    """A PNG that says how large it is and holds hardly any pixels."""

    def chunk(kind, content):
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(b"\0")) + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    ("width", "height", "what"),
    [
        (12_000, 12_000, "it has 144,000,000 pixels, more than 50,000,000 (--max-pixels)"),
        (7_072, 7_072, "it has 50,013,184 pixels, more than 50,000,000 (--max-pixels)"),
        (60_000, 60_000, "it has far more than 50,000,000 pixels (--max-pixels)"),
        (1, 40_000_000, "it has 1 x 40000000 pixels: one side is over 100 times the other"),
        (808, 8, "it has 808 x 8 pixels: one side is over 100 times the other"),
    ],
)
@pytest.mark.filterwarnings("error")
def test_huge_images_are_refused_before_they_are_decoded(
    tmp_path, files, request_for, monkeypatch, width, height, what
):
    huge = tmp_path / "huge.png"
    huge.write_bytes(png_header(width, height))
    with pytest.raises(UsageError, match=rf"first is .*huge\.png: {re.escape(what)}; .*shrink.*--skip-corrupt"):
        decoded("huge", [*files, (huge, 0)], request_for())
    images, skipped = decoded("huge", [*files, (huge, 0)], request_for(skip_corrupt=True))
    assert len(images) == 4 and list(skipped) == [f"{huge}: {what}"]


def test_an_image_may_have_just_as_many_pixels(tmp_path, write_image, request_for, monkeypatch):
    monkeypatch.setattr(loading, "MAX_ELONGATION", 4)
    kept = [(write_image(tmp_path / f"{w}x{h}.png", size=(w, h)), 0) for w, h in ((8, 8), (4, 16), (16, 4))]
    refused = [(write_image(tmp_path / f"{w}x{h}.png", size=(w, h)), 0) for w, h in ((5, 13), (13, 5), (3, 13))]
    images, skipped = decoded("sizes", kept + refused, request_for(skip_corrupt=True, max_pixels=64))
    assert (len(images), len(skipped)) == (3, 3)
    # What is allowed from then on is not what was decoded before.
    images, skipped = decoded("sizes", kept + refused, request_for(skip_corrupt=True, max_pixels=65))
    assert (len(images), len(skipped)) == (5, 1)


@pytest.mark.filterwarnings("error")
def test_larger_images_are_decoded_where_they_are_allowed_and_one_at_a_time(
    tmp_path, write_image, request_for, monkeypatch
):
    monkeypatch.setattr(loading, "MAX_PIXELS", 300)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 200)
    square, under_way, most = loading._square, [], []

    def watched(image, resolution):
        under_way.append(image.size)
        most.append(len(under_way))
        time.sleep(0.01)
        try:
            return square(image, resolution)
        finally:
            under_way.pop()

    monkeypatch.setattr(loading, "_square", watched)
    monkeypatch.setattr(loading.os, "cpu_count", lambda: 4)
    files = [(write_image(tmp_path / f"{k}.png", (k, k, k), size=(30, 20)), 0) for k in range(6)]
    with pytest.raises(UsageError, match=r"6 unusable images, .* 600 pixels, more than 599 \(--max-pixels\)"):
        decoded("large", files, request_for(max_pixels=599))
    images, _ = decoded("large", files, request_for(max_pixels=600))
    assert images.pixels[:, 0, 0, 0].tolist() == list(range(6)) and max(most) == 1 and len(most) == 6
    assert Image.MAX_IMAGE_PIXELS == 200


def test_of_an_animation_the_first_picture_is_read(tmp_path, request_for):
    first, second = (Image.new("L", (8, 8), level) for level in (50, 200))
    for name in ("two.png", "two.tiff"):
        first.save(tmp_path / name, save_all=True, append_images=[second])
        assert (decoded(name, [(tmp_path / name, 0)], request_for())[0].pixels == 50).all()


@pytest.mark.parametrize("kind", ["pipe", "folder", "dangling link", "loop", "gone"])
def test_what_is_no_file_is_refused_and_not_waited_for(tmp_path, files, request_for, kind):
    place = tmp_path / "odd.png"
    if kind == "pipe":
        os.mkfifo(place)
    elif kind == "folder":
        place.mkdir()
    elif kind == "dangling link":
        place.symlink_to(tmp_path / "nowhere")
    elif kind == "loop":
        place.symlink_to(place)
    assert loading._decode(place, 8, 64) == "it is no regular file"
    if kind in ("pipe", "folder"):
        with pytest.raises(UsageError, match=r"odd\.png: it is no regular file"):
            decoded("odd", [*files, (place, 0)], request_for())


@pytest.mark.parametrize("mode", ["I;16", "I", "F"])
def test_deep_images_are_refused_by_their_mode(tmp_path, files, request_for, mode):
    Image.new(mode, (8, 8)).save(tmp_path / "deep.tiff")
    with pytest.raises(UsageError, match=rf"deep\.tiff: its mode is {mode}, not RGB"):
        decoded("deep", [*files, (tmp_path / "deep.tiff", 0)], request_for())


def test_a_palette_with_transparency_is_refused_by_its_mode(tmp_path, files, request_for):
    Image.new("P", (8, 8)).save(tmp_path / "clear.png", transparency=b"\0\x80")
    with pytest.raises(UsageError, match=r"clear\.png: its mode is P, not RGB"):
        decoded("clear", [*files, (tmp_path / "clear.png", 0)], request_for())


@pytest.mark.parametrize(
    ("name", "shown"), [(b"two\nlines.png", r"two\nlines.png"), (b"\x1b[2Jcaf\xe9.png", r"\x1b[2Jcaf\udce9.png")]
)
def test_odd_names_are_shown_in_one_line(tmp_path, files, request_for, capsys, name, shown):
    odd = broken(tmp_path / os.fsdecode(name))
    with pytest.raises(UsageError, match=re.escape(shown)) as refused:
        decoded("odd", [*files, (odd, 0)], request_for())
    assert str(refused.value).isprintable()
    _, skipped = decoded("odd", [*files, (odd, 0)], request_for(skip_corrupt=True))
    said = capsys.readouterr().err
    assert shown in skipped[0] and shown in said and all(line.isprintable() for line in said.splitlines())
    "\n".join(skipped).encode()


def test_too_little_memory_is_not_laid_at_a_file_s_door(files, request_for, monkeypatch):
    def exhausted(*args, **kwargs):
        raise MemoryError

    monkeypatch.setattr(loading, "_square", exhausted)
    with pytest.raises(UsageError, match=r"too little memory to decode .*\.png"):
        decoded("few", files, request_for(skip_corrupt=True))


@pytest.mark.parametrize("error", [struct.error, IndexError, RecursionError, ZeroDivisionError, AttributeError])
def test_whatever_a_decoder_raises_the_file_is_refused_by_name(files, request_for, monkeypatch, error):
    def fail(*args, **kwargs):
        raise error

    monkeypatch.setattr(loading, "_square", fail)
    with pytest.raises(UsageError, match=rf"4 unusable images, the first is .*0\.png: cannot.*{error.__name__}"):
        decoded("few", files, request_for())


# The cache


def test_a_cache_is_built_once_and_then_reused(folder):
    builder = Builder()
    for _ in range(3):
        assert_two(build_two(folder, builder))
    assert builder.calls == 1


def test_decoded_images_are_not_decoded_again(files, request_for, folder):
    first, _ = decoded("few", files, request_for())
    written = {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}
    again, _ = decoded("few", files, request_for())
    np.testing.assert_array_equal(again.pixels, first.pixels)
    assert {path.name: path.stat().st_mtime_ns for path in folder.iterdir()} == written


def test_changed_files_are_decoded_anew(files, request_for, write_image):
    decoded("few", files, request_for())
    path = files[0][0]
    before = path.stat()
    write_image(path, (99, 99, 99))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns + 1))
    assert decoded("few", files, request_for())[0].pixels[0, 0, 0, 0] == 99


def test_each_resolution_has_a_cache_of_its_own(files, request_for):
    for resolution in (8, 4, 8):
        assert decoded("few", files, request_for(resolution=resolution))[0].pixels.shape[-1] == resolution


def flip_last_byte(path):
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


def change_a_class(path):
    about = json.loads(path.read_text())
    about["targets"][0] += 1
    path.write_text(json.dumps(about))


def resigned(**changes):
    """Damage that the checksum does not show: it is made anew over what is wrong."""

    def damage(path):
        about = json.loads(path.read_text())
        about |= changes
        pixels = np.load(path.with_suffix(".npy"))
        about["sha256"] = loading._checksum(pixels, about["targets"], about["skipped"])
        path.write_text(json.dumps(about))

    return damage


def stored_as(make):
    """Other arrays than were stored, with the checksum that belongs to them."""

    def damage(path):
        pixels = make(np.load(path))
        np.save(path, pixels, allow_pickle=True)
        about = json.loads(path.with_suffix(".json").read_text())
        if pixels.dtype != object:
            about["sha256"] = loading._checksum(pixels, about["targets"], about["skipped"])
        path.with_suffix(".json").write_text(json.dumps(about))

    return damage


def with_header(text):
    """A header of that text in front of the pixels."""

    def damage(path):
        header = text.encode().ljust(118) + b"\n"
        path.write_bytes(b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + path.read_bytes()[128:])

    return damage


def replaced_by_a_folder(path):
    path.unlink()
    path.mkdir()
    (path / "something").touch()


def replaced_by_a_pipe(path):
    path.unlink()
    os.mkfifo(path)


DAMAGE = {
    "unfinished header": ("two.npy", with_header("{'descr': '|u1', 'fortran_order': False, 'shape': (")),
    "nested header": ("two.npy", with_header("(" * 110)),
    "signs in a header": ("two.npy", with_header("-" * 100 + "1")),
    "lying header": ("two.npy", with_header("{'descr': '|u1', 'fortran_order': False, 'shape': (9000, 3, 4, 4)}")),
    "negative header": ("two.npy", with_header("{'descr': '|u1', 'fortran_order': False, 'shape': (-2, 3, 4, 4)}")),
    "other type": ("two.npy", stored_as(lambda pixels: pixels.astype(np.int16))),
    "signed type": ("two.npy", stored_as(lambda pixels: pixels.view(np.int8))),
    "other shape": ("two.npy", stored_as(lambda pixels: pixels.reshape(2, 3, 2, 8))),
    "fewer dimensions": ("two.npy", stored_as(lambda pixels: pixels.reshape(2, 48))),
    "more images": ("two.npy", stored_as(lambda pixels: np.concatenate([pixels, pixels]))),
    "Fortran order": ("two.npy", stored_as(np.asfortranarray)),
    "pickled objects": ("two.npy", stored_as(lambda pixels: pixels.astype(object))),
    "longer file": ("two.npy", lambda path: path.write_bytes(path.read_bytes() + b"more")),
    "folder of pixels": ("two.npy", replaced_by_a_folder),
    "pipe of pixels": ("two.npy", replaced_by_a_pipe),
    "folder of descriptions": ("two.json", replaced_by_a_folder),
    "pipe of descriptions": ("two.json", replaced_by_a_pipe),
    "nested description": ("two.json", lambda path: path.write_text("[" * 100_000)),
    "nested in parts": ("two.json", lambda path: path.write_text('{"targets": ' + "[" * 9000 + "]" * 9000 + "}")),
    "list for a description": ("two.json", lambda path: path.write_text("[1, 2]")),
    "text for a description": ("two.json", lambda path: path.write_text('"targets"')),
    "number of many digits": ("two.json", lambda path: path.write_text('{"targets": [' + "1" * 5000 + "]}")),
    "texts for classes": ("two.json", resigned(targets=["3", "4"])),
    "text of classes": ("two.json", resigned(targets="34")),
    "fractional classes": ("two.json", resigned(targets=[3.0, 4.0])),
    "truths for classes": ("two.json", resigned(targets=[True, False])),
    "negative class": ("two.json", resigned(targets=[-3, 4])),
    "too large class": ("two.json", resigned(targets=[3, 2**63])),
    "a class too few": ("two.json", resigned(targets=[3])),
    "a class too many": ("two.json", resigned(targets=[3, 4, 5])),
    "no classes": ("two.json", resigned(targets=[])),
    "number of problems": ("two.json", resigned(skipped=[1])),
    "text of problems": ("two.json", resigned(skipped="ab")),
    "nested problems": ("two.json", resigned(skipped=[["a"]])),
    "flipped byte": ("two.npy", flip_last_byte),
    "cut file": ("two.npy", lambda path: path.write_bytes(path.read_bytes()[:-7])),
    "cut header": ("two.npy", lambda path: path.write_bytes(path.read_bytes()[:20])),
    "empty pixels": ("two.npy", lambda path: path.write_bytes(b"")),
    "garbage pixels": ("two.npy", lambda path: path.write_bytes(b"garbage" * 100)),
    "no pixels": ("two.npy", lambda path: path.unlink()),
    "cut description": ("two.json", lambda path: path.write_text(path.read_text()[:-7])),
    "empty description": ("two.json", lambda path: path.write_text("")),
    "garbage description": ("two.json", lambda path: path.write_bytes(b"\xff\x00")),
    "incomplete description": ("two.json", lambda path: path.write_text("{}")),
    "changed class": ("two.json", change_a_class),
    "no description": ("two.json", lambda path: path.unlink()),
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_a_damaged_cache_is_rebuilt(folder, kind, capsys):
    builder = Builder()
    build_two(folder, builder)
    name, damage = DAMAGE[kind]
    damage(folder / name)
    assert_two(build_two(folder, builder))
    assert builder.calls == 2
    is_said = f"the cache file {folder / 'two.npy'} is damaged and is made anew" in capsys.readouterr().err
    assert is_said is (kind not in ("no pixels", "no description"))
    assert_two(build_two(folder, builder))
    assert builder.calls == 2
    assert sorted(path.name for path in folder.iterdir()) == ["two.json", "two.npy"]


places = st.floats(0, 1, exclude_max=True)
damages = st.one_of(
    st.tuples(st.just("flip"), places, st.integers(1, 255)),
    st.tuples(st.just("cut"), places, st.none()),
    st.tuples(st.just("overwrite"), places, st.binary(min_size=1, max_size=40)),
    st.tuples(st.just("insert"), places, st.binary(min_size=1, max_size=40)),
    st.tuples(st.just("remove"), places, st.integers(1, 40)),
    st.tuples(st.just("replace"), st.just(0.0), st.binary(max_size=200)),
)


def spoil(content, how, place, what):
    at = int(place * len(content))
    if how == "flip":
        return content[:at] + bytes([content[at] ^ what]) + content[at + 1 :] if content else content
    if how == "cut":
        return content[:at]
    if how == "overwrite":
        return content[:at] + what + content[at + len(what) :]
    if how == "insert":
        return content[:at] + what + content[at:]
    return content[:at] + content[at + what :] if how == "remove" else what


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    """A cache folder, and what its two files held when they were written."""
    folder = tmp_path_factory.mktemp("sound")
    build_two(folder, Builder())
    return folder, {path.name: path.read_bytes() for path in folder.iterdir()}


@cases(100)
@given(st.dictionaries(st.sampled_from(["two.npy", "two.json"]), st.lists(damages, min_size=1, max_size=3), min_size=1))
def test_whatever_becomes_of_a_cache_the_images_are_the_same(sound, damage):
    folder, written = sound
    for name, content in written.items():
        for one in damage.get(name, ()):
            content = spoil(content, *one)
        (folder / name).write_bytes(content)
    assert_two(build_two(folder, Builder()))
    assert {path.name for path in folder.iterdir()} == set(written)
    assert_two(build_two(folder, lambda _: pytest.fail("it was whole")))


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError, MemoryError])
def test_an_interrupted_build_leaves_nothing_behind(folder, error):
    def interrupted(pixels):
        pixels[0] = 1
        raise error

    with pytest.raises(error):
        cached("two", (2, 3, 4, 4), folder, interrupted)
    assert list(folder.iterdir()) == []


def test_an_interruption_does_not_wait_for_files_that_were_not_begun(tmp_path, request_for, monkeypatch):
    begun = []

    def slow(path, *_):
        begun.append(path)
        time.sleep(0.01)
        return "it is slow"

    def interrupted(results, *_):
        for result in results:
            yield result
            raise KeyboardInterrupt

    monkeypatch.setattr(loading, "_decode", slow)
    monkeypatch.setattr(loading, "track", interrupted)
    path = tmp_path / "one.png"
    path.touch()
    with pytest.raises(KeyboardInterrupt):
        decoded("slow", [(path, 0)] * 2000, request_for())
    assert len(begun) < 1000


def test_a_refused_build_leaves_nothing_behind(folder, files, tmp_path, request_for):
    with pytest.raises(UsageError):
        decoded("bad", [*files, (broken(tmp_path / "bad.png"), 0)], request_for())
    assert list(folder.iterdir()) == []


def test_a_failed_rebuild_keeps_other_caches(folder):
    build_two(folder, Builder())
    with pytest.raises(UsageError):
        cached("other", (2, 3, 4, 4), folder, lambda _: ([], ["x: broken"]))
    assert sorted(path.name for path in folder.iterdir()) == ["two.json", "two.npy"]


def test_a_finished_build_leaves_two_files(folder):
    cached("short", (3, 3, 4, 4), folder, lambda _: ([1], ["x: broken", "y: broken"]), skip_corrupt=True)
    assert sorted(path.name for path in folder.iterdir()) == ["short.json", "short.npy"]
    assert np.load(folder / "short.npy").shape == (1, 3, 4, 4)


def test_an_unwritable_cache_names_the_option(tmp_path):
    (tmp_path / "file").write_text("in the way")
    for folder in (tmp_path / "file", tmp_path / "file" / "cache"):
        with pytest.raises(UsageError, match=r"cannot write the image cache .*file.*--cache"):
            build_two(folder, Builder())


def test_a_full_disk_is_reported_and_leaves_nothing_behind(folder, monkeypatch):
    def full(*args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(UsageError, match="No space left on device"):
        build_two(folder, Builder())
    assert list(folder.iterdir()) == []


# What is done with images


def test_only_image_files_are_listed_in_order(tmp_path):
    for name in ("b.JPEG", "a.png", "c.webp", "notes.txt", "d.npy", ".hidden"):
        (tmp_path / name).touch()
    (tmp_path / "folder.png").mkdir()
    assert [path.name for path in list_images(tmp_path)] == ["a.png", "b.JPEG", "c.webp"]


def test_a_data_set_serves_tensors_and_classes():
    images = Images(np.arange(2 * 3 * 4, dtype=np.uint8).reshape(2, 3, 2, 2), np.array([5, 6]))
    x, y = ImageDataset(images)[1]
    assert len(ImageDataset(images)) == 2
    assert torch.equal(x, torch.arange(12, 24).reshape(3, 2, 2).to(torch.uint8))
    assert (y, type(y)) == (6, int)


def test_taking_images_keeps_their_order_and_copies_none():
    images = Images(np.arange(5, dtype=np.uint8).reshape(5, 1, 1, 1), np.arange(5))
    some = images.take(np.array([4, 0, 3])).take(np.array([2, 0]))
    assert some.targets.tolist() == [3, 4] and some.shape == (2, 1, 1, 1) and some.nbytes == 2
    assert some.pixels is images.pixels
    assert some.read(np.array([1, 0, 1])).ravel().tolist() == [4, 3, 4]


def test_what_is_read_is_a_copy():
    images = Images(np.zeros((3, 1, 2, 2), np.uint8), np.arange(3))
    images.read(np.arange(3))[:] = 1
    assert not images.pixels.any()


@given(st.integers(1, 6), st.sampled_from([1, 3]))
def test_channel_statistics_are_mean_and_deviation(n, channels):
    pixels = np.random.default_rng(n).integers(0, 256, (n, channels, 3, 3), dtype=np.uint8)
    mean, std = channel_statistics(Images(pixels, np.zeros(n)))
    np.testing.assert_allclose(mean, (pixels / 255).mean((0, 2, 3)), atol=5.1e-5)
    np.testing.assert_allclose(std, (pixels / 255).std((0, 2, 3)), atol=5.1e-5)


def test_statistics_do_not_depend_on_how_many_images_are_read_at_once():
    pixels = np.random.default_rng(0).integers(0, 256, (9000, 1, 1, 1), dtype=np.uint8)
    mean, std = channel_statistics(Images(pixels, np.zeros(9000)))
    np.testing.assert_allclose([mean[0], std[0]], [(pixels / 255).mean(), (pixels / 255).std()], atol=5.1e-5)


@pytest.fixture
def data():
    rng = np.random.default_rng(0)
    train, test = (Images(rng.integers(0, 256, (n, 1, 2, 2), dtype=np.uint8), np.arange(n) % 2) for n in (6, 4))
    return StreamData("some", train, test, ("cat", "dog"), (0.5,), (0.5,))


def test_equal_data_have_equal_fingerprints_wherever_they_lie(data, tmp_path):
    np.save(tmp_path / "train.npy", data.train.pixels)
    mapped = Images(np.load(tmp_path / "train.npy", mmap_mode="r"), data.train.targets.astype(np.int32))
    other = dataclasses.replace(data, label="elsewhere", train=mapped, mean=(0.1,), skipped=("x",))
    assert other.fingerprint == data.fingerprint
    assert len(data.fingerprint) == 16


@pytest.mark.parametrize("change", ["pixel", "class", "test pixel", "names", "order", "one less", "moved to test"])
def test_any_other_data_have_another_fingerprint(data, change):
    train, test, classes = data.train, data.test, data.classes
    if change == "pixel":
        train = Images(train.pixels.copy(), train.targets)
        train.pixels[5, 0, 1, 1] ^= 1
    elif change == "class":
        train = Images(train.pixels, 1 - train.targets)
    elif change == "test pixel":
        test = Images(test.pixels.copy(), test.targets)
        test.pixels[0, 0, 0, 0] ^= 1
    elif change == "names":
        classes = ("dog", "cat")
    elif change == "order":
        train = train.take(np.array([1, 0, 2, 3, 4, 5]))
    elif change == "one less":
        train = train.take(np.arange(5))
    else:
        both = np.concatenate([train.pixels, test.pixels])
        targets = np.concatenate([train.targets, test.targets])
        train, test = Images(both[:5], targets[:5]), Images(both[5:], targets[5:])
    other = dataclasses.replace(data, train=train, test=test, classes=classes)
    assert other.fingerprint != data.fingerprint
