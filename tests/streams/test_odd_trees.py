"""Any folder at all becomes images, or one line that says why not."""

from __future__ import annotations

import io
import os
import shutil
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from soak import cases

from benchmark.errors import UsageError
from benchmark.streams.loading.images import IMAGE_SUFFIXES, StreamRequest
from benchmark.streams.sources.load import load_data

SIDE = 4


def encoded(format="PNG", mode="RGB", size=(6, 5), **options):
    stream = io.BytesIO()
    Image.new("L", size, 77).convert(mode).save(stream, format, **options)
    return stream.getvalue()


GOOD = [encoded(format) for format in ("PNG", "JPEG", "BMP", "PPM", "TIFF", "WEBP")]
GOOD += [encoded(mode="L"), encoded(size=(1, 1)), encoded("JPEG", size=(40, 1)), encoded("JPEG", "L")]
HUGE = GOOD[0][:16] + (20_000).to_bytes(4, "big") * 2 + GOOD[0][24:]
ODD = [
    b"",
    b"no image",
    HUGE,
    encoded(mode="P", transparency=b"\0\x80"),
    encoded(mode="RGBA"),
    encoded("JPEG", "CMYK"),
    encoded("TIFF", "I;16"),
    encoded("TIFF", "F"),
    encoded(size=(500, 1)),
    encoded("GIF", "P", save_all=True, append_images=[Image.new("P", (6, 5), 3)]),
    b"P6 0 5 255\n",
    b"P6 100000 100000 255\n",
    b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n",
]


@st.composite
def spoiled(draw):
    """An image of which something is cut off or garbled."""
    content = bytearray(draw(st.sampled_from(GOOD + ODD[2:])))
    for _ in range(draw(st.integers(0, 4))):
        content[draw(st.integers(0, len(content) - 1))] = draw(st.integers(0, 255))
    return bytes(content[: draw(st.integers(0, len(content)))]) if draw(st.booleans()) else bytes(content)


contents = st.one_of(
    st.sampled_from(GOOD),
    st.sampled_from(GOOD),
    st.sampled_from(ODD),
    spoiled(),
    st.sampled_from(["folder", "pipe", "nowhere", "loop"]),
)

odd_names = st.one_of(
    st.text(st.characters(exclude_characters="/\0", exclude_categories=["Cs"]), min_size=1, max_size=60),
    st.binary(min_size=1, max_size=200).filter(lambda name: not set(name) & {0, 0x2F}).map(os.fsdecode),
    st.sampled_from(
        ["train", "test", "val", "<img src=x onerror=y>", "a|b", "# a", "[a](b)", "a\nb", "\x1b[2J", "%s{0}", "-", "é"]
    ),
).filter(lambda name: name not in (".", "..") and len(os.fsencode(name)) <= 200)

file_names = st.tuples(odd_names, st.sampled_from([*sorted(IMAGE_SUFFIXES), ".PNG", "", ".txt"])).map("".join)
plain_files = st.integers(3, 6).map(lambda number: {f"{k}.png": GOOD[0] for k in range(number)})
odd_files = st.dictionaries(file_names, contents, max_size=5)
mixed_files = st.tuples(plain_files, odd_files).map(lambda parts: parts[0] | parts[1])
class_folders = st.one_of(odd_files, plain_files, mixed_files)
splits = st.dictionaries(odd_names, class_folders, max_size=4)
usual_splits = st.dictionaries(st.sampled_from(["cat", "dog", "a\nb", "<b>"]), mixed_files, min_size=2)
trees = st.one_of(
    splits,
    usual_splits,
    st.fixed_dictionaries({"train": st.one_of(splits, usual_splits)}),
    st.one_of(splits, usual_splits).flatmap(
        lambda train: st.fixed_dictionaries(
            {"train": st.just(train), "test": st.fixed_dictionaries(dict.fromkeys(train, class_folders))}
        )
    ),
)


def make(place, content):
    """``content`` at ``place``: a file of these bytes, a folder of what a dictionary says, or an oddity by its name."""
    if isinstance(content, dict):
        place.mkdir(parents=True)
        for name, below in content.items():
            make(place / name, below)
    elif isinstance(content, bytes):
        place.write_bytes(content)
    elif content == "folder":
        place.mkdir()
    elif content == "pipe":
        os.mkfifo(place)
    else:
        place.symlink_to(place if content == "loop" else place.with_name("not there"))


def assert_stream(data, request):
    listed = [p for p in request.data_root.rglob("*") if p.suffix.lower() in IMAGE_SUFFIXES and p.is_file()]
    assert len(data.train) + len(data.test) + len(data.skipped) <= len(listed)
    assert request.skip_corrupt or not data.skipped
    for part in (data.train, data.test):
        assert part.pixels.dtype == np.uint8 and part.shape == (len(part), 3, SIDE, SIDE)
        assert set(part.targets.tolist()) == set(range(len(data.classes)))
    for text in (data.label, *data.classes, *data.skipped):
        assert len(text.splitlines()) == 1 and "\x1b" not in text
        text.encode()


@cases(80)
@given(name=odd_names, tree=trees, skip_corrupt=st.booleans())
def test_any_folder_becomes_images_or_one_line(name, tree, skip_corrupt):
    place = Path(tempfile.mkdtemp())
    try:
        make(place / "data" / name, tree)
        request = StreamRequest(place / "data" / name, place / "cache", SIDE, skip_corrupt)
        try:
            first = load_data("imagefolder", "real", request)
        except UsageError as refused:
            assert len(str(refused).splitlines()) == 1 and "\x1b" not in str(refused)
            str(refused).encode()
            left = list((place / "cache").iterdir()) if (place / "cache").exists() else []
            assert all(path.suffix in (".npy", ".json") for path in left)
        else:
            assert_stream(first, request)
            again = load_data("imagefolder", "real", request)
            assert again.fingerprint == first.fingerprint and again.skipped == first.skipped
    finally:
        shutil.rmtree(place)


@pytest.fixture
def folder(tmp_path, write_image):
    """Two classes with four images for training and two for tests each."""
    for split, number in (("train", 4), ("test", 2)):
        for name in ("cat", "dog"):
            for k in range(number):
                write_image(tmp_path / "pets" / split / name / f"{k}.png")
    return tmp_path / "pets"


@pytest.mark.parametrize(("split", "part"), [("train", "training"), ("test", "test")])
def test_a_class_of_unreadable_images_alone_is_refused_like_an_empty_one(folder, request_for, split, part):
    for path in (folder / split / "dog").iterdir():
        path.write_bytes(b"broken")
    with pytest.raises(UsageError, match=rf"imagefolder \(pets\): all {part} images of the class dog are unreadable"):
        load_data("imagefolder", "real", request_for(folder, skip_corrupt=True))


def test_one_readable_image_of_each_class_is_enough(folder, request_for):
    for split in ("train", "test"):
        for path in [p for p in (folder / split / "dog").iterdir() if p.name != "0.png"]:
            path.write_bytes(b"broken")
    data = load_data("imagefolder", "real", request_for(folder, skip_corrupt=True))
    assert data.train.targets.tolist() == [0] * 4 + [1] and data.test.targets.tolist() == [0] * 2 + [1]


def test_what_the_system_refuses_to_read_is_named(folder, request_for, monkeypatch):
    def refuse(path):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "iterdir", refuse)
    with pytest.raises(UsageError, match=r"images of imagefolder cannot be read \(.*pets.*: Permission denied\)"):
        load_data("imagefolder", "real", request_for(folder))
