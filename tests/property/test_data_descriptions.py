"""Descriptions and arrays that fit each other badly: loading and opening end in a result or in one
clear line, never in a traceback.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cimrobust.data.load_dataset import load_data
from cimrobust.engine.open import open_network
from cimrobust.errors import CimrobustError, SelfCheckError
from cimrobust.pipeline.inspection import Inspection, inspect_model

_SAMPLES = Path(__file__).parents[2] / "samples"
_NUMBERS = st.one_of(
    st.integers(-3, 9),
    st.sampled_from([2**31, 2**63, -(2**70), 10**30, 16, 0.5, 1e308, -1e308, 5e-324]),
)
_VALUES = st.one_of(
    _NUMBERS,
    st.lists(_NUMBERS, max_size=4),
    st.sampled_from(["", "x", "y", "scores", "\u00e9" * 50, True, [[1], [1, 2]]]),
)
_SHAPES = st.one_of(st.just([1, 8, 8]), st.lists(st.integers(-2, 70), max_size=5))
_STEP = st.one_of(
    st.fixed_dictionaries(
        {"op": st.sampled_from(["subtract", "multiply", "divide"]), "value": _VALUES}
    ),
    st.fixed_dictionaries(
        {"op": st.just("transpose"), "perm": st.lists(st.integers(-1, 3), max_size=4)}
    ),
    st.fixed_dictionaries({"op": st.just("reshape"), "shape": _SHAPES}),
    st.fixed_dictionaries(
        {"op": st.sampled_from(["resize", "crop"]), "size": st.lists(st.integers(0, 9), max_size=3)}
    ),
)
_TYPES = st.sampled_from(
    ["float16", "float32", "float64", "int8", "int64", "uint8", "uint64", "bool", "complex64"]
)
_INPUT = st.fixed_dictionaries(
    {
        "steps": st.one_of(
            st.just([{"op": "divide", "value": 16}, {"op": "reshape", "shape": [1, 8, 8]}]),
            st.lists(_STEP, max_size=3),
        )
    },
    optional={
        "name": st.sampled_from(["image", "other", ""]),
        "array": st.sampled_from(["x", "y", "z"]),
        "dtype": _TYPES,
    },
)
_DECISION = st.fixed_dictionaries(
    {},
    optional={
        "output": st.sampled_from(["scores", "none"]),
        "read": st.sampled_from(["argmax", "argmin", "threshold", "label", "value"]),
        "metric": st.sampled_from(["accuracy", "rmse", "mae", "max_error"]),
        "value": _VALUES,
        "axis": st.integers(-5, 5),
    },
)
_LABEL = st.one_of(
    st.just({"array": "y"}),
    st.just({"self": True}),
    st.fixed_dictionaries({"array": st.sampled_from(["x", "z"])}),
)
_LABELS = {
    "as they are": lambda y: y,
    "one column": lambda y: y[:, None],
    "one hot": lambda y: np.eye(10)[y],
    "scalar": lambda y: y[0],
    "too few": lambda y: y[:3],
    "none": lambda y: y[:0],
    "fractions": lambda y: y + 0.5,
    "huge": lambda y: y * 1e300,
    "not a number": lambda y: y * np.nan,
    "far classes": lambda y: y.astype(np.int64) + 2**60,
    "text": lambda y: y.astype(str),
    "complex": lambda y: y.astype(complex),
}
_IMAGES = {
    "as they are": lambda x: x,
    "flat": lambda x: x.reshape(len(x), -1),
    "one number": lambda x: np.float32(2),
    "huge": lambda x: x * 1e300,
    "text": lambda x: x.astype(str),
    "none": lambda x: x[:0],
}


def _toml(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key} = {_toml(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_toml, value)) + "]"
    return repr(value) if isinstance(value, float) else json.dumps(value)


def _table(values: dict[str, Any]) -> str:
    return "\n".join(f"{key} = {_toml(value)}" for key, value in values.items())


@pytest.fixture(scope="module")
def inspection() -> Inspection:
    return inspect_model(_SAMPLES / "digits_cnn.onnx", device="rram-write-verify-3pct")


@settings(
    max_examples=150,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(
    entry=_INPUT,
    decision=_DECISION,
    label=_LABEL,
    labels=st.one_of(st.just("as they are"), st.sampled_from(sorted(_LABELS))),
    images=st.one_of(st.just("as they are"), st.sampled_from(sorted(_IMAGES))),
)
def test_bad_data_end_in_one_clear_line(
    inspection: Inspection,
    entry: dict[str, Any],
    decision: dict[str, Any],
    label: dict[str, Any],
    labels: str,
    images: str,
) -> None:
    with np.load(_SAMPLES / "digits_test.npz") as archive:
        sample = dict(archive)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        np.savez(
            folder / "d.npz", x=_IMAGES[images](sample["x"][:8]), y=_LABELS[labels](sample["y"][:8])
        )
        text = (
            "schema = 1\nfile ="
            f' "d.npz"\n[[input]]\n{_table(entry)}\n[label]\n{_table(label)}\n[decision]\n{_table(decision)}\n'  # noqa: E501
        )
        (folder / "d.toml").write_text(text, encoding="utf-8")
        try:
            data = load_data(folder / "d.toml", inputs=inspection.network.inputs)
            runtime = open_network(inspection.network, inspection.scan, inspection.placement, data)
        except SelfCheckError:
            raise
        except CimrobustError as err:
            message, num_samples = str(err), 8
        else:
            message, num_samples = "", runtime.clean.num_samples
    assert num_samples == 8
    assert "\n" not in message
