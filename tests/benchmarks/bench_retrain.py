"""Methods of re-training against each other: models x tolerances x methods x seeds, every row
trained and attacked from scratch.

    python tests/benchmarks/bench_retrain.py run --rows FILE [--models M ...] [--methods NAME ...] [--seeds N] [--epochs N] [--learning-rate R] [--jobs N] [--prove N]
    python tests/benchmarks/bench_retrain.py table --rows FILE
    python tests/benchmarks/bench_retrain.py find [--models M ...]
    python tests/benchmarks/bench_retrain.py half --rows FILE --out FOLDER [--models M ...]
    python tests/benchmarks/bench_retrain.py cost [--models M ...]
    python tests/benchmarks/bench_retrain.py clip [--models M ...]
    python tests/benchmarks/bench_retrain.py tight [--models M ...] [--tolerances T ...]
    python tests/benchmarks/bench_retrain.py states --out FOLDER
    python tests/benchmarks/bench_retrain.py quantise --out FOLDER

`run` appends one line a row to FILE and leaves out rows that are there, so it can be stopped and
started again; `table` prints them. The trained network is written to a file and scored on
evaluation data that training never saw: worst found by the search of `cimrobust analyze` with
`--effort`, certified by linear bounds without branching on the first `--prove` samples. The method
`none` is the network as it is, `clipped` the same with clipped weights and nothing trained.
`find` prints the worst-found accuracy of the networks as they are over tolerances, from which the
tolerances below were taken: that nearest to half of the clean accuracy, and twice that.
`half` looks for the tolerance at which the second control, `clip`, keeps half of its clean
accuracy: one network a model is trained (and kept in FOLDER), and searched at tolerances on the way
there, one line each in FILE; the last line of a model is the nearest. `run --half FILE` then takes these tolerances.
`states` writes training states for ACAS Xu, which comes without: uniform over the ranges of the
evaluation states, as many of each advisory of the network.
`quantise` writes two int8 forms of the digits network, `digits_cnn_int8` (a scale a channel) and
`digits_cnn_int8_tensor`; `run` finds them in FOLDER (`--out`). `--tune N` searches for the settings
in N epochs first.
`clip` prints what clipping the weights costs before training, by range. `tight` prints the interval
bound of the loss over the attacked loss before training. `cost` prints what an epoch costs, as a
ratio to plain training in the same run.
"""  # noqa: E501

from __future__ import annotations

import argparse
import json
import math
import os
import statistics
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from onnxruntime.quantization import CalibrationDataReader, QuantType, quantize_static

from cimrobust.certify.bounded_network import BoundedNetwork, open_bounds
from cimrobust.certify.bounds import certify
from cimrobust.data.load_dataset import load_data
from cimrobust.engine.kernel import program_chip
from cimrobust.engine.open import open_network
from cimrobust.engine.original_file import run_original
from cimrobust.engine.subject import Subject
from cimrobust.engine.torch_threads import one_torch_thread
from cimrobust.onnx_io.load_network import load_network
from cimrobust.onnx_io.write_back import write_back
from cimrobust.pipeline.inspection import inspect_model
from cimrobust.pipeline.resolved_profile import resolve_profile
from cimrobust.progress import NullProgress
from cimrobust.run import Run
from cimrobust.search.ensemble import search
from cimrobust.settings.training_settings import TrainingSettings
from cimrobust.training.clipping import clip_weights
from cimrobust.training.loop import start_training, train, train_epoch
from cimrobust.training.methods.method_catalogue import RECIPES, recipe_of
from cimrobust.training.pace import choose_pace
from cimrobust.training.parameters import Parameters, stored_integers
from cimrobust.training.session import open_session
from cimrobust.training.training_job import Job, make_step
from cimrobust.training.tuning import tune
from cimrobust.training.validation import clean_score

