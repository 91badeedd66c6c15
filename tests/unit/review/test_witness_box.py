"""A witness layer by layer: inside its box, and the weights that its model file stores."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from cimrobust.device.layer_rules import LayerRule
from cimrobust.device.load_profile import load_profile
from cimrobust.onnx_io.load_network import load_network
from cimrobust.onnx_io.network import Network
from cimrobust.review.witness_box import box_problem, deviating_layers, left_out
from cimrobust.shipped_samples import sample_folder

NAME = "net.0.weight"
NOMINAL = np.array([[0.5, -0.25]], dtype=np.float32)
REACH = np.array([[0.125, 0.25]], dtype=np.float32)
PARTS = {"nominal": NOMINAL, "lo": -REACH, "hi": REACH, "deviation": REACH}
STORED = {NAME: NOMINAL + REACH}


def problem(stored: dict[str, Any] | None = None, **changed: Any) -> str:
    parts = {key: array for key, array in {**PARTS, **changed}.items() if array is not None}
    tensors = {f"{NAME}.{key}": array for key, array in parts.items()}
    return box_problem(tensors, STORED if stored is None else stored, NAME)


def test_a_deviation_may_reach_either_end_of_its_interval() -> None:
    assert problem() == ""
    assert problem({NAME: NOMINAL - REACH}, deviation=-REACH) == ""


@pytest.mark.parametrize("end", ["lo", "hi"])
def test_one_that_is_a_bit_beyond_an_end_leaves_it(end: str) -> None:
    deviation = PARTS[end].copy()
    deviation[0, 1] = np.nextafter(deviation[0, 1], np.float32(np.sign(deviation[0, 1]) * 9))
    said = problem({NAME: NOMINAL + deviation}, deviation=deviation)
    assert said == f"a deviation of '{NAME}' leaves its interval"


def test_a_deviation_that_is_no_number_leaves_its_interval() -> None:
    assert "leaves its interval" in problem(deviation=np.full_like(REACH, np.nan))


def test_weights_that_nobody_deviated_so_are_refused() -> None:
    assert problem({NAME: NOMINAL}) == f"weights of '{NAME}' are not nominal + deviation"


@pytest.mark.parametrize("part", PARTS)
def test_every_part_is_needed_in_the_shape_of_the_weights(part: str) -> None:
    assert problem(**{part: None}) == f"missing ['{NAME}.{part}']"
    said = f"parts of '{NAME}' have other shapes than its weights"
    assert problem(**{part: PARTS[part][0]}) == said


def test_a_layer_that_the_model_file_lacks_is_missing() -> None:
    assert problem({}) == f"missing {NAME}"


def test_layers_have_names_with_dots_and_marks_of_the_file_are_none() -> None:
    names = {f"{NAME}.lo": REACH, f"{NAME}.hi": REACH, "w.nominal": NOMINAL, "version": NOMINAL}
    assert deviating_layers(names) == {NAME, "w"}


PROFILE = load_profile("rram-write-verify-3pct")
LAYERS = ["net.0.weight", "net.2.weight", "net.4.weight"]


@pytest.fixture(scope="module")
def witness() -> Network:
    return load_network(sample_folder() / "breast_cancer_mlp.onnx")


@pytest.mark.parametrize("named", [LAYERS, LAYERS[:2], []])
def test_layers_in_devices_that_nobody_names_are_left_out(
    witness: Network, named: list[str]
) -> None:
    said = left_out(witness, PROFILE, named)
    assert said == ", ".join(f"'{name}'" for name in LAYERS if name not in named)


def test_rules_about_nodes_that_the_witness_lacks_leave_all_that_is_not_digital(
    witness: Network,
) -> None:
    profile = replace(PROFILE, rules=(LayerRule(match="no such node", digital=True),))
    assert left_out(witness, profile, LAYERS[1:]) == ""
    digital = ["/net/net.2/Gemm"]
    assert left_out(witness, profile, LAYERS[:1], digital) == "'net.4.weight'"
    assert left_out(witness, profile, LAYERS[:1], []) == "'net.2.weight', 'net.4.weight'"
