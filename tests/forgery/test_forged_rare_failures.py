"""Forged rare failures: a smaller probability, and a most probable failing chip that is less
probable.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

import cimrobust
from cimrobust.files import sha256_of
from tests.forgery.conftest import Case, Forged


@pytest.fixture(scope="module")
def rare(case: Case, tmp_path_factory: pytest.TempPathFactory) -> Case:
    """A genuine certificate with rare failures, of few samples and chips."""
    out = tmp_path_factory.mktemp("rare") / "out"
    cimrobust.analyze(
        case.model,
        data=case.data,
        out=out,
        tolerance=0.12,
        effort="quick",
        trials=12,
        limit=30,
        rare_below=0.95,
        rare_budget=250,
        diagnostics="none",
        policy=case.policy,
        workers=1,
    )
    return Case(case.model, case.data, case.policy, out)


@pytest.fixture
def forged(rare: Case, tmp_path: Path) -> Forged:
    """A copy that may be forged."""
    shutil.copytree(rare.folder, tmp_path / "forged")
    return Forged(tmp_path / "forged")


def _smaller_probability(forged: Forged, *, repeats: bool) -> None:
    values = forged.plain
    block = values["monte_carlo"]["rare"]
    block.update(
        probability=1e-12,
        low=1e-13,
        high=1e-11,
        reached=True,
        reason=None,
        reliability_index=7.034483825301131,
    )
    for row in block["repeats"] if repeats else []:
        row.update(probability=1e-12, reached=True)
    block["first_order"].update(ratio=block["first_order"]["probability"] / 1e-12, agrees=True)
    forged.write(values)


def test_the_genuine_certificate_holds(rare: Case) -> None:
    checks = rare.replay(rare.folder, redraw=2)
    assert [(check.id, check.detail) for check in checks if check.held is False] == []


def test_a_probability_that_its_repeats_do_not_have_is_stopped_by_the_gate(
    rare: Case, forged: Forged
) -> None:
    _smaller_probability(forged, repeats=False)
    assert rare.refuted(forged.folder, {"rare_numbers"}) == {"rare_numbers"}
    assert rare.is_stopped(forged.folder)


def test_a_probability_with_its_repeats_is_refuted_by_a_new_run(rare: Case, forged: Forged) -> None:
    _smaller_probability(forged, repeats=True)
    # So many levels of so many chips lead to no such probability, which needs no run to tell.
    assert rare.is_stopped(forged.folder)
    assert "rerun monte_carlo" in rare.refuted(
        forged.folder, {"rerun monte_carlo"}, "--rerun", "--redraw", "0"
    )


def test_a_chip_further_out_is_refuted(rare: Case, forged: Forged) -> None:
    """Latents twice as large make the chip look much less probable; norm, layers and digest go with
    them.
    """
    values = forged.plain
    block = values["monte_carlo"]["rare"]
    chip = block["most_probable"]
    path = forged.folder / chip["stored"]["file"]
    tensors = {
        key: np.asarray(array * np.float32(2)) if key.endswith(".latents") else array
        for key, array in load_file(path).items()
    }
    save_file(tensors, path)
    chip["stored"]["sha256"] = sha256_of(path)
    chip["reliability_index"] *= 2
    for row in chip["layers"]:
        sizes = np.abs(tensors[f"{row['initializer']}.latents"])
        row.update(
            beyond_1=int((sizes > 1).sum()),
            beyond_2=int((sizes > 2).sum()),
            beyond_3=int((sizes > 3).sum()),
        )
    forged.write(values)
    assert {"most_probable_weights", "rare_numbers"} <= rare.refuted(
        forged.folder, {"most_probable_weights"}, "--redraw", "0"
    )


def test_another_chip_is_refuted(rare: Case, forged: Forged) -> None:
    """A chip without deviation is the most harmless there is; its digest is right."""
    values = forged.plain
    stored = values["monte_carlo"]["rare"]["most_probable"]["stored"]
    path = forged.folder / stored["file"]
    tensors = {
        key: np.zeros_like(array) if key.endswith((".latents", ".deviation")) else array
        for key, array in load_file(path).items()
    }
    save_file(tensors, path)
    stored["sha256"] = sha256_of(path)
    forged.write(values)
    assert {"most_probable_norm", "most_probable_score"} <= rare.refuted(
        forged.folder, {"most_probable_norm"}, "--redraw", "0"
    )
