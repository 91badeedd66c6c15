"""Weights of few bits with one scale a block, against onnxruntime."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pytest

from cimrobust.onnx_io.lowering.block_quantised import unpacked

from .conftest import Pair

Same = Callable[..., Pair]


def pack(levels: np.ndarray, bits: int) -> np.ndarray:
    """Pack integers along the last axis, the first in the lowest bits; padded to whole bytes."""
    each = 8 // bits
    padded = np.zeros((*levels.shape[:-1], -(-levels.shape[-1] // each) * each), np.uint16)
    padded[..., : levels.shape[-1]] = levels
    parts = padded.reshape(*padded.shape[:-1], -1, each)
    return sum(parts[..., index] << (bits * index) for index in range(each)).astype(np.uint8)  # type: ignore[union-attr]


def arrays(
    rng: np.random.Generator, *, bits: int, inputs: int, block: int, kind: type = np.float32
) -> dict[str, np.ndarray]:
    blocks = -(-inputs // block)
    levels = rng.integers(0, 2**bits, (5, blocks, block))
    return {
        "a": rng.normal(size=(2, 3, inputs)).astype(kind),
        "q": pack(levels, bits),
        "s": rng.uniform(0.1, 0.2, (5, blocks)).astype(kind),
        "z": pack(rng.integers(0, 2**bits, (5, blocks)), bits),
        "f": rng.uniform(0, 2**bits - 1, (5, blocks)).astype(kind),
        "b": rng.normal(size=5).astype(kind),
    }


SIZES = [(32, 16), (64, 16), (48, 32), (40, 16), (17, 32)]


@pytest.mark.parametrize("opset", [13, 17, 21])
@pytest.mark.parametrize(("inputs", "block"), SIZES)
@pytest.mark.parametrize("bits", [2, 4, 8])
@pytest.mark.parametrize(
    "names", [["a", "q", "s"], ["a", "q", "s", "z"], ["a", "q", "s", "z", "", "b"]]
)
def test_product_equals_onnxruntime(
    same: Same,
    rng: np.random.Generator,
    names: Sequence[str],
    bits: int,
    inputs: int,
    block: int,
    opset: int,
) -> None:
    given = arrays(rng, bits=bits, inputs=inputs, block=block)
    used = {name: given[name] for name in names if name}
    pair = same(
        "MatMulNBits",
        names,
        used,
        opset=opset,
        constants=[name for name in used if name != "a"],
        K=inputs,
        N=5,
        bits=bits,
        block_size=block,
    )
    assert "DequantizeLinear" in pair.operators
    assert dict(pair.outcome.bits) == {"q.levels": bits}
    assert any("'q' are unpacked to 'q.levels'" in note for note in pair.outcome.notes)


@pytest.mark.parametrize("bits", [2, 4])
def test_zero_points_that_are_no_integers_make_float_weights(
    same: Same, rng: np.random.Generator, bits: int
) -> None:
    given = arrays(rng, bits=bits, inputs=40, block=16)
    used = {name: given[name] for name in ("a", "q", "s", "f")}
    pair = same(
        "MatMulNBits",
        list(used),
        used,
        constants=["q", "s", "f"],
        K=40,
        N=5,
        bits=bits,
        block_size=16,
    )
    assert pair.operators == {"Transpose", "MatMul"}


def test_whole_float_zero_points_are_integers(same: Same, rng: np.random.Generator) -> None:
    given = arrays(rng, bits=4, inputs=32, block=16)
    used = {
        name: np.rint(given[name]) if name == "f" else given[name] for name in ("a", "q", "s", "f")
    }
    assert same(
        "MatMulNBits", list(used), used, constants=["q", "s", "f"], K=32, N=5, bits=4, block_size=16
    ).outcome.bits


@pytest.mark.parametrize("kind", [np.float16])
def test_half_precision(same: Same, rng: np.random.Generator, kind: type) -> None:
    given = arrays(rng, bits=4, inputs=64, block=32, kind=kind)
    used = {name: given[name] for name in ("a", "q", "s")}
    same(
        "MatMulNBits",
        list(used),
        used,
        constants=["q", "s"],
        tolerance=5e-3,
        twin=False,
        K=64,
        N=5,
        bits=4,
        block_size=32,
    )


def test_inputs_in_another_order(same: Same, rng: np.random.Generator) -> None:
    given = arrays(rng, bits=4, inputs=32, block=16)
    used = {name: given[name] for name in ("a", "q", "s")} | {
        "g": rng.permutation(np.arange(32) // 16).astype(np.int32)
    }
    pair = same(
        "MatMulNBits",
        ["a", "q", "s", "", "g"],
        used,
        constants=["q", "s", "g"],
        K=32,
        N=5,
        bits=4,
        block_size=16,
    )
    assert dict(pair.outcome.bits) == {"q.levels": 4}


def test_rounded_activations_are_read_exactly(
    pair: Callable[..., Pair], rng: np.random.Generator
) -> None:
    given = arrays(rng, bits=4, inputs=64, block=32)
    used = {name: given[name] for name in ("a", "q", "s")}
    how = {
        "opset": 17,
        "domain": "com.microsoft",
        "outputs": ["y"],
        "constants": ["q", "s"],
        "symbolic": True,
    }
    made = pair(
        "MatMulNBits",
        list(used),
        used,
        attributes={"K": 64, "N": 5, "bits": 4, "block_size": 32, "accuracy_level": 4},
        **how,
    )
    levels = unpacked(given["q"].reshape(5, -1), 4).astype(np.float64) - 8
    expected = given["a"] @ (levels * np.repeat(given["s"], 32, axis=1)).T
    np.testing.assert_allclose(
        made.run(made.lowered)[0], expected, rtol=0, atol=1e-5 * np.abs(expected).max()
    )
    assert "accuracy_level = 4" in made.outcome.instead[0]


def test_what_is_not_covered_stays(pair: Callable[..., Pair], rng: np.random.Generator) -> None:
    given = arrays(rng, bits=4, inputs=32, block=16) | {"g": np.zeros(32, np.int32)}
    how = {
        "opset": 17,
        "domain": "com.microsoft",
        "outputs": ["y"],
        "symbolic": True,
        "attributes": {"K": 32, "N": 5, "bits": 4, "block_size": 16},
    }
    fed = pair(
        "MatMulNBits",
        ["a", "q", "s"],
        {name: given[name] for name in ("a", "q", "s")},
        constants=["s"],
        **how,
    )
    assert "its weights 'q' are no initializer" in fed.outcome.notes[0]
    both = pair(
        "MatMulNBits",
        ["a", "q", "s", "z", "g"],
        {name: given[name] for name in "aqszg"},
        constants=list("qszg"),
        **how,
    )
    assert "group indices and zero points" in both.outcome.notes[0]


@pytest.mark.parametrize("zeros", [False, True])
@pytest.mark.parametrize("bits", [2, 4, 8])
def test_embedding_of_few_bits(
    same: Same, rng: np.random.Generator, bits: int, zeros: bool
) -> None:
    used = {
        "t": pack(rng.integers(0, 2**bits, (10, 64)), bits),
        "i": np.array([[1, 9], [0, 3]], np.int64),
        "s": rng.uniform(0.1, 0.2, (10, 4)).astype(np.float32),
    }
    used |= {"z": pack(rng.integers(0, 2**bits, (10, 4)), bits)} if zeros else {}
    same(
        "GatherBlockQuantized",
        list(used),
        used,
        constants=[name for name in used if name != "i"],
        bits=bits,
        block_size=16,
        gather_axis=0,
        quantize_axis=1,
    )


@pytest.mark.parametrize("kind", [0, 1])
def test_codes_of_bitsandbytes(same: Same, rng: np.random.Generator, kind: int) -> None:
    used = {
        "a": rng.normal(size=(3, 32)).astype(np.float32),
        "q": rng.integers(0, 256, 32 * 6 // 2).astype(np.uint8),
        "m": rng.uniform(0.5, 1, 32 * 6 // 16).astype(np.float32),
    }
    pair = same(
        "MatMulBnb4",
        list(used),
        used,
        constants=["q", "m"],
        K=32,
        N=6,
        block_size=16,
        quant_type=kind,
    )
    assert pair.operators == {"Transpose", "MatMul"}
