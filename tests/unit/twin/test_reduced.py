"""A twin of some outputs needs no torch form of what the others depend on."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
import torch

from cimrobust.twin.to_torch import TwinUnavailableError, to_torch

MODEL = onnx.parser.parse_model("""
<ir_version: 8, opset_import: ["" : 17, "ai.onnx.ml" : 3]>
agraph (float[n, 2] x) => (float[n, 2] scores, float[n, 1] label)
<float[2, 2] w = {1, 2, 3, 4}, int64[1] first = {0}>
{
    scores = MatMul (x, w)
    label = ai.onnx.ml.ArrayFeatureExtractor (scores, first)
}
""")


def test_nodes_of_other_outputs_do_not_matter():
    with pytest.raises(TwinUnavailableError, match="ArrayFeatureExtractor"):
        to_torch(MODEL, weight_names=["w"])
    twin = to_torch(MODEL, weight_names=["w"], outputs=["scores"])
    assert twin.outputs == ("scores",)
    got = twin({"x": torch.ones(3, 2)})["scores"].numpy()
    np.testing.assert_array_equal(got, [[4, 6]] * 3)


def test_weights_that_are_given_are_held_as_they_are():
    weight = torch.tensor([[1.0, 0.0], [0.0, 2.0]])
    twin = to_torch(MODEL, weight_names=["w"], outputs=["scores"], values={"w": weight})
    assert twin.weights["w"].data_ptr() == weight.data_ptr()
    got = twin({"x": torch.ones(3, 2)})["scores"].numpy()
    np.testing.assert_array_equal(got, [[1, 2]] * 3)
