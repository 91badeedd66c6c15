"""Where the samples are that are shipped with the package."""

from __future__ import annotations

from pathlib import Path

from cimrobust.errors import UsageError


def sample_folder() -> Path:
    """Return the folder of the shipped samples.

    Inside an installed package, beside it in a checkout.

    Raises:
        UsageError: There is none.
    """
    package = Path(__file__).resolve().parent
    for folder in (package / "_samples", package.parent / "samples"):
        if (folder / "digits_cnn.onnx").is_file():
            return folder
    raise UsageError(
        f"samples must be installed with the package, got none beside {package.name}; install"
        " cimrobust again"
    )
