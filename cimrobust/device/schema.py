"""What a profile file may hold, checked key by key."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Discriminator, Field, Tag, model_validator

from cimrobust.device.converters import AdcSettings, DacSettings


def _not_tiny(value: float) -> float:
    """Refuse what is neither nothing nor anything that a device shows: its square, or a quotient by it, leaves float64."""
    if 0 < value < 1e-12:
        raise ValueError("must be 0 or at least 1e-12 of the range")
    return value


Fraction = Annotated[float, Field(ge=0, le=1), AfterValidator(_not_tiny)]
# Below a hundredth of a sigma a box holds next to no device.
Count = Annotated[float, Field(ge=0.01, le=8)]
# From a nanosecond to 30 000 years; the logarithm of their ratio is what counts, and it must not overflow.
Seconds = Annotated[float, Field(ge=1e-9, le=1e12)]
Conductance = Annotated[float, Field(ge=1e-9, le=1e9)]
Points = Annotated[list[float], Field(max_length=10_000)]


class Strict(BaseModel):
    """A table without unknown keys, infinities or NaN."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)


class PieceModel(Strict):
    """The form of a curve."""

    form: Literal["polynomial", "saturating", "logarithmic", "points", "piecewise"]
    coefficients: Annotated[list[float], Field(max_length=32)] = []
    x: Points = []
    y: Points = []
    breaks: Annotated[list[float], Field(max_length=32)] = []
    pieces: Annotated[list[PieceModel], Field(max_length=32)] = []
    clip: Annotated[list[float], Field(min_length=2, max_length=2)] | None = None

    @model_validator(mode="after")
    def _fits_its_form(self) -> PieceModel:
        used = {"points": ("x", "y"), "piecewise": ("breaks", "pieces")}.get(self.form, ("coefficients",))
        extra = [key for key in ("coefficients", "x", "y", "breaks", "pieces") if getattr(self, key) and key not in used]
        if extra:
            raise ValueError(f"form '{self.form}' takes no '{extra[0]}'")
        if self.form == "polynomial" and not self.coefficients:
            raise ValueError("form 'polynomial' needs 'coefficients', ascending powers")
        if self.form in ("saturating", "logarithmic") and len(self.coefficients) != 2:
            raise ValueError(f"form '{self.form}' needs two 'coefficients'")
        if self.form == "saturating" and self.coefficients[1] <= 0:
            raise ValueError("form 'saturating' needs a second coefficient above 0")
        if self.form == "points" and (len(self.x) < 2 or len(self.x) != len(self.y)):
            raise ValueError("form 'points' needs 'x' and 'y' of the same length, at least two values")
        if self.form == "piecewise" and (not self.breaks or len(self.pieces) != len(self.breaks) + 1):
            raise ValueError("form 'piecewise' needs 'breaks' and one more 'pieces' than breaks")
        for key in ("x", "breaks", "clip"):
            values = getattr(self, key) or []
            if values != sorted(values):
                raise ValueError(f"'{key}' must ascend")
        return self


class CurveModel(PieceModel):
    """A curve with its variable and unit."""

    variable: Literal["relative", "microsiemens"] = "relative"
    unit: Literal["fraction", "microsiemens", "number"] = "fraction"
    reference_g_max_microsiemens: Conductance | None = None
    factor: Annotated[float, Field(ge=0, le=1e6)] = 1.0

    @model_validator(mode="after")
    def _reference_means_something(self) -> CurveModel:
        if self.reference_g_max_microsiemens is not None and "microsiemens" not in (self.unit, self.variable):
            raise ValueError("'reference_g_max_microsiemens' belongs to a curve in microsiemens")
        return self


def _kind(value: Any) -> str:
    return "<curve>" if isinstance(value, dict | CurveModel) else "<number>"


FractionOrCurve = Annotated[Annotated[Fraction, Tag("<number>")] | Annotated[CurveModel, Tag("<curve>")], Discriminator(_kind)]
Moderate = Annotated[float, Field(ge=-1e6, le=1e6)]
NumberOrCurve = Annotated[Annotated[Moderate, Tag("<number>")] | Annotated[CurveModel, Tag("<curve>")], Discriminator(_kind)]


