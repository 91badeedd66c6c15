"""Pictures that nobody vouches for."""

from __future__ import annotations

import os
import struct
import zlib

import numpy as np
import pytest

from cimrobust.data import array_files as arrays
from cimrobust.data import images
from cimrobust.data.description import Step
from cimrobust.data.images import read_image_folder
from cimrobust.errors import InputRefusedError, UsageError

Image = pytest.importorskip("PIL.Image")


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width: int, height: int, depth: int = 1, colour: int = 0) -> bytes:
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0))
        + chunk(b"IDAT", zlib.compress(bytes((width + 7) // 8 + 1)))
        + chunk(b"IEND", b"")
    )


def saved(mode: str, name: str = "1.png", **options):
    def write(folder):
        Image.new(mode, (4, 4)).save(folder / name, **options)

    return write


def animated(folder):
    frames = [Image.new("L", (4, 4), value) for value in (0, 200)]
    frames[0].save(folder / "1.gif", save_all=True, append_images=frames[1:])


def cut(folder):
    Image.effect_noise((64, 64), 90).save(folder / "1.png")
    (folder / "1.png").write_bytes((folder / "1.png").read_bytes()[:300])


def content(data: bytes):
    return lambda folder: (folder / "1.png").write_bytes(data)


EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n"


@pytest.mark.parametrize(
    ("write", "text"),
    [
        (content(png(30_000, 30_000)), "900000000 pixels"),
        (content(png(9_500, 9_500)), "must"),
        (content(png(2**31 - 1, 2**31 - 1)), "must be readable"),
        (content(b""), "cannot identify"),
        (content(b"text"), "cannot identify"),
        (content(EPS), "cannot identify"),
        (cut, "must be readable"),
        (animated, "must be one picture, got several"),
        (saved("I", "1.tif"), "8 bits a channel"),
        (saved("F", "1.tif"), "8 bits a channel, or 16 where it is grey, got mode 'F'"),
        (lambda folder: os.mkfifo(folder / "1.png"), "got a pipe"),
        (lambda folder: (folder / "1.png").symlink_to("/dev/zero"), "got a character device"),
    ],
)
def test_pictures_that_cannot_be_used_are_refused_by_name(write, text, tmp_path):
    (tmp_path / "a").mkdir()
    write(tmp_path / "a")
    with pytest.raises(InputRefusedError, match=text) as caught:
        read_image_folder(tmp_path, [], limit=None)
    assert "a/1." in str(caught.value)


@pytest.mark.parametrize(
    ("mode", "name", "shape"),
    [
        ("1", "1.png", (4, 4)),
        ("L", "1.png", (4, 4)),
        ("P", "1.png", (4, 4, 3)),
        ("CMYK", "1.jpg", (4, 4, 3)),
        ("RGBA", "1.png", (4, 4, 3)),
    ],
)
def test_other_kinds_of_pictures_are_grey_or_colour(mode, name, shape, tmp_path):
    (tmp_path / "a").mkdir()
    saved(mode, name)(tmp_path / "a")
    raw, _ = read_image_folder(tmp_path, [], limit=None)
    assert raw.arrays["x"].shape == (1, *shape)
    assert raw.arrays["x"].dtype == np.uint8


def test_what_systems_leave_beside_images_is_passed_over(tmp_path):
    for name in ("a/1.png", "a/._1.png", "a/.trash/2.png", "__MACOSX/a/._1.png", ".cache/1.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"no image")
    saved("L")(tmp_path / "a")
    raw, _ = read_image_folder(tmp_path, [], limit=None)
    assert (raw.folders, len(raw.arrays["x"])) == (("a",), 1)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("1.png", "got images in the folder itself .*put the images of each class in a sub-folder"),
        ("a/1.avif", r"got files of types .*\.avif.* in a sub-folder of its own, as PNG, JPEG"),
        ("data-00000-of-00001.arrow", r"got files of types .*\.arrow.*name one of these files"),
    ],
)
def test_folders_without_classes_say_what_they_hold(name, text, tmp_path):
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_bytes(b"")
    with pytest.raises(UsageError, match=text):
        read_image_folder(tmp_path, [], limit=None)


def test_a_crop_is_no_larger_than_the_picture(tmp_path):
    (tmp_path / "a").mkdir()
    Image.new("L", (4, 3)).save(tmp_path / "a" / "1.png")
    with pytest.raises(
        UsageError, match=r"crop must be no larger than the image, got 5 x 4 of 3 x 4 .*1\.png"
    ):
        read_image_folder(tmp_path, [Step(op="crop", size=[5, 4])], limit=None)


def test_without_pillow_it_is_asked_for(tmp_path, monkeypatch):
    monkeypatch.setattr(images.importlib.util, "find_spec", lambda _name: None)
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "1.png").write_bytes(b"never read")
    with pytest.raises(UsageError, match=r"images need Pillow, got none installed"):
        read_image_folder(tmp_path, [], limit=None)


