"""Operators that the standard defines by others: what keeps their bodies from torch is told."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import onnx
import pytest
import torch

from cimrobust.twin.ops import converter_catalogue, function_ops  # noqa: F401
from cimrobust.twin.ops.converter_registry import CannotConvertError, Node, Settings
from cimrobust.twin.ops.program import Scope

FLOAT = onnx.helper.make_tensor_type_proto(onnx.TensorProto.FLOAT, [2, 3])
SCOPE = Scope({"": 20}, {"x": FLOAT}, Settings(), onnx.ModelProto())
PROTO = onnx.helper.make_node("Gelu", ["x"], ["y"])
GELU = Node("g", "Gelu", "", 20, {}, ("x",), ("y",), (1,), (), Settings())


def test_a_body_computes_what_the_operator_does() -> None:
    kernel = function_ops.function_kernel(GELU, PROTO, SCOPE)
    assert kernel is not None
    x = torch.linspace(-2, 2, 6).reshape(2, 3)
    (found,) = kernel(x)
    torch.testing.assert_close(found, torch.nn.functional.gelu(x))


def test_a_body_that_depends_on_unknown_types_is_told() -> None:
    with pytest.raises(CannotConvertError, match="depends on the types of its inputs, which are"):
        function_ops.function_kernel(GELU, PROTO, replace(SCOPE, types={}))


@pytest.mark.parametrize(
    ("name", "put", "message"),
    [
        (
            "CompiledBody",
            lambda _graph, _captures, scope: scope.problems.append("e (Erf)"),
            r"its function body needs e \(Erf\)",
        ),
        (
            "hoist_constants",
            lambda _graph, _names: ["c"],
            "its function body has constants without a value: c",
        ),
    ],
)
def test_bodies_that_torch_does_not_run_are_told(
    monkeypatch: pytest.MonkeyPatch, name: str, put: Any, message: str
) -> None:
    monkeypatch.setattr(function_ops, name, put)
    with pytest.raises(CannotConvertError, match=message):
        function_ops.function_kernel(GELU, PROTO, SCOPE)