Quantiles = Annotated[list[Annotated[float, Field(ge=-1, le=1)]], Field(max_length=100_000)]


class WeightModel(Strict):
    """Table [weight]."""

    bits: Annotated[int, Field(ge=1, le=16)] = 8
    scale: Literal["tensor", "column"] = "tensor"
    mapping: Literal["sign_magnitude", "differential", "offset"] = "sign_magnitude"


class DeviceModel(Strict):
    """Table [device]."""

    bits: Annotated[int, Field(ge=1, le=8)] = 2
    tolerance: FractionOrCurve | None = None
    tolerance_low: FractionOrCurve | None = None
    tolerance_high: FractionOrCurve | None = None
    distribution: Literal["truncated_gaussian", "uniform", "gaussian", "table"] = "truncated_gaussian"
    sigma: FractionOrCurve | None = None
    z: Count = 3.0
    quantiles: Quantiles = []
    level_quantiles: Annotated[list[Quantiles], Field(max_length=256)] = []

    @model_validator(mode="after")
    def _complete(self) -> DeviceModel:
        verified = self._is_verified()
        if self.distribution in ("truncated_gaussian", "uniform") and not verified:
            raise ValueError(
                f"distribution '{self.distribution}' needs 'tolerance'; without write-verify give distribution = \"gaussian\" and 'sigma'"
            )
        if self.distribution == "gaussian" and verified:
            raise ValueError("distribution 'gaussian' is unbounded and takes no 'tolerance'; with write-verify use \"truncated_gaussian\"")
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
            raise ValueError("distribution 'table' needs at least two 'quantiles', or as many in each row of 'level_quantiles'")
        if any(table != sorted(table) for table in tables):
            raise ValueError("quantiles must ascend")
        if self.level_quantiles and len(self.level_quantiles) != 2**self.bits:
            raise ValueError(f"'level_quantiles' needs a row for each of the {2**self.bits} levels, got {len(self.level_quantiles)}")

    def _is_verified(self) -> bool:
        sides = (self.tolerance_low is not None, self.tolerance_high is not None)
        if self.tolerance is not None and any(sides):
            raise ValueError("give either 'tolerance' or 'tolerance_low' and 'tolerance_high'")
        if any(sides) and not all(sides):
            raise ValueError("'tolerance_low' and 'tolerance_high' belong together")
        return self.tolerance is not None or any(sides)

    def _quantiles_fit(self) -> None:
        low, high = (side if side is not None else self.tolerance for side in (self.tolerance_low, self.tolerance_high))
        if not self.quantiles or low is None or high is None:
            return
        if isinstance(low, CurveModel) or isinstance(high, CurveModel):
            raise ValueError("'quantiles' go with one 'tolerance', not with a curve")
        if self.quantiles[0] < -low or self.quantiles[-1] > high:
            raise ValueError("'quantiles' must lie within 'tolerance'")


class TileModel(Strict):
    """Table [tile]."""

    rows: Annotated[int, Field(ge=1, le=1_000_000)] = 128
    columns: Annotated[int, Field(ge=1, le=1_000_000)] = 128
    grouped: Literal["separate", "dense"] = "separate"


class WindowModel(Strict):
    """Table [window]."""

    g_min_microsiemens: Annotated[float, Field(ge=0, le=1e9)]
    g_max_microsiemens: Conductance
    clips: bool = False

    @model_validator(mode="after")
    def _has_width(self) -> WindowModel:
        if self.g_min_microsiemens >= self.g_max_microsiemens:
            raise ValueError("'g_min_microsiemens' must be below 'g_max_microsiemens'")
        return self


