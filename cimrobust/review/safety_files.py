"""The claim about the safety class, as far as the files of its witness tell."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from cimrobust.errors import InputRefusedError
from cimrobust.files import sha256_of
from cimrobust.mapping.pattern_file import read_pattern

if TYPE_CHECKING:
    from cimrobust.array_shapes import Shaped
    from cimrobust.certificate.models import CertificateModel
    from cimrobust.certificate.models.diagnosed import SafetyClass

SAFETY_FILE = "witness/safety_class.safetensors"
_WORST_FILE = "witness/deviations.safetensors"


def safety_claim(certificate: CertificateModel) -> SafetyClass | None:
    """Return what a certificate claims of its safety class; None where it has none."""
    return None if certificate.diagnostics is None else certificate.diagnostics.safety_class


def check_safety_files(
    directory: Path, certificate: CertificateModel
) -> Iterator[tuple[str, bool, str]]:
    """Yield name, result and detail of the checks that need the witness alone.

    Raises:
        InputRefusedError: The witness is corrupt, or of another name.
    """
    claimed = safety_claim(certificate)
    if claimed is None:
        return
    if list(claimed.witness) != [SAFETY_FILE]:
        raise InputRefusedError(
            f"witness of the safety class must be {SAFETY_FILE}, got {list(claimed.witness)}; do"
            " not trust it"
        )
    digest = sha256_of(directory / SAFETY_FILE)
    yield (
        f"hash of {SAFETY_FILE}",
        digest == claimed.witness[SAFETY_FILE],
        f"sha256 {digest[:16]}...",
    )
    tensors, worst = safety_tensors(directory), safety_tensors(directory, _WORST_FILE)
    for layer in certificate.mapping.layers:
        name = layer.initializer
        parts = ("nominal", "lo", "hi", "deviation")
        if any(f"{name}.{part}" not in held for part in parts for held in (tensors, worst)):
            yield "safety_class_in_box", False, f"'{name}' is missing"
            return
        if not all(
            np.array_equal(tensors[f"{name}.{part}"], worst[f"{name}.{part}"]) for part in parts[:3]
        ):
            yield "safety_class_in_box", False, f"the box of '{name}' is not that of {_WORST_FILE}"
            return
        lo, hi, deviation = (tensors[f"{name}.{part}"] for part in parts[1:])
        if not ((lo <= deviation) & (deviation <= hi)).all():
            yield "safety_class_in_box", False, f"a deviation of '{name}' leaves its interval"
            return
    yield (
        "safety_class_in_box",
        True,
        f"{len(certificate.mapping.layers)} tensors: lo <= deviation <= hi",
    )


def safety_tensors(
    directory: Path, name: str = SAFETY_FILE
) -> dict[str, Shaped[np.ndarray, "..."]]:
    """Read the weights of a witness, its deviations and its box.

    Raises:
        InputRefusedError: The file is missing or corrupt.
    """
    return read_pattern(directory / name, what="deviations of the witness")
