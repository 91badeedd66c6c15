"""Attention of the standard, written out: no chip has a smaller margin than its bound."""

from __future__ import annotations

import numpy as np
import pytest

from cimrobust.certify.bounded_network import open_bounds
from cimrobust.certify.refusal import Refusal
from tests.unit.certify.test_recurrent_steps import check_margins, dims
from tests.unit.search.conftest import Opener

HEAD = '<ir_version: 11, opset_import: ["" : 23]> net '
RNG = np.random.default_rng(9)


def arrays(kept: int) -> dict[str, np.ndarray]:
    shapes = {"wq": (6, 8), "wk": (6, 4 * kept), "wv": (6, 4 * kept), "v": (8, 4)}
    return {
        name: (RNG.normal(size=shape) / np.sqrt(shape[0])).astype(np.float32)
        for name, shape in shapes.items()
    }


def text_of(weights: dict[str, np.ndarray], node: str, outputs: str = "o") -> str:
    return (
        HEAD
        + f"(float[N, 5, 6] x) => (float[N, 4] y) <{dims(weights)}, int64[1] one = {{1}}>"
        + f" {{ q = MatMul(x, wq) k = MatMul(x, wk) u = MatMul(x, wv) {outputs} = {node}"
        + " p = ReduceMean<keepdims = 0>(o, one) y = MatMul(p, v) }"
    )


@pytest.mark.parametrize(
    ("attributes", "kept", "mask"),
    [
        ("", 2, False),
        (", is_causal = 1", 2, False),
        (", softcap = 2.0", 2, False),
        (", scale = 0.3", 1, False),
        ("", 1, True),
    ],
)
def test_attention_with_its_heads_in_the_last_axis(
    opened: Opener, attributes: str, kept: int, mask: bool
) -> None:
    weights = arrays(kept)
    read = "q, k, u"
    if mask:
        weights["m"] = RNG.normal(size=(5, 5)).astype(np.float32)
        read += ", m"
    node = f"Attention<q_num_heads = 2, kv_num_heads = {kept}{attributes}>({read})"
    text = text_of(weights, node)
    check_margins(opened, text, weights, RNG.normal(size=(8, 5, 6)).astype(np.float32))


def test_attention_with_heads_of_their_own_axis_and_a_mask_of_truth(opened: Opener) -> None:
    weights = arrays(2) | {"m": np.tri(5) > 0}
    stated = dims({name: array for name, array in weights.items() if name != "m"})
    text = (
        HEAD
        + f"(float[N, 5, 6] x) => (float[N, 4] y) <{stated}, bool[5, 5] m, int64[4] apart ="
        + " {0, 0, 2, 4}, int64[3] joined = {0, 0, 8}, int64[1] one = {1}> {"
        + " q0 = MatMul(x, wq) k0 = MatMul(x, wk) u0 = MatMul(x, wv)"
        + " q1 = Reshape(q0, apart) k1 = Reshape(k0, apart) u1 = Reshape(u0, apart)"
        + " q = Transpose<perm = [0, 2, 1, 3]>(q1) k = Transpose<perm = [0, 2, 1, 3]>(k1)"
        + " u = Transpose<perm = [0, 2, 1, 3]>(u1) a = Attention(q, k, u, m)"
        + " t = Transpose<perm = [0, 2, 1, 3]>(a) o = Reshape(t, joined)"
        + " p = ReduceMean<keepdims = 0>(o, one) y = MatMul(p, v) }"
    )
    check_margins(opened, text, weights, RNG.normal(size=(8, 5, 6)).astype(np.float32))


def test_attention_that_keeps_its_keys_is_refused(opened: Opener) -> None:
    weights = arrays(2)
    node = "Attention<q_num_heads = 2, kv_num_heads = 2>(q, k, u)"
    text = text_of(weights, node, "o, kept")
    text = text.replace("p = ReduceMean", "g = GlobalMaxPool(kept) h = Flatten(g) p = ReduceMean")
    text = text.replace(
        "y = MatMul(p, v)",
        "z = ReduceMean<keepdims = 0>(h, one) r = Unsqueeze(z, one) s = MatMul(p, v) y = Add(s, r)",
    )
    refused = open_bounds(
        *opened(text, weights, {"x": RNG.normal(size=(4, 5, 6)).astype(np.float32)})
    )
    assert isinstance(refused, Refusal)
    assert "keys and values of other steps" in refused.reason
