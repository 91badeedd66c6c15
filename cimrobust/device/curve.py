"""A number of a device as a function of the conductance it is programmed to."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from cimrobust.device.window import WindowTable


@dataclass(frozen=True)
class Curve:
    """A number as a function of the target conductance.

    With v the variable, the forms are: ``polynomial`` sum_k c_k v^k; ``saturating`` c_0 (1 - exp(-v
    / c_1)); ``logarithmic`` c_0 ln v + c_1; ``points``
    linear between (x, y) and constant outside; ``piecewise`` one of `pieces`, the one after a break
    holding from the break on.

    Attributes:
        form: One of the forms above.
        coefficients: Of the form, polynomials in ascending powers.
        x: For ``points``: values of the variable, ascending.
        y: For ``points``: results.
        breaks: For ``piecewise``: where one piece ends and the next begins, ascending; one fewer
            than pieces.
        pieces: For ``piecewise``: curves; their variable, unit and reference are those of the
            whole.
        variable: ``relative``: g / g_max, as in most publications; ``microsiemens``: g.
        unit: ``fraction`` of the full range g_max - g_min; ``microsiemens``; ``number``, for what
            is no conductance.
        reference_g_max_microsiemens: The g_max that a curve in microsiemens was published for; it
            is scaled in proportion to another g_max, and a
            variable in microsiemens with it. None: the curve is absolute.
        clip: Smallest and largest result, in its unit; None: unlimited.
        factor: What the result is multiplied by at last.
    """

    form: str
    coefficients: tuple[float, ...] = ()
    x: tuple[float, ...] = ()
    y: tuple[float, ...] = ()
    breaks: tuple[float, ...] = ()
    pieces: tuple[Curve, ...] = ()
    variable: str = "relative"
    unit: str = "fraction"
    reference_g_max_microsiemens: float | None = None
    clip: tuple[float, float] | None = None
    factor: float = 1.0

    @property
    def needs_window(self) -> bool:
        """Whether the curve has no meaning without a conductance window in microsiemens."""
        return "microsiemens" in (self.unit, self.variable)

    def at(self, position: np.ndarray, window: WindowTable | None) -> np.ndarray:
        """Evaluate the curve.

        Args:
            position: Target conductances, normalised: 0 is g_min, 1 is g_max.
            window: The programmable range; None: g_min is zero.

        Returns:
            Fractions of the full range, or plain numbers for a curve of unit ``number``; float64.
        """
        result = self._shape(self._variable(position, window))
        if self.unit == "microsiemens" and window is not None:
            reference = self.reference_g_max_microsiemens
            published = 1.0 if reference is None else window.g_max_microsiemens / reference
            result = result * (published / (window.g_max_microsiemens - window.g_min_microsiemens))
        return np.asarray(self.factor * result)

    def scaled(self, factor: float) -> Curve:
        """Return the curve with its result multiplied."""
        return replace(self, factor=self.factor * factor)

    def to_dict(self) -> dict[str, Any]:
        """Return what the curve states, as plain values."""
        plain: dict[str, Any] = {"form": self.form}
        for name in ("coefficients", "x", "y", "breaks"):
            if getattr(self, name):
                plain[name] = list(getattr(self, name))
        if self.pieces:
            plain["pieces"] = [
                {key: value for key, value in piece.to_dict().items() if key not in _OF_THE_WHOLE}
                for piece in self.pieces
            ]
        plain |= {"variable": self.variable, "unit": self.unit}
        if self.reference_g_max_microsiemens is not None:
            plain["reference_g_max_microsiemens"] = self.reference_g_max_microsiemens
        if self.clip is not None:
            plain["clip"] = list(self.clip)
        if self.factor != 1.0:
            plain["factor"] = self.factor
        return plain

    def _variable(self, position: np.ndarray, window: WindowTable | None) -> np.ndarray:
        if window is None:
            return position
        low, high = window.g_min_microsiemens, window.g_max_microsiemens
        relative = (low + position * (high - low)) / high
        if self.variable == "relative":
            return relative
        return relative * (self.reference_g_max_microsiemens or high)

    def _shape(self, v: np.ndarray) -> np.ndarray:
        c = self.coefficients
        if self.form == "polynomial":
            result = np.polynomial.polynomial.polyval(v, np.asarray(c))
        elif self.form == "saturating":
            result = c[0] * -np.expm1(-v / c[1])
        elif self.form == "logarithmic":
            # At v = 0 the logarithm is infinite, which a clip makes finite.
            with np.errstate(divide="ignore"):
                result = c[0] * np.log(v) + c[1] if c[0] != 0.0 else np.full_like(v, c[1])
        elif self.form == "points":
            result = np.interp(v, self.x, self.y)
        else:
            values = np.stack([piece._shape(v) for piece in self.pieces])
            index = np.searchsorted(np.asarray(self.breaks), v, side="right")
            result = np.take_along_axis(values, index[None], axis=0)[0]
        return np.asarray(result if self.clip is None else np.clip(result, *self.clip))


Number = float | Curve
"""A number of a device: the same for every conductance, or a curve."""

_OF_THE_WHOLE = ("variable", "unit", "reference_g_max_microsiemens")


def number_at(
    number: Number | None, position: np.ndarray, window: WindowTable | None
) -> np.ndarray:
    """Return a number at normalised target conductances, float64; what is not stated is zero."""
    if isinstance(number, Curve):
        return number.at(position, window)
    return np.full_like(position, number or 0.0)


def scale_number(number: Number | None, factor: float) -> Number | None:
    """Return a number multiplied by a factor."""
    if number is None:
        return None
    return number.scaled(factor) if isinstance(number, Curve) else number * factor