ROOT = Path(__file__).resolve().parents[2]
ZOO = Path(os.environ.get("CIMROBUST_ZOO", ROOT.parent / "shared" / "zoo"))
DEVICE = "rram-write-verify-3pct"
CHIPS = 50
#: Methods that no seed changes.
UNTRAINED = ("none", "clipped")


@dataclass(frozen=True)
class Setup:
    """How a model is trained here.

    Attributes:
        tolerances: Tolerances, from `find`.
        epochs: Epochs.
        batch: Mini-batch.
        training: Training samples used; None: all.
        evaluation: Evaluation samples used.
    """

    tolerances: tuple[float, ...]
    epochs: int
    batch: int = 64
    training: int | None = None
    evaluation: int = 1000


SETUPS = {
    "digits_cnn": Setup((0.012, 0.024), 30),
    "digits_cnn_int8": Setup((0.024,), 30),
    "digits_cnn_int8_tensor": Setup((0.024,), 30),
    "breast_cancer_mlp": Setup((0.05, 0.1), 40),
    "mnist_mlp_256x2": Setup((0.01, 0.02), 8, batch=128, training=10000),
    "mnist_cnn_bn": Setup((0.01, 0.02), 5, training=3000, evaluation=400),
    "fashion_cnn": Setup((0.005, 0.01), 4, training=2000, evaluation=400),
    "cifar_resnet4b": Setup((0.002, 0.004), 8, evaluation=400),
}


def setup_of(name: str, arguments: argparse.Namespace) -> Setup:
    """Return how a model is trained here, with what the command line says of it."""
    given = {
        key: value
        for key, value in (
            ("epochs", arguments.epochs),
            ("training", arguments.training),
            ("evaluation", arguments.samples),
        )
        if value is not None
    }
    return replace(SETUPS[name], **given)


def files_of(name: str, out: Path = Path()) -> tuple[Path, Path]:
    """Return model and data description of a sample, of what `quantise` made, or of a model of the
    zoo.
    """
    if name.startswith("digits_cnn_int8"):
        return out / f"{name}.onnx", ROOT / "samples" / "digits_cnn.toml"
    own = ROOT / "samples" / f"{name}.onnx"
    return (
        (own, own.with_suffix(".toml"))
        if own.exists()
        else (ZOO / "models" / f"{name}.onnx", ZOO / f"{name}.toml")
    )


def evaluate(
    model: Path, data: Path, tolerance: float, *, samples: int, prove: int, effort: str = "quick"
) -> dict[str, Any]:
    """Score a model file: clean, drawn chips, worst found, certified."""
    inspection = inspect_model(model, device=DEVICE, tolerance=tolerance)
    dataset = load_data(data, inputs=inspection.network.inputs, limit=samples)
    runtime = open_network(inspection.network, inspection.scan, inspection.placement, dataset)
    drawn = [
        runtime.score(program_chip(inspection.placement, seed=0, trial=trial)).value
        for trial in range(CHIPS)
    ]
    found = search(Subject(runtime, inspection.placement), Run(seed=1, effort=effort))
    scored = {
        "clean": runtime.clean.value,
        "mean": float(np.mean(drawn)),
        "kpp": float(np.quantile(drawn, 0.01)),
        "worst": found.score.value,
    }
    if prove:
        network = open_bounds(runtime, inspection.placement)
        assert isinstance(network, BoundedNetwork), network
        chosen = np.arange(min(prove, network.num_decisions))
        scored["proved"] = certify(network, samples=chosen, effort=1e7, branching=None).count / len(
            chosen
        )
    return scored


def knobs_of(text: str) -> dict[str, float | str]:
    """Return settings written as name=number,name=number; the version is a word."""
    pairs = (part.split("=") for part in text.split(",") if part)
    return {name: value if name == "version" else float(value) for name, value in pairs}


