"""What a body reads from the graph around it is no constant: no bound may look past it."""

from __future__ import annotations

import numpy as np
import onnx
import onnx.parser
import pytest

from cimrobust.certify.plan import make_plan
from cimrobust.certify.refusal import NotBoundedError
from cimrobust.twin.to_torch import to_torch

TEXT = """<ir_version: 8, opset_import: ["": 17]>
g (float[n, 4] x, bool b) => (float[n, 3] y) <float[4, 3] W = {1,2,3,4,5,6,7,8,9,10,11,12}> {
  y = If (b) <then_branch = p () => (float[n, 3] t) { t = MatMul(x, W) },
              else_branch = q () => (float[n, 3] e) { m = MatMul(x, W) e = Neg(m) }> }"""


def test_a_branch_that_reads_activations_has_no_bound() -> None:
    twin = to_torch(onnx.parser.parse_model(TEXT), weight_names=["W"]).double()
    with pytest.raises(NotBoundedError, match="If"):
        make_plan(twin, "y")
    assert np.isfinite(np.asarray(twin.weights["W"])).all()
