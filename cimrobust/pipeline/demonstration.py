"""The whole job on a sample that is shipped with the package."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from cimrobust.pipeline.analysis import analyze
from cimrobust.shipped_samples import sample_folder

if TYPE_CHECKING:
    from cimrobust.certificate.result import Certificate
    from cimrobust.progress import Progress

_MODEL = "digits_cnn.onnx"


def demo(
    *,
    out: str | Path = "cimrobust-demo",
    workers: int | None = None,
    progress: Progress | None = None,
) -> Certificate:
    """Certify the digits network at a tolerance of 3 % and return its certificate.

    Args:
        out: Folder for the certificate.
        workers: Threads; None: all processors.
        progress: Told how far the work is.
    """
    samples = sample_folder()
    return analyze(
        samples / _MODEL,
        data=samples / "digits_cnn.toml",
        device="rram-write-verify-3pct",
        policy=samples / "policies" / "strict.toml",
        out=out,
        trials=300,
        workers=workers,
        progress=progress,
    )
