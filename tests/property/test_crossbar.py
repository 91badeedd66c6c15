"""The crossbar product against its NumPy reference, bit for bit, over random shapes and modes; and
arguments that must not crash it.
"""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cimrobust import _native
from cimrobust.device.load_profile import load_profile
from cimrobust.device.quantiles import tabulate
from cimrobust.engine import crossbar_reference as reference
from cimrobust.engine.crossbar_product import (
    CellLayout,
    ConvGeometry,
    Crossbar,
    InputCoding,
    OutputCoding,
    ReadNoise,
)

TABLE = tabulate(load_profile("pcm-no-verify"))


def codings(
    layout: CellLayout, num_planes: int, rng: np.random.Generator
) -> tuple[InputCoding, OutputCoding, ReadNoise | None]:
    passes, bits = int(rng.integers(1, 4)), int(rng.integers(1, 4))
    top = 2 ** (passes * bits) - 1
    rounding = InputCoding(
        float(rng.uniform(3, 60)),
        int(rng.integers(0, 3)),
        int(rng.choice([0, -top])),
        top,
        passes,
        bits,
    )
    shape = (num_planes, layout.num_row_tiles, layout.num_columns)
    output = OutputCoding(
        gain=rng.uniform(0.1, 1, shape).astype(np.float32),
        inverse_step=rng.uniform(0.1, 1, shape).astype(np.float32) if rng.random() < 0.8 else None,
        low=int(rng.choice([0, -127, -128])),
        high=127,
        column_scale=rng.uniform(0.1, 1, layout.num_columns).astype(np.float32),
        bias=rng.normal(size=layout.num_columns).astype(np.float32),
        input_sum_gain=float(rng.choice([0.0, 2.5])),
    )
    size = layout.groups * layout.rows * layout.cols
    noise = ReadNoise(
        [rng.uniform(0, 1, size).astype(np.float32) for _ in range(num_planes)], TABLE, 12345
    )
    return (
        rounding if rng.random() < 0.8 else InputCoding(),
        output,
        noise if rng.random() < 0.4 else None,
    )


