"""A profile from one's own measurements: it gives the measurements back, and bad files end in one
clear line.
"""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from scipy import stats

from cimrobust.cli.main import run
from cimrobust.device.fitted_profile import fit_profile
from cimrobust.device.intervals import level_bounds
from cimrobust.device.load_profile import load_profile
from cimrobust.engine.kernel import program_devices
from cimrobust.mapping.place import place
from cimrobust.onnx_io.layers import CrossbarLayer, LayerScan

TARGETS = np.linspace(2.0, 40.0, 8)
DEVICES = 3000


def _deviations(target: float, rng: np.random.Generator) -> np.ndarray:
    """Skewed, wider at high conductances, not centred: a Gamma distribution."""
    return 0.2 * (1 + 0.05 * target) * (rng.gamma(4.0, 0.5, DEVICES) - 1.8)


@pytest.fixture(scope="module")
def csv(tmp_path_factory: pytest.TempPathFactory) -> Path:
    rng, path = np.random.default_rng(1), tmp_path_factory.mktemp("measured") / "devices.csv"
    rows = [
        f"{target:.6f},{target + deviation:.6f}"
        for target in TARGETS
        for deviation in _deviations(target, rng)
    ]
    path.write_text("target,measured\n" + "\n".join(rows) + "\n")
    return path


def _programmed(profile_path: Path, level: int, count: int = 20_000) -> np.ndarray:
    """Deviations in microsiemens of devices that a profile programs to a level; one more device
    holds the highest.
    """
    profile = load_profile(profile_path)
    top = profile.device.num_levels - 1
    values = np.full((count + 1, 1), level, np.float32)
    profile = replace(profile, weight=replace(profile.weight, bits=profile.device.bits))
    values[-1] = top
    layer = CrossbarLayer(
        "w", (), values.shape, 1, count + 1, 1, values, np.zeros(values.shape, np.int32)
    )
    (levels,) = program_devices(place(LayerScan((layer,), ()), profile), seed=2, trial=0).values()
    return (levels.ravel()[:-1] - level) / top * 38.0


def test_a_table_gives_the_measured_distribution_back(csv: Path, tmp_path: Path) -> None:
    assert run(["devices", "fit", str(csv), "-o", str(tmp_path / "p.toml")]) == 0
    fresh = np.random.default_rng(7)
    for level in (0, 3, 7):
        drawn = _programmed(tmp_path / "p.toml", level)
        true = _deviations(TARGETS[level], fresh)
        distance = stats.ks_2samp(drawn, true).statistic
        assert distance < 0.05
        assert drawn.mean() == pytest.approx(true.mean(), abs=0.03 * true.std() + 0.01)


def test_box_reaches_to_what_was_measured(csv: Path, tmp_path: Path) -> None:
    fitted = fit_profile(csv, out=tmp_path / "p.toml")
    low, high = (
        bound / (fitted.profile.device.num_levels - 1) for bound in level_bounds(fitted.profile)
    )
    for level, target in enumerate(fitted.fitted.targets):
        assert low[level] == pytest.approx(min(target.low, 0.0), abs=1e-6)
        assert high[level] == pytest.approx(max(target.high, 0.0), abs=1e-6)
    # Wilks: of 3000 devices the smallest and largest leave out 0.16 % at 95 % confidence.
    assert fitted.fitted.left_out == pytest.approx(0.00158, rel=0.01)


def test_what_the_extremes_leave_out_is_covered_as_stated(tmp_path: Path) -> None:
    rng, bound = np.random.default_rng(3), stats.beta.ppf(0.95, 2, 199)
    drawn = np.sort(rng.random((4000, 200)), axis=1)
    covered = (drawn[:, 0] + 1 - drawn[:, -1] <= bound).mean()
    assert covered == pytest.approx(0.95, abs=5 * np.sqrt(0.95 * 0.05 / 4000))


def test_levels_between_targets_are_interpolated(csv: Path, tmp_path: Path) -> None:
    profile = fit_profile(csv, out=tmp_path / "p.toml", bits=5).profile
    spread = [row[75] - row[25] for row in profile.device.level_quantiles]
    assert len(spread) == 32
    assert all(after >= before - 2e-3 for before, after in pairwise(spread))


def test_a_curve_recovers_the_polynomial_of_sigma(tmp_path: Path) -> None:
    rng = np.random.default_rng(5)
    relative = np.linspace(0.1, 1.0, 12)
    sigma = 0.01 + 0.04 * relative - 0.02 * relative**2
    rows = [
        f"{40 * x},{40 * x + 36 * s * z}"
        for x, s in zip(relative, sigma, strict=True)
        for z in rng.normal(size=5000)
    ]
    (tmp_path / "d.csv").write_text("wanted,got\n" + "\n".join(rows) + "\n")
    arguments = [
        "devices",
        "fit",
        str(tmp_path / "d.csv"),
        "-o",
        str(tmp_path / "p.toml"),
        "--form",
        "curve",
        "--target-column",
        "wanted",
    ]
    assert run([*arguments, "--measured-column", "got"]) == 0
    profile = load_profile(tmp_path / "p.toml")
    positions = (relative - 0.1) / 0.9
    np.testing.assert_allclose(profile.device.sigma.at(positions, profile.window), sigma, rtol=0.05)  # type: ignore[union-attr]


