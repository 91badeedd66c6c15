"""What a profile file may hold, checked key by key."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    Tag,
    model_validator,
)

from cimrobust.device.converter_tables import AdcSettings, DacSettings


def _not_tiny(value: float) -> float:
    """Refuse what is neither nothing nor anything that a device shows.

    Its square, or a quotient by it, leaves float64.
    """
    if 0 < value < 1e-12:
        raise ValueError("must be 0 or at least 1e-12 of the range")
    return value


Fraction = Annotated[float, Field(ge=0, le=1), AfterValidator(_not_tiny)]
# Below a hundredth of a sigma a box holds next to no device.
Count = Annotated[float, Field(ge=0.01, le=8)]
# From a nanosecond to 30 000 years; the logarithm of their ratio is what counts, and it must not
# overflow.
Seconds = Annotated[float, Field(ge=1e-9, le=1e12)]
Conductance = Annotated[float, Field(ge=1e-9, le=1e9)]
Points = Annotated[list[float], Field(max_length=10_000)]


class Strict(BaseModel):
    """A table without unknown keys, infinities or NaN."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)


class PieceModel(Strict):
    """The form of a curve."""

    form: Literal["polynomial", "saturating", "logarithmic", "points", "piecewise"]
    """`polynomial`; `saturating`: c0 (1 - exp(-v / c1)); `logarithmic`: c0 ln v + c1; `points`:
    linear between them; `piecewise`."""
    coefficients: Annotated[list[float], Field(max_length=32)] = []
    """Of a polynomial, ascending powers; of the other two formulas c0 and c1."""
    x: Points = []
    """For `points`: values of the variable, ascending."""
    y: Points = []
    """For `points`: values of the curve."""
    breaks: Annotated[list[float], Field(max_length=32)] = []
    """For `piecewise`: where one piece ends and the next begins, ascending."""
    pieces: Annotated[list[PieceModel], Field(max_length=32)] = []
    """For `piecewise`: one curve more than there are breaks."""
    clip: Annotated[list[float], Field(min_length=2, max_length=2)] | None = None
    """Least and largest value of the curve."""

    @model_validator(mode="after")
    def _fits_its_form(self) -> PieceModel:
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
        for key in ("x", "breaks", "clip"):
            values = getattr(self, key) or []
            if values != sorted(values):
                raise ValueError(f"'{key}' must ascend")
        return self


class CurveModel(PieceModel):
    """A curve with its variable and unit."""

    variable: Literal["relative", "microsiemens"] = "relative"
    """What the curve depends on: the target conductance as a share of g_max, or in microsiemens."""
    unit: Literal["fraction", "microsiemens", "number"] = "fraction"
    """Of its values: fraction of the range, microsiemens, or a plain number (drift exponents)."""
    reference_g_max_microsiemens: Conductance | None = None
    """g_max of the devices that the curve was measured on: it scales with that of the window."""
    factor: Annotated[float, Field(ge=0, le=1e6)] = 1.0
    """Multiplies the curve."""

    @model_validator(mode="after")
    def _reference_means_something(self) -> CurveModel:
        if self.reference_g_max_microsiemens is not None and "microsiemens" not in (
            self.unit,
            self.variable,
        ):
            raise ValueError("'reference_g_max_microsiemens' belongs to a curve in microsiemens")
        return self


def _kind(value: Any) -> str:
    return "<curve>" if isinstance(value, dict | CurveModel) else "<number>"


FractionOrCurve = Annotated[
    Annotated[Fraction, Tag("<number>")] | Annotated[CurveModel, Tag("<curve>")],
    Discriminator(_kind),
]
Moderate = Annotated[float, Field(ge=-1e6, le=1e6)]
NumberOrCurve = Annotated[
    Annotated[Moderate, Tag("<number>")] | Annotated[CurveModel, Tag("<curve>")],
    Discriminator(_kind),
]


Quantiles = Annotated[list[Annotated[float, Field(ge=-1, le=1)]], Field(max_length=100_000)]


