"""The list of com.microsoft operators holds all that the installed onnxruntime has."""

from __future__ import annotations

from onnxruntime.capi import onnxruntime_pybind11_state as state

from cimrobust.onnx_io.builtin_operators import CONTRIB_OPERATORS


def test_no_operator_is_missing() -> None:
    installed = {
        schema.name
        for schema in state.get_all_operator_schema()
        if schema.domain == "com.microsoft"
    }
    assert installed <= CONTRIB_OPERATORS
    assert "Gelu" in installed