class FaultsModel(Strict):
    """Table [faults]."""

    stuck_low: Annotated[float, Field(ge=0, lt=1)] = 0.0
    stuck_high: Annotated[float, Field(ge=0, lt=1)] = 0.0

    @model_validator(mode="after")
    def _some_devices_work(self) -> FaultsModel:
        if self.stuck_low + self.stuck_high >= 1:
            raise ValueError("'stuck_low' and 'stuck_high' must add up to less than 1")
        return self


class RelaxationModel(Strict):
    """Table [relaxation]."""

    sigma: FractionOrCurve
    z: Count = 3.0


class DriftModel(Strict):
    """Table [drift]."""

    time_seconds: Annotated[float, Field(ge=0, le=1e12)]
    t0_seconds: Seconds = 1.0
    model: Literal["power", "shift"] = "power"
    exponent_mean: NumberOrCurve = 0.0
    exponent_sd: NumberOrCurve = 0.0
    mean: NumberOrCurve = 0.0
    sd: NumberOrCurve = 0.0
    mean_per_log_second: NumberOrCurve = 0.0
    sd_per_log_second: NumberOrCurve = 0.0
    z: Count = 3.0
    compensation: Literal["none", "global"] = "none"

    @model_validator(mode="after")
    def _fits_its_model(self) -> DriftModel:
        shift = ("mean", "sd", "mean_per_log_second", "sd_per_log_second")
        other = shift if self.model == "power" else ("exponent_mean", "exponent_sd")
        extra = [key for key in other if getattr(self, key) != 0.0]
        if extra:
            raise ValueError(f"model '{self.model}' takes no '{extra[0]}'")
        return self


class ReadNoiseModel(Strict):
    """Table [read_noise]."""

    sigma: FractionOrCurve


class LayerModel(Strict):
    """A [[layer]] table. Its own tables are checked together with those of the profile, which fill in what they leave out."""

    match: Annotated[str, Field(min_length=1, max_length=1000)] | None = None
    operator: Annotated[str, Field(min_length=1, max_length=200)] | None = None
    position: Annotated[list[int], Field(min_length=2, max_length=2)] | None = None
    digital: bool | None = None
    source: Annotated[str, Field(max_length=2000)] = ""
    weight: dict[str, Any] = {}
    device: dict[str, Any] = {}
    tile: dict[str, Any] = {}

    @model_validator(mode="after")
    def _says_which_and_what(self) -> LayerModel:
        given = [key for key in ("match", "operator", "position") if getattr(self, key) is not None]
        if len(given) != 1:
            raise ValueError(f"a rule needs exactly one of 'match', 'operator' and 'position', got {' and '.join(given) or 'none'}")
        tables = [key for key in ("weight", "device", "tile") if getattr(self, key)]
        if self.digital and tables:
            raise ValueError(f"a layer that stays digital has no devices and takes no '{tables[0]}'")
        if self.digital is None and not tables:
            raise ValueError("a rule needs 'digital' or keys of 'weight', 'device' or 'tile'")
        if self.position is not None and (self.position[0] < 0) == (self.position[1] < 0) and self.position[0] > self.position[1]:
            raise ValueError("'position' must name the first layer before the last")
        return self


class ProfileModel(Strict):
    """A profile file."""

    format: Literal[1] = Field(alias="schema")
    name: Annotated[str, Field(min_length=1, max_length=100)]
    source: Annotated[str, Field(max_length=2000)] = "not stated"
    weight: WeightModel = WeightModel()
    device: DeviceModel
    tile: TileModel = TileModel()
    dac: DacSettings | None = None
    adc: AdcSettings | None = None
    window: WindowModel | None = None
    faults: FaultsModel | None = None
    relaxation: RelaxationModel | None = None
    drift: DriftModel | None = None
    read_noise: ReadNoiseModel | None = None
    layer: Annotated[list[LayerModel], Field(max_length=1000)] | None = None

    @model_validator(mode="after")
    def _units_have_a_window(self) -> ProfileModel:
        for key, curve in self.curves():
            if self.window is None and "microsiemens" in (curve.unit, curve.variable):
                raise ValueError(f"'{key}' is in microsiemens and needs a [window] with g_min_microsiemens and g_max_microsiemens")
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
