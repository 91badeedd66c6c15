"""A device profile from one's own measurements."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tomli_w

from cimrobust.device.fit import FittedProfile, Form, fit
from cimrobust.device.intervals import deviation_interval
from cimrobust.device.load_profile import profile_of
from cimrobust.device.measurement_plot import draw_fit
from cimrobust.device.measurements import Measurements, read_measurements
from cimrobust.device.profile import DeviceProfile
from cimrobust.errors import UsageError
from cimrobust.files import sha256_of, write_whole
from cimrobust.input_file import printable

_PLOTS = (".svg", ".png")


@dataclass(frozen=True)
class Fitted:
    """A fitted profile and where it was written."""

    profile: DeviceProfile
    fitted: FittedProfile
    measured: Measurements
    path: Path
    plot: Path | None

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON: files, box, and how well every target is described."""
        low, high = deviation_interval(self.profile)
        return {
            "profile": str(self.path),
            "name": self.profile.name,
            "plot": None if self.plot is None else str(self.plot),
            "devices": self.measured.num_devices,
            "outside_window": self.measured.num_outside,
            "levels": self.profile.device.num_levels,
            "box_low": low,
            "box_high": high,
            "left_out": self.fitted.left_out,
            "targets": [target.model_dump() for target in self.fitted.targets],
        }


def fit_profile(
    measurements: str | Path,
    *,
    out: str | Path,
    plot: str | Path | None = None,
    name: str | None = None,
    source: str | None = None,
    form: Form = "table",
    bits: int | None = None,
    target_column: str = "target",
    measured_column: str = "measured",
    g_min: float | None = None,
    g_max: float | None = None,
    relative: bool = False,
) -> Fitted:
    """Fit a profile to measured conductances and write it.

    Arguments as for `device.measurements.read_measurements` and `device.fit.fit`.

    Args:
        measurements: CSV file, one device a row.
        out: Profile file to write, .toml.
        plot: Picture to write, .svg or .png; None: none.
        name: Name of the profile; None: that of the file.
        source: Where the measurements come from; None: name and digest of the CSV file.
        form: ``table`` or ``curve``.
        bits: Bits a device stores.
        target_column: Column of target conductances.
        measured_column: Column of measured conductances.
        g_min: Lowest conductance, microsiemens.
        g_max: Highest.
        relative: The file holds normalised conductances.

    Raises:
        UsageError: A setting is wrong, or a file cannot be written.
        InputRefusedError: The measurements are no table of enough devices.
    """
    path, target = Path(measurements), Path(out)
    picture = None if plot is None else Path(plot)
    _require_targets(target, picture)
    measured = read_measurements(
        path,
        target_column=target_column,
        measured_column=measured_column,
        g_min=g_min,
        g_max=g_max,
        relative=relative,
    )
    stated = source or f"measurements in {path.name}, sha256 {sha256_of(path)}"
    fitted = fit(measured, name=name or target.stem, source=stated, form=form, bits=bits)
    text = (
        f"# {measured.num_devices} devices at {len(measured.targets)} targets, fitted by `cimrobust"
        f" devices fit` as a {form}.\n{tomli_w.dumps(dict(fitted.tables))}"
    )
    profile = profile_of(fitted.tables, shown=str(target))
    image = None if picture is None else draw_fit(measured, profile, picture)
    try:
        write_whole(target, text.encode())
        if picture is not None and image is not None:
            write_whole(picture, image)
    except OSError as err:
        raise UsageError(
            f"output files must be writable, got {err.strerror} ({printable(target)}, --out);"
            " choose"
            " another place"
        ) from err
    return Fitted(profile, fitted, measured, target, picture)


def _require_targets(out: Path, plot: Path | None) -> None:
    if out.suffix != ".toml":
        raise UsageError(
            f"profile must be written to a .toml file, got '{printable(out.name)}' (--out); give it"
            " that suffix"
        )
    if plot is not None and plot.suffix not in _PLOTS:
        raise UsageError(
            f"plot must be an .svg or .png file, got '{printable(plot.name)}' (--plot); give it one"
            " of these suffixes"
        )
    for path in (out, *([] if plot is None else [plot])):
        if path.is_dir() or not path.parent.is_dir():
            raise UsageError(
                f"output must be a file in a folder that exists, got '{printable(path)}' (--out,"
                " --plot); choose another place"
            )
