"""Files of a certificate that lack what the certificate says of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from cimrobust.errors import InputRefusedError, UsageError
from cimrobust.mapping.box import Box
from cimrobust.review import probable_chip
from cimrobust.review.page_again import rewrite_report
from cimrobust.review.stored_witness import stored_pattern

ZERO, ONE = np.zeros((2, 3), np.float32), np.ones((2, 3), np.float32)
BOX = Box({"w": ZERO}, {"w": -ONE}, {"w": ONE})


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        ({"v.deviation": ZERO}, r"witness must have float32 deviations of 'w' \[2, 3\], got none"),
        ({"w.deviation": ZERO.T.copy()}, "witness must have float32 deviations of 'w'"),
        ({"w.deviation": ZERO.astype(np.float64)}, "witness must have float32 deviations of 'w'"),
        (
            {"w.deviation": 2 * ONE},
            "deviations of 'w' must lie in the box of model and profile, got others",
        ),
    ],
)
def test_deviations_of_another_witness_are_refused(
    tmp_path: Path, tensors: dict[str, np.ndarray], message: str
) -> None:
    save_file(tensors, tmp_path / "d.safetensors")
    with pytest.raises(InputRefusedError, match=message):
        stored_pattern(tmp_path / "d.safetensors", BOX)


def test_a_chip_without_its_latents_is_refused(tmp_path: Path) -> None:
    save_file({"w.nominal": ZERO, "w.deviation": ZERO}, tmp_path / "chip.safetensors")
    with pytest.raises(
        InputRefusedError,
        match=r"chip must have nominal, deviation and latents of every layer, got none of"
        r" \['w.latents'\]",
    ):
        probable_chip._chip(tmp_path / "chip.safetensors", ["w"])


def test_a_certificate_is_not_set_beside_a_sweep(tmp_path: Path) -> None:
    (tmp_path / "sweep.json").write_text("{}")
    with pytest.raises(
        UsageError, match=r"an earlier certificate must be set beside a certificate, got sweep.json"
    ):
        rewrite_report(tmp_path, previous=tmp_path)