def row(
    name: str, tolerance: float, method: str, seed: int, arguments: argparse.Namespace
) -> dict[str, Any]:
    """Train and score one row."""
    os.environ["OMP_NUM_THREADS"] = "1"
    setup, (model, data) = setup_of(name, arguments), files_of(name, arguments.out)
    made: dict[str, Any] = {
        "model": name,
        "tolerance": tolerance,
        "method": method,
        "seed": seed,
        "epochs": setup.epochs,
        "effort": arguments.effort,
    }
    started = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        written = model
        if method != "none":
            written = Path(folder) / "model.onnx"
            made |= train_to(written, name, tolerance, method, seed, arguments)
        made |= evaluate(
            written,
            data,
            tolerance,
            samples=setup.evaluation,
            prove=arguments.prove,
            effort=arguments.effort,
        )
    return {**made, "seconds": time.perf_counter() - started}


def train_to(
    written: Path,
    name: str,
    tolerance: float,
    method: str,
    seed: int,
    arguments: argparse.Namespace,
) -> dict[str, Any]:
    """Train a network and write it; return what is said about the training."""
    setup, (model, data) = setup_of(name, arguments), files_of(name, arguments.out)
    base, _, given = method.partition(":")
    settings = TrainingSettings(epochs=setup.epochs, batch=setup.batch, draws=5, seed=seed)
    # What training on the bound costs in clean accuracy is part of the question.
    settings = replace(settings, clean_loss=0.1) if base.startswith("ibp") else settings
    network = load_network(model)
    training = load_data(data, inputs=network.inputs, part="train", limit=setup.training)
    evaluation = load_data(data, inputs=network.inputs)
    session = open_session(
        network,
        resolve_profile(DEVICE, tolerance),
        training,
        evaluation,
        settings,
        drop_overlap=True,
    )
    if base == "clipped":
        # The rate has no part in the choice of the range, but a training has to have one.
        job = session.job(recipe_of("clip").method(), replace(settings, learning_rate=2e-3))
        reach = start_training(job, session.parameters).weight_range
        clipped = session.parameters.copy()
        clip_weights(clipped, reach)
        write_back(model, written, *stored_integers(session.trainable, clipped))
        return {"weight_range": reach}
    settings = replace(
        settings, learning_rate=arguments.learning_rate or choose_pace(session, settings).rate
    )
    chosen = recipe_of(base).method(knobs_of(given))
    if arguments.tune:
        tuned = tune(
            session, recipe_of(base), settings, budget=arguments.tune, progress=NullProgress()
        )
        chosen, settings = (
            recipe_of(base).method(tuned.values),
            replace(settings, learning_rate=tuned.learning_rate),
        )
    trained = train(session.job(chosen, settings), session.parameters, progress=NullProgress())
    write_back(model, written, *stored_integers(session.trainable, trained.parameters))
    return {
        "best_epoch": trained.best_epoch,
        "eligible": trained.rows[trained.best_epoch].eligible,
        "learning_rate": settings.first_rate,
        "weight_range": trained.weight_range,
        "epoch_seconds": statistics.median([entry.training_seconds for entry in trained.rows[1:]]),
    }


def read_rows(path: Path) -> list[dict[str, Any]]:
    """Return the rows that are there."""
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def run(arguments: argparse.Namespace) -> None:
    """Make the rows that are missing."""
    done = {
        (entry["model"], entry["tolerance"], entry["method"], entry["seed"])
        for entry in read_rows(arguments.rows)
    }
    wanted = [
        (name, tolerance, method, seed, arguments)
        for seed in range(arguments.seeds)
        for name in arguments.models
        for tolerance in _tolerances(name, arguments)
        for method in arguments.methods
        if (name, tolerance, method, seed) not in done and not (method in UNTRAINED and seed)
    ]
    with ProcessPoolExecutor(arguments.jobs) as pool:
        waiting = {pool.submit(row, *task): task for task in wanted}
        for future in as_completed(waiting):
            made = future.result()
            with arguments.rows.open("a") as stream:
                stream.write(json.dumps(made) + "\n")
            print(json.dumps(made), flush=True)


