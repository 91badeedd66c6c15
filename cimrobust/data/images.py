"""Image folders: one sub-folder a class, read with Pillow."""

from __future__ import annotations

import hashlib
import importlib.util
import io
import warnings
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Shaped

from cimrobust.data.array_files import require_fit
from cimrobust.data.column_files import COLUMN_SUFFIXES
from cimrobust.data.sources import RawData, Taken
from cimrobust.errors import InputRefusedError, UsageError
from cimrobust.input_file import FileKind, printable, read_input, refusing_what_fails

if TYPE_CHECKING:
    from PIL import Image

    from cimrobust.data.description import Step
    from cimrobust.data.row_choice import RowChoice

# What a file is follows from its content; of other formats, such as EPS, Pillow runs other
# programs.
_FORMATS = ("BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")
#: Steps that give images one size and number of channels, done before they are stacked.
IMAGE_STEPS = ("resize", "crop", "grey", "colour")
#: Ends of the names of image files.
IMAGE_SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".ppm", ".pgm"}
_MAX_PIXELS = 80_000_000
# Pillow's names for grey of 16 bits, and of what steps make of a picture.
_WIDE_MODES = ("I;16", "I;16B", "I;16L", "I;16N")
_MODES = {"grey": "L", "colour": "RGB"}
# Axes of a picture with channels.
_COLOUR_RANK = 3
_HINT = (
    "put the images of each class in a sub-folder of its own, as PNG, JPEG, TIFF, WebP, BMP, GIF or"
    " PPM, or save arrays by numpy.savez(x=..., y=...)"
)
#: A file that holds one image.
IMAGE_FILE = FileKind("image", 2**28)


def read_image_folder(
    folder: Path,
    steps: Sequence[Step],
    *,
    limit: int | None,
    choice: RowChoice | None = None,
) -> tuple[RawData, tuple[Step, ...]]:
    """Read images of classes in sorted order; ``y`` is the index of the class's sub-folder.

    Args:
        folder: Folder of one sub-folder a class.
        steps: Steps of the input that takes the images; those of `IMAGE_STEPS` are done here, by
            image.
        limit: Read no more images than this; None: all. They are taken from the classes in turn, so
            that a short set still has all classes.
        choice: Which of these to unpack; None: all. The digest is of all of them.

    Returns:
        Arrays ``x``, as `decoded_images`, and ``y``; and the steps that are left.

    Raises:
        UsageError: There are no images; or as `decoded_images`.
        InputRefusedError: A file is not an image.
    """
    classes = sorted(entry for entry in folder.iterdir() if entry.is_dir() and not _hidden(entry))
    files = [_images_below(entry) for entry in classes]
    if not any(files):
        raise UsageError(
            f"image folder must have one sub-folder of images a class, got {_what_is_there(folder)}"
        )
    chosen = sorted(
        (position, label) for label, paths in enumerate(files) for position in range(len(paths))
    )[:limit]
    places, num_ignored = _wanted([label for _, label in chosen], choice)
    digest = hashlib.sha256()

    def contents() -> Iterator[tuple[bytes, object]]:
        for place, (position, label) in enumerate(chosen):
            path = files[label][position]
            content = read_input(path, IMAGE_FILE)
            digest.update(path.relative_to(folder).as_posix().encode() + b"\0" + content)
            if place in places:
                yield content, path

    images = decoded_images(contents(), len(places), folder, steps)
    labels = [label for place, (_, label) in enumerate(chosen) if place in places]
    left = tuple(step for step in steps if step.op not in IMAGE_STEPS)
    arrays = {"x": images, "y": np.asarray(labels, dtype=np.int64)}
    raw = RawData(
        arrays,
        {folder.name: digest.hexdigest()},
        tuple(entry.name for entry in classes),
        None if choice is None else Taken(dict.fromkeys(arrays, len(chosen)), num_ignored),
    )
    return raw, left


def _hidden(path: Path) -> bool:
    """Tell whether a name is of what systems and editors leave beside images, copies of them too.

    As ``._cat.png`` and ``__MACOSX`` of macOS, and ``.ipynb_checkpoints``.
    """
    return path.name.startswith((".", "__MACOSX"))


def _images_below(folder: Path) -> list[Path]:
    return sorted(
        path
        for path in folder.rglob("*")
        if path.suffix.lower() in IMAGE_SUFFIXES
        and not any(map(_hidden, (path, *path.relative_to(folder).parents)))
    )


def _what_is_there(folder: Path) -> str:
    """Return what a folder without classes of images has in their place, and what to do."""
    if any(entry.suffix.lower() in IMAGE_SUFFIXES for entry in folder.iterdir()):
        return f"images in the folder itself ({folder}); {_HINT}"
    kinds = sorted({path.suffix for path in folder.rglob("*") if path.is_file()})
    if {*kinds} & {*COLUMN_SUFFIXES, ".npz", ".csv"}:
        return f"files of types {printable(kinds[:5])} ({folder}); name one of these files itself"
    return f"{f'files of types {printable(kinds[:5])}' if kinds else 'none'} ({folder}); {_HINT}"


