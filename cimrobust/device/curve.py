"""A number of a device as a function of the conductance it is programmed to."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
from pydantic import Discriminator, Field, Tag, model_validator

from cimrobust.device.table_types import Conductance, Fraction, Listed, Real, Table

if TYPE_CHECKING:
    from cimrobust.array_shapes import Float64
    from cimrobust.device.window import WindowTable


@dataclass(frozen=True)
class Piece(Table):
    """The form of a curve.

    With v the variable: `polynomial` sum_k c_k v^k; `saturating` c_0 (1 - exp(-v / c_1));
    `logarithmic` c_0 ln v + c_1; `points` linear between (x, y) and constant outside; `piecewise`
    one of `pieces`, the one after a break holding from the break on.
    """

    form: Literal["polynomial", "saturating", "logarithmic", "points", "piecewise"]
    """`polynomial`; `saturating`: c0 (1 - exp(-v / c1)); `logarithmic`: c0 ln v + c1; `points`:
    linear between them; `piecewise`."""
    coefficients: Annotated[tuple[Real, ...], Listed(most=32)] = ()
    """Of a polynomial, ascending powers; of the other two formulas c0 and c1."""
    x: Annotated[tuple[Real, ...], Listed(most=10_000)] = ()
    """For `points`: values of the variable, ascending."""
    y: Annotated[tuple[Real, ...], Listed(most=10_000)] = ()
    """For `points`: values of the curve."""
    breaks: Annotated[tuple[Real, ...], Listed(most=32)] = ()
    """For `piecewise`: where one piece ends and the next begins, ascending."""
    pieces: Annotated[tuple[Piece, ...], Listed(most=32)] = ()
    """For `piecewise`: one curve more than there are breaks."""
    clip: Annotated[tuple[Real, Real], Listed(2, 2)] | None = None
    """Least and largest value of the curve."""

    def shape_at(self, v: Float64[np.ndarray, "*shape"]) -> Float64[np.ndarray, "*shape"]:
        """Return the form at values of its variable, clipped; float64 of the same shape."""
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
            values = np.stack([piece.shape_at(v) for piece in self.pieces])
            index = np.searchsorted(np.asarray(self.breaks), v, side="right")
            result = np.take_along_axis(values, index[None], axis=0)[0]
        return np.asarray(result if self.clip is None else np.clip(result, *self.clip))

    def form_stated(self) -> dict[str, Any]:
        """Return what the form states, as plain values, but for the clip."""
        plain: dict[str, Any] = {"form": self.form}
        for name in ("coefficients", "x", "y", "breaks"):
            if getattr(self, name):
                plain[name] = list(getattr(self, name))
        if self.pieces:
            plain["pieces"] = [
                {**piece.form_stated(), **piece.clip_stated()} for piece in self.pieces
            ]
        return plain

    def clip_stated(self) -> dict[str, Any]:
        """Return the clip as a plain value; empty where there is none."""
        return {} if self.clip is None else {"clip": list(self.clip)}

    @model_validator(mode="after")
    def _fits(self) -> Piece:
        self.check_form()
        return self

    def check_form(self) -> None:
        """Refuse, with ValueError, what its form does not take, and the lack of what it needs."""
        used = {"points": ("x", "y"), "piecewise": ("breaks", "pieces")}.get(
            self.form, ("coefficients",)
        )
        extra = [
            key
            for key in ("coefficients", "x", "y", "breaks", "pieces")
            if getattr(self, key) and key not in used
        ]
        if extra:
            raise ValueError(f"form '{self.form}' takes no '{extra[0]}'")
        self._has_what_it_needs()
        for key in ("x", "breaks", "clip"):
            values = list(getattr(self, key) or ())
            if values != sorted(values):
                raise ValueError(f"'{key}' must ascend")

    def _has_what_it_needs(self) -> None:
        if self.form == "polynomial" and not self.coefficients:
            raise ValueError("form 'polynomial' needs 'coefficients', ascending powers")
        if self.form in ("saturating", "logarithmic") and len(self.coefficients) != 2:
            raise ValueError(f"form '{self.form}' needs two 'coefficients'")
        if self.form == "saturating" and self.coefficients[1] <= 0:
            raise ValueError("form 'saturating' needs a second coefficient above 0")
        if self.form == "points" and (len(self.x) < 2 or len(self.x) != len(self.y)):
            raise ValueError(
                "form 'points' needs 'x' and 'y' of the same length, at least two values"
            )
        if self.form == "piecewise" and (
            not self.breaks or len(self.pieces) != len(self.breaks) + 1
        ):
            raise ValueError("form 'piecewise' needs 'breaks' and one more 'pieces' than breaks")


@dataclass(frozen=True)
class Curve(Piece):
    """A curve with its variable and unit.

    The variable, unit and reference of its pieces are those of the whole.
    """

    variable: Literal["relative", "microsiemens"] = "relative"
    """What the curve depends on: the target conductance as a share of g_max, or in microsiemens."""
    unit: Literal["fraction", "microsiemens", "number"] = "fraction"
    """Of its values: fraction of the range, microsiemens, or a plain number (drift exponents)."""
    reference_g_max_microsiemens: Conductance | None = None
    """g_max of the devices that the curve was measured on: it scales with that of the window."""
    factor: Annotated[Real, Field(ge=0, le=1e6)] = 1.0
    """Multiplies the curve."""

    @property
    def needs_window(self) -> bool:
        """Whether the curve has no meaning without a conductance window in microsiemens."""
        return "microsiemens" in (self.unit, self.variable)

    def at(
        self, position: Float64[np.ndarray, "*shape"], window: WindowTable | None
    ) -> Float64[np.ndarray, "*shape"]:
        """Evaluate the curve.

        Args:
            position: Target conductances, normalised: 0 is g_min, 1 is g_max.
            window: The programmable range; None: g_min is zero.

        Returns:
            Fractions of the full range, or plain numbers for a curve of unit ``number``; float64.
        """
        result = self.shape_at(self._variable(position, window))
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
        plain = {**self.form_stated(), "variable": self.variable, "unit": self.unit}
        if self.reference_g_max_microsiemens is not None:
            plain["reference_g_max_microsiemens"] = self.reference_g_max_microsiemens
        plain |= self.clip_stated()
        if self.factor != 1.0:
            plain["factor"] = self.factor
        return plain

    def _variable(
        self, position: Float64[np.ndarray, "*shape"], window: WindowTable | None
    ) -> Float64[np.ndarray, "*shape"]:
        if window is None:
            return position
        low, high = window.g_min_microsiemens, window.g_max_microsiemens
        relative = (low + position * (high - low)) / high
        if self.variable == "relative":
            return relative
        return relative * (self.reference_g_max_microsiemens or high)

    @model_validator(mode="after")
    def _fits(self) -> Curve:
        # pydantic finds validators of a base class only where that class has been read before.
        self.check_form()
        if self.reference_g_max_microsiemens is not None and not self.needs_window:
            raise ValueError("'reference_g_max_microsiemens' belongs to a curve in microsiemens")
        return self


Number = float | Curve
"""A number of a device: the same for every conductance, or a curve."""


def _kind(value: Any) -> str:
    return "<curve>" if isinstance(value, dict | Curve) else "<number>"


FractionOrCurve = Annotated[
    Annotated[Fraction, Tag("<number>")] | Annotated[Curve, Tag("<curve>")], Discriminator(_kind)
]
NumberOrCurve = Annotated[
    Annotated[Real, Field(ge=-1e6, le=1e6), Tag("<number>")] | Annotated[Curve, Tag("<curve>")],
    Discriminator(_kind),
]


def number_at(
    number: Number | None, position: Float64[np.ndarray, "*shape"], window: WindowTable | None
) -> Float64[np.ndarray, "*shape"]:
    """Return a number at normalised target conductances, float64; what is not stated is zero."""
    if isinstance(number, Curve):
        return number.at(position, window)
    return np.full_like(position, number or 0.0)


def scale_number(number: Number | None, factor: float) -> Number | None:
    """Return a number multiplied by a factor."""
    if number is None:
        return None
    return number.scaled(factor) if isinstance(number, Curve) else number * factor
