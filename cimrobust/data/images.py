"""Image folders: one sub-folder a class, read with Pillow."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from cimrobust.data.description import Step
from cimrobust.data.sources import RawData
from cimrobust.errors import InputRefusedError, UsageError

try:
    from PIL import Image, UnidentifiedImageError
except ImportError:  # the extra is optional; asking for images without it is an error below
    Image = None  # type: ignore[assignment]

_SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".ppm", ".pgm"}
_MAX_PIXELS = 100_000_000


def read_image_folder(folder: Path, steps: Sequence[Step], *, limit: int | None) -> tuple[RawData, tuple[Step, ...]]:
    """Read images of classes in sorted order; ``y`` is the index of the class's sub-folder.

    Args:
        folder: Folder of one sub-folder a class.
        steps: Steps of the input that takes the images; leading ``resize`` and ``crop`` steps are done here, by image.
        limit: Read no more images than this; None: all. They are taken from the classes in turn, so that a short set still has all classes.

    Returns:
        Arrays ``x``, uint8 [images, height, width, 3], or without the last axis where all images are grey, and ``y``; and the steps that are left.

    Raises:
        UsageError: Pillow is missing, there are no images, or their sizes differ after the steps.
        InputRefusedError: A file is not an image.
    """
    if Image is None:
        raise UsageError(f"image folders need Pillow, got none installed ({folder}); install cimrobust[images]")
    classes = sorted(entry for entry in folder.iterdir() if entry.is_dir())
    files = [sorted(path for path in entry.rglob("*") if path.suffix.lower() in _SUFFIXES) for entry in classes]
    if not any(files):
        raise UsageError(f"image folder must have one sub-folder of images a class, got none ({folder}); check the path")
    chosen = sorted((position, label) for label, paths in enumerate(files) for position in range(len(paths)))[:limit]
    leading = [step for step in steps if step.op in ("resize", "crop")]
    images, labels, digest = [], [], hashlib.sha256()
    for position, label in chosen:
        path = files[label][position]
        digest.update(path.relative_to(folder).as_posix().encode() + b"\0" + path.read_bytes())
        images.append(_read_image(path, leading))
        labels.append(label)
    shapes = sorted({image.shape for image in images})
    if len(shapes) > 1:
        raise UsageError(f"images must have one size, got {shapes[:3]} ({folder}); add a 'resize' or 'crop' step")
    left = tuple(step for step in steps if step.op not in ("resize", "crop"))
    arrays = {"x": np.stack(images), "y": np.asarray(labels, dtype=np.int64)}
    return RawData(arrays, {folder.name: digest.hexdigest()}, tuple(entry.name for entry in classes)), left


def _read_image(path: Path, steps: Sequence[Step]) -> np.ndarray:
    try:
        with Image.open(path) as opened:
            if opened.width * opened.height > _MAX_PIXELS:
                raise InputRefusedError(f"image must have at most {_MAX_PIXELS} pixels, got {opened.width} x {opened.height} ({path})")
            image = opened.convert("L" if opened.mode in ("1", "L", "I;16") else "RGB")
    except (UnidentifiedImageError, OSError, ValueError, SyntaxError) as err:
        raise InputRefusedError(f"image must be readable, got: {err} ({path}); remove or repair the file") from err
    for step in steps:
        height, width = step.size or [0, 0]
        if step.op == "resize":
            image = image.resize((width, height), Image.Resampling.BILINEAR)
            continue
        if image.width < width or image.height < height:
            raise UsageError(f"crop must be no larger than the image, got {height} x {width} of {image.height} x {image.width} ({path})")
        left, top = (image.width - width) // 2, (image.height - height) // 2
        image = image.crop((left, top, left + width, top + height))
    return np.asarray(image)