def decoded_images(
    contents: Iterable[tuple[bytes, object]], count: int, where: object, steps: Sequence[Step]
) -> Shaped[np.ndarray, "images ..."]:
    """Unpack images one after the other, and stack them.

    Args:
        contents: Bytes of the file of every image, and where it is.
        count: How many there are.
        where: Where all of them are.
        steps: Of these, those of `IMAGE_STEPS` are done to every image.

    Returns:
        Images, uint8 [images, height, width, 3], or without the last axis where all are grey; grey
        ones among colours have three equal channels. Of 16 bits, uint16, grey.

    Raises:
        UsageError: Pillow is missing, or sizes or bits of the images differ after the steps.
        InputRefusedError: One is no image.
    """
    if importlib.util.find_spec("PIL") is None:
        raise UsageError(
            f"images need Pillow, got none installed ({printable(where)}); install"
            " cimrobust[images]"
        )
    leading = [step for step in steps if step.op in IMAGE_STEPS]
    images: list[Shaped[np.ndarray, "..."]] = []
    for content, place in contents:
        images.append(_read_image(content, place, leading))
        if len(images) == 1:
            needed = 2 * count * images[0].nbytes
            require_fit(needed, what="images and their stack", where=where)
    return np.stack(_alike(images, where))


def _alike(
    images: list[Shaped[np.ndarray, "..."]], where: object
) -> list[Shaped[np.ndarray, "..."]]:
    """Return images that can be stacked: a grey one among colours has three equal channels.

    Raises:
        UsageError: They differ in size or in bits.
    """
    kinds = sorted({str(image.dtype) for image in images})
    if len(kinds) > 1:
        raise UsageError(
            f"images must have as many bits a channel as each other, got {', '.join(kinds)}"
            f" ({printable(where)}); save all of them alike"
        )
    shapes = sorted({image.shape[:2] for image in images})
    if len(shapes) > 1:
        raise UsageError(
            f"images must have one size, got {shapes[:3]} ({printable(where)}); add a 'resize' or"
            " 'crop' step"
        )
    if len({image.ndim for image in images}) == 1:
        return images
    return [
        image if image.ndim == _COLOUR_RANK else np.repeat(image[..., None], 3, axis=-1)
        for image in images
    ]


def _wanted(labels: Sequence[int], choice: RowChoice | None) -> tuple[frozenset[int], int]:
    """Return the places of the images to unpack, and how many are not counted.

    The first alone where none is: the caller refuses the folder.
    """
    if choice is None:
        return frozenset(range(len(labels))), 0
    rows, num_ignored = choice.rows(len(labels), np.asarray(labels, dtype=np.int64))
    return frozenset(rows.tolist()) or frozenset({0}), num_ignored


def _read_image(content: bytes, path: object, steps: Sequence[Step]) -> Shaped[np.ndarray, "..."]:
    from PIL import Image  # noqa: PLC0415  # an extra

    with (
        refusing_what_fails("image must be readable", path, hint="remove or repair the file"),
        warnings.catch_warnings(),
    ):
        # Pillow only warns of images that unpack to gigabytes, and of damaged tags.
        warnings.simplefilter("ignore")
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        with Image.open(io.BytesIO(content), formats=_FORMATS) as opened:
            image = _as_bytes(opened, path)
    for step in steps:
        if step.op in _MODES:
            _require_bytes(image, step.op, path)
            image = image.convert(_MODES[step.op])
            continue
        height, width = step.size or [0, 0]
        if step.op == "resize":
            require_fit(3 * height * width, what="resized image", where=path)
            image = image.resize((width, height), Image.Resampling.BILINEAR)
            continue
        if image.width < width or image.height < height:
            raise UsageError(
                f"crop must be no larger than the image, got {height} x {width} of {image.height} x"
                f" {image.width} ({path})"
            )
        left, top = (image.width - width) // 2, (image.height - height) // 2
        image = image.crop((left, top, left + width, top + height))
    return np.asarray(image).astype(
        np.uint16 if image.mode in _WIDE_MODES else np.uint8, copy=False
    )


def _as_bytes(opened: Image.Image, path: object) -> Image.Image:
    """Return a picture as grey or colour of 8 bits a channel, or grey of 16.

    Its size is known before its pixels are unpacked.
    """
    where = printable(path)
    if opened.width * opened.height > _MAX_PIXELS:
        raise InputRefusedError(
            f"image must have at most {_MAX_PIXELS} pixels, got {opened.width} x {opened.height}"
            f" ({where}); scale it down"
        )
    if (
        getattr(opened, "is_animated", False) and opened.format != "MPO"
    ):  # cameras put a preview beside the picture
        raise InputRefusedError(
            f"image must be one picture, got several ({where}); save the one that is meant"
        )
    if opened.mode in _WIDE_MODES:
        return opened.copy()
    if opened.mode == "F" or opened.mode.startswith("I"):
        raise InputRefusedError(
            f"image must have 8 bits a channel, or 16 where it is grey, got mode '{opened.mode}'"
            f" ({where}); scale it, or save the numbers as .npz"
        )
    return opened.convert("L" if opened.mode in ("1", "L") else "RGB")


def _require_bytes(image: Image.Image, op: str, path: object) -> None:
    if image.mode in _WIDE_MODES:
        raise UsageError(
            f"step '{op}' takes images of 8 bits a channel, got 16 ({printable(path)}); repeat the"
            " channel in the network, or save the numbers as .npz"
        )