def test_result_as_json_and_plots(
    csv: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert (
        run(
            [
                "devices",
                "fit",
                str(csv),
                "-o",
                str(tmp_path / "p.toml"),
                "--plot",
                str(tmp_path / "p.svg"),
                "--json",
            ]
        )
        == 0
    )
    result = json.loads(capsys.readouterr().out)
    assert result["devices"] == DEVICES * len(TARGETS)
    assert len(result["targets"]) == len(TARGETS)
    assert all(target["distance"] < target["significant"] for target in result["targets"])
    assert ElementTree.parse(tmp_path / "p.svg").getroot().tag.endswith("svg")
    fit_profile(csv, out=tmp_path / "p.toml", plot=tmp_path / "p.png")
    assert (tmp_path / "p.png").read_bytes().startswith(b"\x89PNG")


def test_same_measurements_same_files(csv: Path, tmp_path: Path) -> None:
    for name in ("a", "b"):
        fit_profile(csv, out=tmp_path / f"{name}.toml", plot=tmp_path / f"{name}.svg", name="same")
    assert (tmp_path / "a.toml").read_bytes() == (tmp_path / "b.toml").read_bytes()
    assert (tmp_path / "a.svg").read_bytes() == (tmp_path / "b.svg").read_bytes()


def _rows(*rows: str, header: str = "target,measured") -> bytes:
    return "\n".join([header, *rows]).encode()


_GOOD = [f"{target},{target + 0.001 * index}" for target in (1.0, 2.0) for index in range(30)]


@pytest.mark.parametrize(
    ("content", "more", "code", "problem"),
    [
        (_rows(*_GOOD, header="target,got"), [], 2, "one column 'measured'"),
        (_rows(*_GOOD, "1.0,nan"), [], 5, "row 62"),
        (_rows(*_GOOD, "1.0,"), [], 5, "must hold finite numbers, got none"),
        (_rows(*_GOOD, "1.0,abc"), [], 5, "column 'measured' must hold numbers, got string"),
        (_rows(*_GOOD, "3.0,3.0"), [], 5, "at least 20 devices"),
        (
            _rows(*_GOOD),
            ["--g-min", "1.5"],
            5,
            "targets must lie in the conductance range, got -1",
        ),
        (
            _rows(*_GOOD),
            ["--g-min", "5", "--g-max", "4"],
            2,
            "conductance range must rise from 0 or more",
        ),
        (_rows(*_GOOD), ["--relative"], 5, "conductance range"),
        (_rows(*_GOOD), ["--form", "curve"], 2, "at least 4 targets"),
        (_rows() + b"\n", [], 5, "measurements must have rows, got none"),
        (_rows(*_GOOD), ["-o", "p.json"], 2, "profile must be written to a .toml file"),
        (_rows(*_GOOD), ["--plot", "p.gif"], 2, "plot must be an .svg or .png file"),
        (b"", [], 5, "CSV"),
        (bytes(range(256)) * 20, [], 5, "CSV"),
    ],
)
def test_bad_measurements_end_in_one_line(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    content: bytes,
    more: list[str],
    code: int,
    problem: str,
) -> None:
    (tmp_path / "d.csv").write_bytes(content)
    assert (
        run(["devices", "fit", str(tmp_path / "d.csv"), "-o", str(tmp_path / "p.toml"), *more])
        == code
    )
    message = capsys.readouterr().err
    assert problem in message
    assert message.count("\n") == 1
    assert not (tmp_path / "p.toml").exists()


@pytest.mark.parametrize(
    ("out", "plot"),
    [("p.txt", "p.svg"), ("p.toml", "p.pdf"), ("none/p.toml", "p.svg"), ("p.toml", "none/p.svg")],
)
def test_outputs_must_be_writable_files(csv: Path, tmp_path: Path, out: str, plot: str) -> None:
    assert (
        run(["devices", "fit", str(csv), "-o", str(tmp_path / out), "--plot", str(tmp_path / plot)])
        == 2
    )


def test_a_disk_that_is_full_is_told(
    csv: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("cimrobust.device.fitted_profile.write_whole", full)
    assert run(["devices", "fit", str(csv), "-o", str(tmp_path / "p.toml")]) == 2
    assert "output files must be writable, got No space left" in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments",
    [["list"], ["show", "pcm-joshi-2020", "--levels"], ["list", "--json"], ["show", "sonos-like"]],
)
def test_profiles_are_listed_and_shown(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["devices", *arguments]) == 0
    assert len(capsys.readouterr().out.splitlines()) > 10