class WeightModel(Strict):
    """Table [weight]: how a weight becomes levels."""

    bits: Annotated[int, Field(ge=1, le=16)] = 8
    """Magnitude bits of a weight."""
    scale: Literal["tensor", "column"] = "tensor"
    """One scale for a tensor, or one for each output column."""
    mapping: Literal["sign_magnitude", "differential", "offset"] = "sign_magnitude"
    """How signs are stored: one device a slice and a digital sign, pairs of devices, or one device
    beside a reference column."""


class DeviceModel(Strict):
    """Table [device]: how precisely one device is programmed."""

    bits: Annotated[int, Field(ge=1, le=8)] = 2
    """Bits that one device stores."""
    tolerance: FractionOrCurve | None = None
    """Write-verify accepts a device within this fraction of the range around its target. Left out:
    no write-verify, or one with two sides."""
    tolerance_low: FractionOrCurve | None = None
    """With a tolerance of two sides: how far below its target a device is accepted."""
    tolerance_high: FractionOrCurve | None = None
    """How far above."""
    distribution: Literal["truncated_gaussian", "uniform", "gaussian", "table"] = (
        "truncated_gaussian"
    )
    """Of the deviation: Gaussian cut at the tolerance, uniform within it, Gaussian without
    write-verify, or a table of quantiles."""
    sigma: FractionOrCurve | None = None
    """Standard deviation of the Gaussian, fraction of the range."""
    z: Count = 3.0
    """Without write-verify: half-width of the tolerance box in sigmas."""
    quantiles: Quantiles = []
    """For `table`: deviations at equally spaced probabilities from 0 to 1, ascending, the same at
    every level."""
    level_quantiles: Annotated[list[Quantiles], Field(max_length=256)] = []
    """The same with a row for every level."""

    @model_validator(mode="after")
    def _complete(self) -> DeviceModel:
        verified = self._is_verified()
        if self.distribution in ("truncated_gaussian", "uniform") and not verified:
            raise ValueError(
                f"distribution '{self.distribution}' needs 'tolerance'; without write-verify give"
                " distribution = \"gaussian\" and 'sigma'"
            )
        if self.distribution == "gaussian" and verified:
            raise ValueError(
                "distribution 'gaussian' is unbounded and takes no 'tolerance'; with write-verify"
                ' use "truncated_gaussian"'
            )
        if self.distribution in ("truncated_gaussian", "gaussian") and self.sigma is None:
            raise ValueError(f"distribution '{self.distribution}' needs 'sigma'")
        self._tables_fit()
        self._quantiles_fit()
        return self

    def _tables_fit(self) -> None:
        if bool(self.quantiles) and bool(self.level_quantiles):
            raise ValueError("give either 'quantiles' or 'level_quantiles'")
        tables = self.level_quantiles or [self.quantiles]
        if self.distribution == "table" and min(len(table) for table in tables) < 2:
            raise ValueError(
                "distribution 'table' needs at least two 'quantiles', or as many in each row of"
                " 'level_quantiles'"
            )
        if any(table != sorted(table) for table in tables):
            raise ValueError("quantiles must ascend")
        if self.level_quantiles and len(self.level_quantiles) != 2**self.bits:
            raise ValueError(
                f"'level_quantiles' needs a row for each of the {2**self.bits} levels, got"
                f" {len(self.level_quantiles)}"
            )

    def _is_verified(self) -> bool:
        sides = (self.tolerance_low is not None, self.tolerance_high is not None)
        if self.tolerance is not None and any(sides):
            raise ValueError("give either 'tolerance' or 'tolerance_low' and 'tolerance_high'")
        if any(sides) and not all(sides):
            raise ValueError("'tolerance_low' and 'tolerance_high' belong together")
        return self.tolerance is not None or any(sides)

    def _quantiles_fit(self) -> None:
        low, high = (
            side if side is not None else self.tolerance
            for side in (self.tolerance_low, self.tolerance_high)
        )
        if not self.quantiles or low is None or high is None:
            return
        if isinstance(low, CurveModel) or isinstance(high, CurveModel):
            raise ValueError("'quantiles' go with one 'tolerance', not with a curve")
        if self.quantiles[0] < -low or self.quantiles[-1] > high:
            raise ValueError("'quantiles' must lie within 'tolerance'")