def _tolerances(name: str, arguments: argparse.Namespace) -> tuple[float, ...]:
    """Return the tolerances of a model: as given, as `half` found them, or as `find` did."""
    if arguments.half is None:
        return tuple(arguments.tolerances or SETUPS[name].tolerances)
    searched = [row["tolerance"] for row in read_rows(arguments.half) if row["model"] == name]
    return (searched[-1],)


def table(arguments: argparse.Namespace) -> None:
    """Print the rows as a table: mean over seeds, and half the range between them."""
    groups: dict[tuple[str, float, str], list[dict[str, Any]]] = {}
    for entry in read_rows(arguments.rows):
        groups.setdefault((entry["model"], entry["tolerance"], entry["method"]), []).append(entry)
    print(
        "| model | tolerance | method | seeds | clean % | mean chip % | worst found % | proved % |"
        " s an epoch |"
    )
    print("|---|---|---|---|---|---|---|---|---|")
    for (name, tolerance, method), rows in sorted(
        groups.items(), key=lambda item: (list(SETUPS).index(item[0][0]), item[0][1])
    ):
        cells = [
            cell_of([100 * entry[key] for entry in rows if key in entry])
            for key in ("clean", "mean", "worst", "proved")
        ]
        seconds = [entry["epoch_seconds"] for entry in rows if "epoch_seconds" in entry]
        spent = f"{statistics.median(seconds):.2f}" if seconds else ""
        print(
            f"| {name} | {100 * tolerance:g} % | {method} | {len(rows)} | {' | '.join(cells)} |"
            f" {spent} |"
        )


def cell_of(values: list[float]) -> str:
    """Return the mean of some values, and half the range between them if there are several."""
    if not values:
        return ""
    return f"{statistics.mean(values):.1f}" + (
        f" ± {(max(values) - min(values)) / 2:.1f}" if len(values) > 1 else ""
    )


def find(arguments: argparse.Namespace) -> None:
    """Print worst-found accuracies over tolerances."""
    for name in arguments.models:
        model, data = files_of(name)
        for tolerance in arguments.tolerances or (
            0.0035,
            0.005,
            0.007,
            0.01,
            0.014,
            0.02,
            0.028,
            0.04,
            0.056,
            0.08,
            0.11,
        ):
            scored = evaluate(
                model, data, tolerance, samples=setup_of(name, arguments).evaluation, prove=0
            )
            print(
                f"{name} {100 * tolerance:g} % clean {scored['clean']:.4f} worst"
                f" {scored['worst']:.4f}",
                flush=True,
            )
            if scored["worst"] < 0.35 * scored["clean"]:
                break


def half(arguments: argparse.Namespace) -> None:
    """Look for the tolerance at which `clip` keeps half of its clean accuracy."""
    arguments.out.mkdir(parents=True, exist_ok=True)
    for name in arguments.models:
        setup, (_model, data) = setup_of(name, arguments), files_of(name, arguments.out)
        tolerance, low, high = setup.tolerances[-1], 0.0, math.inf
        trained = arguments.out / f"{name}-clip.onnx"
        if not trained.exists():
            train_to(trained, name, tolerance, "clip", 0, arguments)
        known = {
            entry["tolerance"]: entry
            for entry in read_rows(arguments.rows)
            if entry["model"] == name
        }
        for _step in range(8):
            if tolerance not in known:
                known[tolerance] = {
                    "model": name,
                    "tolerance": tolerance,
                    **evaluate(trained, data, tolerance, samples=setup.evaluation, prove=0),
                }
                with arguments.rows.open("a") as stream:
                    stream.write(json.dumps(known[tolerance]) + "\n")
                print(json.dumps(known[tolerance]), flush=True)
            share = known[tolerance]["worst"] / known[tolerance]["clean"]
            if abs(share - 0.5) <= 0.06:
                break
            low, high = (tolerance, high) if share > 0.5 else (low, tolerance)
            middle = math.sqrt(low * high) if low and high < math.inf else (low or high)
            factor = 1.0 if low and high < math.inf else 1.4 if low else 1 / 1.4
            tolerance = float(f"{middle * factor:.2g}")