def geometry(rng: np.random.Generator) -> ConvGeometry:
    axes = int(rng.integers(1, 4))

    def sizes(low: int, high: int, missing: int) -> tuple[int, int, int]:
        drawn = [missing] * (3 - axes) + [int(value) for value in rng.integers(low, high, axes)]
        return drawn[0], drawn[1], drawn[2]

    size, kernel, stride = sizes(1, 12 if axes > 1 else 60, 1), sizes(1, 4, 1), sizes(1, 4, 1)
    dilation, pad = sizes(1, 3, 1), sizes(0, 3, 0)
    behind = sizes(0, 3, 0)
    out = [
        max((size[a] + pad[a] + behind[a] - (kernel[a] - 1) * dilation[a] - 1) // stride[a] + 1, 1)
        for a in range(3)
    ]
    return ConvGeometry(size, (out[0], out[1], out[2]), kernel, stride, dilation, pad)


def layout_of(rows: int, rng: np.random.Generator) -> CellLayout:
    groups = int(rng.integers(1, 4))
    cols = int(rng.integers(1, 70)) if rng.random() < 0.3 else int(rng.integers(1, 12))
    tile_rows = int(rng.integers(1, rows + 5))
    strides = [(cols * rows, 1, rows), (cols * rows, cols, 1)][int(rng.integers(2))]
    return CellLayout(groups, rows, cols, tile_rows, strides)


def planes_of(layout: CellLayout, rng: np.random.Generator) -> list[np.ndarray]:
    size = layout.groups * layout.rows * layout.cols
    return [rng.normal(0, 5, size).astype(np.float32) for _ in range(int(rng.integers(1, 4)))]


@settings(max_examples=150, deadline=None)
@given(seed=st.integers(0, 2**31))
def test_convolution_equals_the_reference_on_every_instruction_set(seed):
    rng = np.random.default_rng(seed)
    shape, channels = geometry(rng), int(rng.integers(1, 5))
    layout = layout_of(channels * int(np.prod(shape.kernel)), rng)
    planes = planes_of(layout, rng)
    inputs, outputs, noise = codings(layout, len(planes), rng)
    x = rng.normal(size=(int(rng.integers(1, 5)), layout.groups * channels, *shape.in_size)).astype(
        np.float32
    )
    expected = reference.conv(
        x, shape, layout, planes, inputs, outputs, noise=noise, first_vector=7
    )
    for level in _native.simd_levels():
        array = Crossbar(layout, planes, inputs, outputs, noise=noise, for_conv=True, simd=level)
        for threads in (1, 3):
            np.testing.assert_array_equal(
                array.conv(x, shape, first_vector=7, threads=threads), expected
            )


@settings(max_examples=100, deadline=None)
@given(seed=st.integers(0, 2**31))
def test_vectors_equal_the_reference_on_every_instruction_set(seed):
    rng = np.random.default_rng(seed)
    layout = layout_of(int(rng.integers(1, 60)), rng)
    planes = planes_of(layout, rng)
    inputs, outputs, noise = codings(layout, len(planes), rng)
    x = rng.normal(size=(int(rng.integers(0, 150)), layout.groups * layout.rows)).astype(np.float32)
    expected = reference.vectors(
        x, layout, planes, inputs, outputs, noise=noise, first_vector=2**33
    )
    for level in _native.simd_levels():
        array = Crossbar(layout, planes, inputs, outputs, noise=noise, for_conv=False, simd=level)
        for threads in (1, 3):
            np.testing.assert_array_equal(
                array.vectors(x, first_vector=2**33, threads=threads), expected
            )


def test_large_images_are_cut_into_bands_without_a_trace():
    rng = np.random.default_rng(5)
    shape = ConvGeometry((1, 300, 300), (1, 150, 149), (1, 3, 3), (1, 2, 2), (1, 1, 1), (0, 1, 0))
    layout = CellLayout(1, 9 * 8, 2, 40, (144, 1, 72))
    planes = [rng.normal(size=144).astype(np.float32)]
    outputs = OutputCoding(
        np.ones((1, 2, 2), np.float32), None, 0, 0, np.ones(2, np.float32), np.zeros(2, np.float32)
    )
    noise = ReadNoise([np.ones(144, np.float32)], TABLE, 3)
    inputs = InputCoding(20.0, 0, -15, 15, 2, 2)
    x = rng.normal(size=(2, 8, 1, 300, 300)).astype(np.float32)
    got = Crossbar(layout, planes, inputs, outputs, noise=noise, for_conv=True).conv(
        x, shape, threads=3
    )
    np.testing.assert_array_equal(
        got, reference.conv(x, shape, layout, planes, inputs, outputs, noise=noise)
    )


@pytest.mark.parametrize("level", _native.simd_levels())
def test_nan_stays_nan_and_infinity_saturates(level):
    layout = CellLayout(1, 4, 3, 4, (12, 3, 1))
    outputs = OutputCoding(
        np.ones((1, 1, 3), np.float32),
        np.ones((1, 1, 3), np.float32),
        -7,
        7,
        np.ones(3, np.float32),
        np.zeros(3, np.float32),
    )
    array = Crossbar(
        layout,
        [np.ones(12, np.float32)],
        InputCoding(1.0, 0, -3, 3, 1, 0),
        outputs,
        for_conv=False,
        simd=level,
    )
    x = np.zeros((20, 4), np.float32)
    x[1, 2], x[2, 1] = np.nan, np.inf
    y = array.vectors(x)
    assert np.isnan(y[1]).all()
    np.testing.assert_array_equal(y[2], 3)
    assert not y[[0, *range(3, 20)]].any()


@given(a=st.floats(width=32), b=st.floats(width=32), c=st.floats(width=32))
def test_fused_multiply_add_rounds_once(a, b, c):
    got = reference.fused_multiply_add(np.float32(a), np.float32(b), np.float32(c))
    if np.isfinite([a, b, c]).all():
        exact = Fraction(a) * Fraction(b) + Fraction(c)
        if abs(exact) < 2**100 and (exact == 0 or abs(exact) > 2.0**-120):
            neighbours = [np.nextafter(got, np.float32(s)) for s in (-np.inf, np.inf)]
            assert all(
                abs(Fraction(float(got)) - exact) <= abs(Fraction(float(other)) - exact)
                for other in neighbours
            )


def good_arguments() -> tuple[dict[str, Any], dict[str, Any]]:
    empty = np.empty(0, np.float32)
    making = {
        "planes": [np.ones(24, np.float32)],
        "variances": [],
        "groups": 1,
        "rows": 8,
        "cols": 3,
        "tile_rows": 4,
        "strides": (24, 3, 1),
        "columns_on": "lanes",
    }
    running = {
        "x": np.ones(16, np.float32),
        "y": np.empty(6, np.float32),
        "num_vectors": 2,
        "gain": np.ones(6, np.float32),
        "inverse_step": empty,
        "column_scale": np.ones(3, np.float32),
        "bias": np.ones(3, np.float32),
        "inverse_scale": None,
        "zero_point": 0.0,
        "levels": (0.0, 0.0),
        "num_passes": 1,
        "bits_per_pass": 0,
        "codes": (0.0, 0.0),
        "input_sum_gain": 0.0,
        "knots": empty,
        "slopes": empty,
        "noise_key": 0,
        "first_vector": 0,
        "threads": 1,
    }
    return making, running


ODD = st.one_of(
    st.none(),
    st.integers(-(2**70), 2**70),
    st.integers(-3, 9),
    st.floats(),
    st.text(max_size=3),
    st.just(np.ones(6)),
    st.just([]),
    st.just(np.ones((2, 3), np.float32)),
    st.just(np.ones(12, np.float32)[::2]),
    st.just(np.ones(6, np.int32)),
    st.just(np.empty(0, np.float32)),
    st.just([np.ones(3, np.float32)]),
    st.just((2**40, 2**40, 2**40)),
    st.just((0, 0, 0)),
    st.just((-1, 1, 1)),
    st.just((1.0, -1.0)),
)


@settings(max_examples=400, deadline=None)
@given(data=st.data())
def test_bad_arguments_get_a_python_error(data):
    making, running = good_arguments()
    chosen = data.draw(
        st.lists(st.sampled_from([*making, *running]), min_size=1, max_size=3, unique=True)
    )
    for name in chosen:
        (making if name in making else running)[name] = data.draw(ODD)
    try:
        array = _native.CrossbarArray(**making)
        array.vectors(**running)
    except (TypeError, ValueError, MemoryError):
        return


CONV = {
    "batch": 1,
    "channels": 2,
    "in_size": (1, 1, 9),
    "out_size": (1, 1, 6),
    "kernel": (1, 1, 4),
    "stride": (1, 1, 1),
    "dilation": (1, 1, 1),
    "pad": (0, 0, 0),
}


@settings(max_examples=400, deadline=None)
@given(data=st.data())
def test_bad_geometries_get_a_python_error(data):
    making, running = good_arguments()
    running.pop("num_vectors")
    running.update(CONV, x=np.ones(18, np.float32), y=np.empty(18, np.float32))
    making["columns_on"] = data.draw(st.sampled_from(["rows", "rows", "rows", "lanes"]))
    sizes = st.tuples(*[st.integers(-1, 12) | st.integers(0, 2**66)] * 3)
    for name in data.draw(st.lists(st.sampled_from(list(CONV)), max_size=4, unique=True)):
        running[name] = data.draw(
            sizes if name not in ("batch", "channels") else st.integers(-2, 2**66)
        )
    try:
        _native.CrossbarArray(**making).conv(**running)
    except (TypeError, ValueError, MemoryError):
        return