class TileModel(Strict):
    """Table [tile]: one physical array."""

    rows: Annotated[int, Field(ge=1, le=1_000_000)] = 128
    """Word lines of an array."""
    columns: Annotated[int, Field(ge=1, le=1_000_000)] = 128
    """Bit lines of an array."""
    grouped: Literal["separate", "dense"] = "separate"
    """Every group of a grouped convolution has arrays of its own, or all are blocks of one dense
    matrix whose zero cells deviate too."""


class WindowModel(Strict):
    """Table [window]: the programmable range of conductances."""

    g_min_microsiemens: Annotated[float, Field(ge=0, le=1e9)]
    """Conductance of level 0."""
    g_max_microsiemens: Conductance
    """Conductance of the highest level."""
    clips: bool | Literal["zero"] = False
    """No device leaves the range, whatever its deviation or drift; `"zero"`: no conductance is
    negative, but it may pass g_max."""

    @model_validator(mode="after")
    def _has_width(self) -> WindowModel:
        if self.g_min_microsiemens >= self.g_max_microsiemens:
            raise ValueError("'g_min_microsiemens' must be below 'g_max_microsiemens'")
        return self


class FaultsModel(Strict):
    """Table [faults]: devices that cannot be programmed.

    They neither deviate nor drift, and lie outside the tolerance box.
    """

    stuck_low: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Share of devices that stay at g_min."""
    stuck_high: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Share of devices that stay at g_max."""

    @model_validator(mode="after")
    def _some_devices_work(self) -> FaultsModel:
        if self.stuck_low + self.stuck_high >= 1:
            raise ValueError("'stuck_low' and 'stuck_high' must add up to less than 1")
        return self


class RelaxationModel(Strict):
    """Table [relaxation]: gaussian change of the conductance after verification."""

    sigma: FractionOrCurve
    """Standard deviation of the change after verification, fraction of the range."""
    z: Count = 3.0
    """Half-width of the tolerance box in sigmas."""


class DriftModel(Strict):
    """Table [drift]: change of the conductance with time, after relaxation."""

    time_seconds: Annotated[float, Field(ge=0, le=1e12)]
    """Time after programming at which the chip is used."""
    t0_seconds: Seconds = 1.0
    """Time after programming at which the conductance was verified. Before it nothing drifts."""
    model: Literal["power", "shift"] = "power"
    """`power`: g(t0) (t / t0)^-nu; `shift`: adds a Gaussian that grows with ln(t / t0)."""
    exponent_mean: NumberOrCurve = 0.0
    """For `power`: mean of nu."""
    exponent_sd: NumberOrCurve = 0.0
    """For `power`: standard deviation of nu, one draw a device."""
    mean: NumberOrCurve = 0.0
    """For `shift`: mean at t0, fraction of the range."""
    sd: NumberOrCurve = 0.0
    """For `shift`: standard deviation at t0."""
    mean_per_log_second: NumberOrCurve = 0.0
    """For `shift`: growth of the mean per factor e of time."""
    sd_per_log_second: NumberOrCurve = 0.0
    """For `shift`: growth of the standard deviation per factor e of time."""
    z: Count = 3.0
    """Half-width of the tolerance box in sigmas of nu or of the shift."""
    compensation: Literal["none", "global"] = "none"
    """`global`: the outputs of a layer are multiplied by one number."""

    @model_validator(mode="after")
    def _fits_its_model(self) -> DriftModel:
        shift = ("mean", "sd", "mean_per_log_second", "sd_per_log_second")
        other = shift if self.model == "power" else ("exponent_mean", "exponent_sd")
        extra = [key for key in other if getattr(self, key) != 0.0]
        if extra:
            raise ValueError(f"model '{self.model}' takes no '{extra[0]}'")
        return self


class ReadNoiseModel(Strict):
    """Table [read_noise]: gaussian noise of a device at every read, independent between reads."""

    sigma: FractionOrCurve
    """Standard deviation of one read, fraction of the range. It is in no chip and in no box."""


