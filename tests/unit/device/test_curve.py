"""Curves: published tables, forms, units."""

from __future__ import annotations

import numpy as np
import pytest

from cimrobust.device.curve import Curve, number_at, scale_number
from cimrobust.device.window import WindowTable

POSITIONS = np.array([0.0, 0.1, 0.25, 0.5, 0.75, 1.0])
PCM = Curve(
    "polynomial", (0.26348, 1.9650, -1.1731), unit="microsiemens", reference_g_max_microsiemens=25.0
)
HERMES = Curve(
    "polynomial",
    (0.16603222, 4.71806468, -8.48101252, 4.68961419),
    unit="microsiemens",
    reference_g_max_microsiemens=20.7,
)
NEURRAM = Curve(
    "polynomial",
    (0.348, 16.030, -43.853, 45.393, -16.815),
    unit="microsiemens",
    reference_g_max_microsiemens=40.0,
)
JOSHI = Curve(
    "polynomial",
    (0.28638599, 0.07585724, -0.00178767),
    variable="microsiemens",
    unit="microsiemens",
    reference_g_max_microsiemens=25.0,
)
SONOS = Curve(
    "saturating",
    (19.88665, 176.3115),
    variable="microsiemens",
    unit="microsiemens",
    reference_g_max_microsiemens=1600.0,
)
LLM = Curve(
    "piecewise",
    breaks=(52.5,),
    variable="microsiemens",
    unit="microsiemens",
    reference_g_max_microsiemens=180.0,
    pieces=(
        Curve("polynomial", (2.579741, 0.2241969, -3.715812e-3, 2.939751e-5)),
        Curve("polynomial", (2.1102957, 0.2453487, -3.0549934e-3, 1.2329755e-5)),
    ),
)


@pytest.mark.parametrize("g_max", [10.0, 25.0, 40.0, 1600.0])
@pytest.mark.parametrize(
    ("curve", "percent"),
    [
        (PCM, [1.05, 1.79, 2.73, 3.81, 4.31, 4.22]),
        (HERMES, [0.80, 2.69, 4.29, 4.79, 4.41, 5.28]),
        (NEURRAM, [0.87, 3.89, 5.65, 5.06, 3.83, 2.76]),
        (JOSHI, [1.15, 1.86, 2.76, 3.82, 4.32, 4.26]),
        (SONOS, [0.00, 0.74, 1.11, 1.23, 1.24, 1.24]),
        (LLM, [1.43, 3.10, 4.35, 4.69, 5.49, 10.67]),
    ],
    ids=["PCM", "HERMES", "NeuRRAM", "Joshi", "SONOS", "LLM"],
)
def test_published_tables_hold_for_every_g_max(curve, percent, g_max):
    got = 100 * curve.at(POSITIONS, WindowTable(0.0, g_max))
    np.testing.assert_allclose(got, percent, atol=0.0051)  # the table has two decimals


@pytest.mark.parametrize(
    ("g_min", "g_max", "coefficients", "at_ends"),
    [
        (9.0, 88.2, (0.01121854, 0.01129027), (0.142, 1.271)),
        (50.0, 225.0, (4.782321, -0.009107), (2.472, 1.562)),
    ],
    ids=["CMO", "Milo"],
)
def test_absolute_curves_over_a_window_that_starts_above_zero(g_min, g_max, coefficients, at_ends):
    curve = Curve("polynomial", coefficients, variable="microsiemens", unit="microsiemens")
    np.testing.assert_allclose(
        100 * curve.at(np.array([0.0, 1.0]), WindowTable(g_min, g_max)), at_ends, atol=6e-4
    )


@pytest.mark.parametrize("factor", [1e-3, 7.0])
def test_curves_do_not_change_with_the_unit_of_conductance(factor):
    window, other = WindowTable(9.0, 88.2), WindowTable(9.0 * factor, 88.2 * factor)
    coefficients = (0.011, 0.0113, -2e-5)
    both = [
        Curve(
            "polynomial",
            tuple(c * f ** (1 - k) for k, c in enumerate(coefficients)),
            variable="microsiemens",
            unit="microsiemens",
        ).at(POSITIONS, w)
        for f, w in ((1.0, window), (factor, other))
    ]
    np.testing.assert_allclose(both[0], both[1], rtol=1e-12)  # float64 rounding of a few terms


def test_logarithms_are_clipped_where_they_are_infinite():
    exponent = Curve("logarithmic", (-0.0155, 0.0244), unit="number", clip=(0.049, 0.1))
    np.testing.assert_allclose(
        exponent.at(np.array([0.0, 0.1, 1.0]), None), [0.1, -0.0155 * np.log(0.1) + 0.0244, 0.049]
    )


def test_a_piece_holds_from_its_break_on():
    curve = Curve(
        "piecewise",
        breaks=(0.25,),
        pieces=(Curve("polynomial", (1.0,)), Curve("polynomial", (2.0, 1.0))),
    )
    np.testing.assert_array_equal(curve.at(np.array([0.0, 0.25, 1.0]), None), [1.0, 2.25, 3.0])


def test_points_are_joined_by_lines_and_constant_outside():
    curve = Curve("points", x=(0.2, 0.4), y=(1.0, 3.0))
    np.testing.assert_allclose(curve.at(np.array([0.0, 0.3, 1.0]), None), [1.0, 2.0, 3.0])


def test_numbers_are_the_same_everywhere_and_scale():
    np.testing.assert_array_equal(number_at(0.5, POSITIONS, None), 0.5)
    np.testing.assert_array_equal(number_at(None, POSITIONS, None), 0.0)
    assert scale_number(None, 2.0) is None
    scaled = scale_number(PCM, 2.0)
    np.testing.assert_allclose(
        number_at(scaled, POSITIONS, WindowTable(0, 25)), 2 * PCM.at(POSITIONS, WindowTable(0, 25))
    )