def cost(arguments: argparse.Namespace) -> None:
    """Print the processor time of an epoch of every method over that of plain training: the least
    of some turns, in which all methods take part, so that other work on the machine counts little.
    """
    for name in arguments.models:
        setup, (model, data) = SETUPS[name], files_of(name)
        settings = TrainingSettings(
            epochs=1, batch=setup.batch, learning_rate=2e-3, search_passes=1, draws=0
        )
        network = load_network(model)
        training = load_data(data, inputs=network.inputs, part="train", limit=2000)
        evaluation = load_data(data, inputs=network.inputs)
        session = open_session(
            network,
            resolve_profile(DEVICE, setup.tolerances[0]),
            training,
            evaluation,
            settings,
            drop_overlap=True,
        )
        seconds: dict[str, list[float]] = {method: [] for method in ("plain", *arguments.methods)}
        for _turn in range(arguments.turns):
            for method, spent in seconds.items():
                base, _, given = method.partition(":")
                job = session.job(recipe_of(base).method(knobs_of(given)), settings)
                spent.append(_epoch_seconds(job, session.parameters))
        for method, spent in seconds.items():
            print(
                f"{name} {method} {min(spent):.3f} s,"
                f" {min(spent) / min(seconds['plain']):.2f} times plain",
                flush=True,
            )


def _epoch_seconds(job: Job, start: Parameters) -> float:
    """Return the processor seconds of one epoch without validation."""
    with one_torch_thread():
        state = start_training(job, start)
        begun = time.process_time()
        train_epoch(job, state, 1)
        return time.process_time() - begun


def clip(arguments: argparse.Namespace) -> None:
    """Print the clean validation accuracy of the networks as they are, their weights clipped."""
    for name in arguments.models:
        setup, (model, data) = SETUPS[name], files_of(name)
        settings = TrainingSettings(batch=setup.batch)
        network = load_network(model)
        training = load_data(data, inputs=network.inputs, part="train", limit=3000)
        evaluation = load_data(data, inputs=network.inputs)
        session = open_session(
            network,
            resolve_profile(DEVICE, setup.tolerances[0]),
            training,
            evaluation,
            settings,
            drop_overlap=True,
        )
        job = session.job(recipe_of("plain").method(), settings)
        for reach in (None, 2.0, 2.5, 3.0, 3.5, 4.0, 5.0):
            clipped = session.parameters.copy()
            clip_weights(clipped, reach)
            score = clean_score(
                make_step(
                    job,
                    clipped,
                    job.validation,
                    progress=0.0,
                    generator=torch.Generator(),
                    memory={},
                )
            )
            print(
                f"{name} {'not clipped' if reach is None else f'{reach:g}'} {score:.4f}", flush=True
            )


def tight(arguments: argparse.Namespace) -> None:
    """Print how tight the interval bound of the networks is before training, their weights clipped
    as `cimrobust` clips them.
    """
    for name in arguments.models:
        setup, (model, data) = setup_of(name, arguments), files_of(name, arguments.out)
        settings = TrainingSettings(batch=setup.batch, learning_rate=2e-3)
        network = load_network(model)
        training = load_data(data, inputs=network.inputs, part="train", limit=2000)
        evaluation = load_data(data, inputs=network.inputs)
        for tolerance in arguments.tolerances or setup.tolerances:
            session = open_session(
                network,
                resolve_profile(DEVICE, tolerance),
                training,
                evaluation,
                settings,
                drop_overlap=True,
            )
            use = start_training(
                session.job(recipe_of("cimrobust").method(), settings), session.parameters
            ).bound
            print(
                f"{name} {100 * tolerance:g} % "
                + ("no bound" if use.ratio is None else f"{use.ratio:.1f}"),
                flush=True,
            )