class LayerModel(Strict):
    """A [[layer]] table.

    Its own tables are checked together with those of the profile, which fill in what they leave
    out.
    """

    match: Annotated[str, Field(min_length=1, max_length=1000)] | None = None
    """Pattern of the name of an initializer, or of a node that reads it: `*`, `?` and `[abc]` as
    in a shell."""
    operator: Annotated[str, Field(min_length=1, max_length=200)] | None = None
    """Operator that reads the initializer; of other domains `domain::Op`."""
    position: Annotated[list[int], Field(min_length=2, max_length=2)] | None = None
    """First and last of a range of crossbar layers, in graph order from 0; negative numbers count
    from the end."""
    digital: bool | None = None
    """The layers stay digital, with the weights of the file. `false` takes them back from an
    earlier rule."""
    source: Annotated[str, Field(max_length=2000)] = ""
    """Where the rule comes from."""
    weight: dict[str, Any] = {}
    """Keys of [weight] for these layers."""
    device: dict[str, Any] = {}
    """Keys of [device] for these layers; `tolerance` alone scales the profile's distribution."""
    tile: dict[str, Any] = {}
    """Keys of [tile] for these layers."""

    @model_validator(mode="after")
    def _says_which_and_what(self) -> LayerModel:
        given = [key for key in ("match", "operator", "position") if getattr(self, key) is not None]
        if len(given) != 1:
            raise ValueError(
                "a rule needs exactly one of 'match', 'operator' and 'position', got"
                f" {' and '.join(given) or 'none'}"
            )
        tables = [key for key in ("weight", "device", "tile") if getattr(self, key)]
        if self.digital and tables:
            raise ValueError(
                f"a layer that stays digital has no devices and takes no '{tables[0]}'"
            )
        if self.digital is None and not tables:
            raise ValueError("a rule needs 'digital' or keys of 'weight', 'device' or 'tile'")
        if (
            self.position is not None
            and (self.position[0] < 0) == (self.position[1] < 0)
            and self.position[0] > self.position[1]
        ):
            raise ValueError("'position' must name the first layer before the last")
        return self


class ProfileModel(Strict):
    """A profile file."""

    format: Literal[1] = Field(alias="schema")
    """Format of the profile."""
    name: Annotated[str, Field(min_length=1, max_length=100)]
    """Short name, as certificates show it."""
    source: Annotated[str, Field(max_length=2000)] = "not stated"
    """Where its numbers come from."""
    weight: WeightModel = WeightModel()
    """How a weight becomes levels."""
    device: DeviceModel
    """How precisely one device is programmed."""
    tile: TileModel = TileModel()
    """One physical array."""
    dac: DacSettings | None = None
    """Converters of the word lines. Left out: ideal."""
    adc: AdcSettings | None = None
    """Converters of the bit lines. Left out: ideal."""
    window: WindowModel | None = None
    """Programmable range of conductances. Left out: g_min is zero, and nothing is clipped."""
    faults: FaultsModel | None = None
    """Devices that cannot be programmed; they lie outside the tolerance box. Left out: none."""
    relaxation: RelaxationModel | None = None
    """Gaussian change after verification. Left out: none."""
    drift: DriftModel | None = None
    """Change with time, after relaxation. Left out: none."""
    read_noise: ReadNoiseModel | None = None
    """Gaussian noise of every read. Left out: none."""
    layer: Annotated[list[LayerModel], Field(max_length=1000)] | None = None
    """Rules for single layers; the last one that fits decides."""

    @model_validator(mode="after")
    def _units_have_a_window(self) -> ProfileModel:
        for key, curve in self.curves():
            if self.window is None and "microsiemens" in (curve.unit, curve.variable):
                raise ValueError(
                    f"'{key}' is in microsiemens and needs a [window] with g_min_microsiemens and"
                    " g_max_microsiemens"
                )
            wanted = "number" if key.startswith("drift.exponent") else "conductance"
            if (curve.unit == "number") != (wanted == "number"):
                expected = "'number'" if wanted == "number" else "'fraction' or 'microsiemens'"
                raise ValueError(f"'{key}' must be a curve of unit {expected}")
        return self

    def curves(self) -> Iterator[tuple[str, CurveModel]]:
        """Yield every curve with its dotted key."""
        for table in type(self).model_fields:
            value = getattr(self, table)
            if isinstance(value, BaseModel):
                for key in type(value).model_fields:
                    number = getattr(value, key)
                    if isinstance(number, CurveModel):
                        yield f"{table}.{key}", number