def test_folders_larger_than_memory_are_refused_after_their_first_picture(tmp_path, monkeypatch):
    (tmp_path / "a").mkdir()
    for index in range(100):
        (tmp_path / "a" / f"{index}.png").write_bytes(b"broken")
    saved("L", "0.png")(tmp_path / "a")
    monkeypatch.setattr(arrays, "available_memory", lambda: 2 * 3199)
    with pytest.raises(
        InputRefusedError, match="must fit in half of the free memory, 3199 bytes, got 3200 bytes"
    ):
        read_image_folder(tmp_path, [], limit=None)


def folder_of(tmp_path, *pictures):
    """Write pictures of one class, in order."""
    (tmp_path / "a").mkdir()
    for index, picture in enumerate(pictures):
        picture.save(tmp_path / "a" / f"{index}.png")
    return tmp_path


GREY, COLOUR = np.arange(16, dtype=np.uint8).reshape(4, 4), np.full((4, 4, 3), [9, 40, 200])


def test_a_grey_picture_among_colours_has_three_equal_channels(tmp_path):
    folder = folder_of(
        tmp_path, Image.fromarray(GREY), Image.fromarray(COLOUR.astype(np.uint8), "RGB")
    )
    raw, _ = read_image_folder(folder, [], limit=None)
    np.testing.assert_array_equal(raw.arrays["x"][0], np.repeat(GREY[..., None], 3, axis=-1))
    np.testing.assert_array_equal(raw.arrays["x"][1], COLOUR)


def test_steps_make_pictures_grey_or_colour(tmp_path):
    folder = folder_of(tmp_path, Image.fromarray(COLOUR.astype(np.uint8), "RGB"))
    raw, left = read_image_folder(folder, [Step(op="grey")], limit=None)
    # ITU-R BT.601: 0.299 * 9 + 0.587 * 40 + 0.114 * 200 = 48.97
    np.testing.assert_array_equal(raw.arrays["x"], np.full((1, 4, 4), 49))
    assert left == ()
    raw, _ = read_image_folder(folder, [Step(op="grey"), Step(op="colour")], limit=None)
    np.testing.assert_array_equal(raw.arrays["x"], np.full((1, 4, 4, 3), 49))


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_grey_of_16_bits_keeps_its_numbers(tmp_path, suffix):
    values = (GREY.astype(np.uint16) * 4000)[:3]
    (tmp_path / "a").mkdir()
    Image.fromarray(values).save(tmp_path / "a" / f"0.{suffix}")
    raw, _ = read_image_folder(tmp_path, [], limit=None)
    assert raw.arrays["x"].dtype == np.uint16
    np.testing.assert_array_equal(raw.arrays["x"], values[None])
    with pytest.raises(UsageError, match="step 'colour' takes images of 8 bits a channel, got 16"):
        read_image_folder(tmp_path, [Step(op="colour")], limit=None)


def test_pictures_of_several_depths_are_refused(tmp_path):
    folder = folder_of(tmp_path, Image.fromarray(GREY), Image.fromarray(GREY.astype(np.uint16)))
    with pytest.raises(
        UsageError,
        match=r"images must have as many bits a channel as each other, got uint16, uint8",
    ):
        read_image_folder(folder, [], limit=None)
