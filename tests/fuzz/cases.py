"""One fuzzed case of each kind, as a function of a seed and a number."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import onnx

from cimrobust.certificate.policy import read_policy
from cimrobust.data.load_dataset import load_data
from cimrobust.device.load_profile import load_profile
from cimrobust.engine.open import open_network
from cimrobust.errors import CimrobustError, SelfCheckError
from cimrobust.onnx_io.load_network import load_network
from cimrobust.pipeline.inspection import Inspection, inspect_model
from tests.fuzz.mutations import damage_bytes, damage_json, damage_model, damage_toml
from tests.fuzz.outcome import (
    Fault,
    Outcome,
    declared_batch,
    outputs,
    parsed,
    require_same,
    run_command,
)
from tests.fuzz.random_models import random_inputs, random_model, write_model

ROOT = Path(__file__).resolve().parents[2]
SAMPLES = ROOT / "samples"
PROFILE = """schema = 1
name = "fuzzed"
[weight]
bits = 6
scale = "column"
mapping = "differential"
[device]
bits = 2
tolerance = 0.05
distribution = "truncated_gaussian"
sigma = 0.02
[tile]
rows = 64
columns = 64
[window]
g_min_microsiemens = 1.0
g_max_microsiemens = 20.0
[faults]
stuck_low = 0.001
stuck_high = 0.001
[drift]
time_seconds = 1000.0
exponent_mean = 0.01
exponent_sd = 0.002
"""
POLICY = """[require]
clean_accuracy = 0.5
worst_found_accuracy = 0.2
certified_accuracy = 0.05
kpp = { k = 10, confidence = 0.9, accuracy = 0.3 }
safety_class = { label = 1, recall = 0.1 }
effort = "quick"
"""
DESCRIPTION = """schema = 1
file = "d.npz"
[[input]]
array = "x"
dtype = "float32"
steps = [{ op = "subtract", value = 0.0 }, { op = "divide", value = 1 }]
[label]
array = "y"
[decision]
read = "argmax"
metric = "accuracy"
"""
RUN = ("--effort", "quick", "--limit", "8", "--trials", "3", "--workers", "1", "--seed", "1")

Case = Callable[[int, int, Path], Outcome]


def inspect_case(seed: int, index: int, folder: Path) -> Outcome:
    """A random network, sound or damaged, or a damaged sample, through `inspect`."""
    rng = np.random.default_rng([seed, index, 1])
    path, is_sound = _model_file(seed, index, folder, rng)
    ran = run_command("inspect", path, "--json")
    refused = ran.refusal()
    if refused is not None:
        return refused
    parsed(ran.out)
    return _compared(path, rng) if is_sound else Outcome("accepted")


def _model_file(seed: int, index: int, folder: Path, rng: np.random.Generator) -> tuple[Path, bool]:
    path, way = folder / "m.onnx", index % 10
    if way == 9:
        source = sorted(SAMPLES.glob("*.onnx"))
        path.write_bytes(damage_model(source[int(rng.integers(len(source)))].read_bytes(), rng))
        return path, False
    model = random_model([seed, index])
    write_model(model, path, rng)
    if way >= 5:
        path.write_bytes(damage_model(path.read_bytes(), rng))
        data = folder / "m.bin"
        if data.exists() and way == 5:
            data.write_bytes(damage_bytes(data.read_bytes(), rng))
    return path, way < 5


def _compared(path: Path, rng: np.random.Generator) -> Outcome:
    """Compare what we made of a network with the file itself, in plain onnxruntime."""
    model = onnx.load(path)
    samples = random_inputs(model, declared_batch(model) or 3, rng)
    expected = outputs(path, samples)
    if expected is None:
        return Outcome("accepted", "onnxruntime does not run the file")
    found = outputs(load_network(path).model.SerializeToString(), samples)
    if found is None:
        raise Fault("the normalised network does not run")
    require_same(found, expected, "the normalised network")
    return Outcome("number")


def analyze_case(seed: int, index: int, folder: Path) -> Outcome:
    """A random network with random data through `analyze`; some with damaged settings, data or
    model.
    """
    rng = np.random.default_rng([seed, index, 2])
    model = random_model([seed, index])
    path, way = folder / "m.onnx", index % 10
    write_model(model, path, rng)
    count = 4 * (declared_batch(model) or 2)
    samples = random_inputs(model, count, rng)
    expected = outputs(path, samples)
    labels = _labels(expected, count, rng)
    np.savez(folder / "d.npz", x=samples, y=labels)
    kind = "int64" if samples.dtype == np.int64 else "float32"
    text = DESCRIPTION.replace('"float32"', f'"{kind}"')
    (folder / "d.toml").write_text(text)
    options: list[object] = ["--data", folder / ("d.toml" if way % 2 else "d.npz")]
    if way == 5:
        path.write_bytes(damage_model(path.read_bytes(), rng))
    if way == 6:
        (folder / "d.npz").write_bytes(damage_bytes((folder / "d.npz").read_bytes(), rng))
    if way == 7:
        (folder / "d.toml").write_bytes(damage_toml(text, rng))
    if way in (3, 8):
        (folder / "p.toml").write_bytes(damage_toml(PROFILE, rng) if way == 8 else PROFILE.encode())
        options += ["--device", folder / "p.toml"]
    if way in (4, 9):
        (folder / "q.toml").write_bytes(damage_toml(POLICY, rng) if way == 9 else POLICY.encode())
        options += ["--policy", folder / "q.toml"]
    ran = run_command("analyze", path, *options, *RUN, "--out", folder / "out", "--json")
    refused = ran.refusal()
    if refused is not None:
        _require_nothing_written(folder / "out")
        return refused
    parsed(ran.out)
    return _checked(folder, path, samples, labels, is_sound=way not in (5, 6, 7))


def _labels(expected: np.ndarray | None, count: int, rng: np.random.Generator) -> np.ndarray:
    if expected is None:
        return rng.integers(0, 2, size=count)
    return np.where(
        rng.random(count) < 0.7,
        expected.argmax(axis=1),
        rng.integers(0, expected.shape[1], size=count),
    )


def _require_nothing_written(out: Path) -> None:
    written = {path.name for path in out.rglob("*") if path.is_file()} if out.exists() else set()
    final = written & {
        "certificate.json",
        "certificate.html",
        "trials.parquet",
        "worst_case.onnx",
        "deviations.safetensors",
    }
    if final:
        raise Fault(f"refused, but wrote {sorted(final)}")


def _checked(
    folder: Path, path: Path, samples: np.ndarray, labels: np.ndarray, *, is_sound: bool
) -> Outcome:
    """Compare a certificate with plain onnxruntime, and replay it."""
    certificate = json.loads((folder / "out" / "certificate.json").read_text())
    replayed = (
        parsed(
            run_command(
                "replay", folder / "out", "--model", path, "--data", folder / "d.npz", "--json"
            ).out
        )
        if is_sound
        else []
    )
    broken = [check["id"] for check in replayed if check["held"] is False]
    if broken:
        raise Fault(f"replay says broken: {broken}")
    if not is_sound:
        return Outcome("accepted")
    used = certificate["data"]["used"]
    # Where a network takes one range from all samples of a batch, they are run one at a time, and
    # the certificate says so.
    ways = [(False, False), (True, False), *([(False, True)] if _mixes_samples(path) else [])]
    scores = {
        float(np.mean(_decisions(path, samples, *way)[:used] == labels[:used])) for way in ways
    }
    if certificate["clean"]["score"] not in scores:
        raise Fault(
            f"clean score {certificate['clean']['score']}, plain onnxruntime says {sorted(scores)}"
        )
    worst, lowest = certificate["worst_found"]["score"], certificate["certified"]["score"]
    if lowest is not None and lowest > worst:
        raise Fault(f"certified {lowest} above worst found {worst}")
    return Outcome("number")


def _mixes_samples(path: Path) -> bool:
    return any(
        node.op_type.startswith("DynamicQuantize")
        for node in onnx.load(path, load_external_data=False).graph.node
    )


def _decisions(path: Path, samples: np.ndarray, optimised: bool, alone: bool) -> np.ndarray:
    parts = [samples[at : at + 1] for at in range(len(samples))] if alone else [samples]
    runs = [outputs(path, part, optimised=optimised) for part in parts]
    found = (
        None
        if any(run is None for run in runs)
        else np.concatenate([run for run in runs if run is not None])
    )
    if found is None:
        raise Fault("analyzed, but onnxruntime does not run the file")
    return np.asarray(found.argmax(axis=1))


@cache
def _inspection() -> Inspection:
    return inspect_model(SAMPLES / "breast_cancer_mlp.onnx", device="rram-write-verify-3pct")


def files_case(seed: int, index: int, folder: Path) -> Outcome:
    """Damaged settings and data files of every kind through the functions that read them."""
    rng = np.random.default_rng([seed, index, 3])
    way = index % 6
    try:
        if way == 0:
            (folder / "p.toml").write_bytes(damage_toml(PROFILE, rng))
            load_profile(folder / "p.toml")
        elif way == 1:
            (folder / "q.toml").write_bytes(damage_toml(POLICY, rng))
            read_policy(folder / "q.toml")
        else:
            _read_damaged_data(way, folder, rng)
    except SelfCheckError as err:
        raise Fault(f"self-check: {err}") from err
    except CimrobustError as err:
        if not str(err).isprintable() or err.exit_code not in (2, 4, 5):
            raise Fault(f"not one clear line, or exit code {err.exit_code}: {err!r}") from err
        return Outcome("refused", str(err))
    return Outcome("accepted")


def _read_damaged_data(way: int, folder: Path, rng: np.random.Generator) -> None:
    inspection = _inspection()
    x, y = rng.normal(size=(6, 30)).astype(np.float32), rng.integers(0, 2, 6)
    save = np.savez if rng.random() < 0.5 else np.savez_compressed
    save(folder / "d.npz", x=x, y=y)
    table = "\n".join(
        [
            ",".join([*(f"c{column}" for column in range(30)), "y"]),
            *(",".join([*map(str, row), str(label)]) for row, label in zip(x, y, strict=True)),
        ]
    )
    (folder / "d.csv").write_text(table)
    text = DESCRIPTION.replace('"argmax"', '"threshold"\nvalue = 0.5')
    (folder / "d.toml").write_bytes(damage_toml(text, rng) if way == 2 else text.encode())
    if way == 3:
        (folder / "d.npz").write_bytes(damage_bytes((folder / "d.npz").read_bytes(), rng))
    if way == 4:
        (folder / "d.csv").write_bytes(damage_bytes(table.encode(), rng))
    if way == 5:
        tensor = onnx.numpy_helper.from_array(x, "x")
        (folder / "set").mkdir()
        (folder / "set" / "input_0.pb").write_bytes(damage_bytes(tensor.SerializeToString(), rng))
    if way == 4:
        (folder / "d.toml").write_text(text.replace("d.npz", "d.csv"))
    source = "set" if way == 5 else "d.toml"
    data = load_data(folder / source, inputs=inspection.network.inputs)
    open_network(inspection.network, inspection.scan, inspection.placement, data)


@cache
def _certificate() -> Path:
    """Make a certificate once a process."""
    out = Path(tempfile.mkdtemp(prefix="fuzz-certificate-"))
    ran = run_command(
        "analyze",
        SAMPLES / "breast_cancer_mlp.onnx",
        "--data",
        SAMPLES / "breast_cancer_mlp.toml",
        *RUN,
        "--out",
        out,
    )
    if ran.code != 0:
        raise Fault(f"the sample cannot be analyzed: {ran.err}")
    return out


def certificate_case(seed: int, index: int, folder: Path) -> Outcome:
    """A damaged certificate, or damaged evidence beside it, through `gate`, `replay` and `report`."""  # noqa: E501
    rng = np.random.default_rng([seed, index, 4])
    out = folder / "out"
    shutil.copytree(_certificate(), out)
    if index % 2:
        path = out / "certificate.json"
        path.write_bytes(damage_json(json.loads(path.read_text()), rng))
    else:
        files = sorted(path for path in out.rglob("*") if path.is_file())
        path = files[int(rng.integers(len(files)))]
        path.write_bytes(damage_bytes(path.read_bytes(), rng))
    (folder / "q.toml").write_text(POLICY)
    ran = [run_command("report", out), run_command("gate", out, "--policy", folder / "q.toml")]
    for each, allowed in zip(ran, ((5, 6), (1, 2, 3, 5, 6)), strict=True):
        if each.code not in (1, 3):
            each.refusal(allowed)
    replayed = run_command("replay", out, "--data", SAMPLES / "breast_cancer_mlp.toml", "--json")
    if replayed.code not in (0, 1, 6) and not (
        replayed.code == 70 and not replayed.err
    ):  # 70 with checks printed: claims that do not hold
        return replayed.refusal((2, 4, 5)) or Outcome("accepted")
    parsed(replayed.out)
    return Outcome(
        "refused" if replayed.code else "accepted", f"{path.name}: replay ends with {replayed.code}"
    )


CASES: dict[str, Case] = {
    "inspect": inspect_case,
    "analyze": analyze_case,
    "files": files_case,
    "certificate": certificate_case,
}


def run_case(kind: str, seed: int, index: int) -> Outcome:
    """Run one case in a folder of its own; whatever goes wrong is a fault."""
    with tempfile.TemporaryDirectory(prefix="fuzz-") as name:
        try:
            return CASES[kind](seed, index, Path(name))
        except Fault as err:
            return Outcome("fault", str(err).replace(name, ""))
        except Exception as err:  # an exception that reaches the caller is what is looked for
            return Outcome("fault", f"{type(err).__name__}: {err}".replace(name, ""))