def states(arguments: argparse.Namespace) -> None:
    """Write acas_train.npz and a description of it."""
    name, random = "acasxu_1_1", np.random.default_rng(0)
    network = load_network(ZOO / "models" / f"{name}.onnx")
    known = np.load(ZOO / "data" / "acasxu_states.npz")["x"]
    low, high = known.min(axis=0), known.max(axis=0)
    drawn = (low + (high - low) * random.random((600_000, known.shape[1]))).astype(np.float32)
    decided = (
        run_original(network, {"input": drawn.reshape(-1, 1, 1, 5)}, {}, output="linear_7_Add")
        .reshape(len(drawn), -1)
        .argmin(axis=1)
    )
    count = int(np.bincount(decided).min())
    chosen = np.concatenate(
        [random.permutation(np.flatnonzero(decided == advisory))[:count] for advisory in range(5)]
    )
    np.savez(arguments.out / "acas_train.npz", x=drawn[chosen])
    text = (ZOO / f"{name}.toml").read_text().replace("data/acasxu_states.npz", "acas_train.npz")
    (arguments.out / "acas_train.toml").write_text(text)


def quantise(arguments: argparse.Namespace) -> None:
    """Write int8 forms of the digits network, calibrated on training images."""
    images = (
        (np.load(ROOT / "samples" / "digits_train.npz")["x"][:640] / 16)
        .astype(np.float32)
        .reshape(10, 64, 1, 8, 8)
    )

    class Reader(CalibrationDataReader):
        def __init__(self) -> None:
            self.left = iter(images)

        def get_next(self) -> dict[str, np.ndarray] | None:
            some = next(self.left, None)
            return None if some is None else {"image": some}

    for name, per_channel, activations in (
        ("digits_cnn_int8", True, QuantType.QInt8),
        ("digits_cnn_int8_tensor", False, QuantType.QUInt8),
    ):
        quantize_static(
            ROOT / "samples" / "digits_cnn.onnx",
            arguments.out / f"{name}.onnx",
            Reader(),
            per_channel=per_channel,
            activation_type=activations,
            weight_type=QuantType.QInt8,
        )


COMMANDS = {
    "run": run,
    "table": table,
    "find": find,
    "half": half,
    "cost": cost,
    "clip": clip,
    "tight": tight,
    "states": states,
    "quantise": quantise,
}


def main() -> None:
    """Do what the command line says."""
    parser = argparse.ArgumentParser()
    parser.add_argument("what", choices=list(COMMANDS))
    parser.add_argument("--rows", type=Path, default=Path("bench_retrain.jsonl"))
    parser.add_argument(
        "--models", nargs="*", default=["digits_cnn", "breast_cancer_mlp", "mnist_mlp_256x2"]
    )
    parser.add_argument("--methods", nargs="*", default=["none", *RECIPES])
    parser.add_argument("--tolerances", nargs="*", type=float)
    parser.add_argument("--half", type=Path, help="Take the tolerances that `half` found")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int)
    parser.add_argument("--training", type=int, help="Training samples used")
    parser.add_argument("--samples", type=int, help="Evaluation samples used")
    parser.add_argument(
        "--learning-rate", type=float, help="Default: chosen as by cimrobust retrain"
    )
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--prove", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path())
    parser.add_argument("--tune", type=int, default=0)
    parser.add_argument("--effort", default="quick")
    parser.add_argument("--turns", type=int, default=5)
    arguments = parser.parse_args()
    if arguments.what == "cost":
        arguments.methods = [method for method in arguments.methods if method != "none"]
    COMMANDS[arguments.what](arguments)


if __name__ == "__main__":
    main()
