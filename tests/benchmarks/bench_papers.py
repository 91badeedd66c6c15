"""The experiment of the papers on TRICE and A-TRICE, on equal terms: networks trained from scratch
by every method, scored by the authors' search and by ours.

    python tests/benchmarks/bench_papers.py run --rows FILE --out FOLDER [--networks N ...] [--bounds B ...] [--methods M ...] [--seeds N] [--epochs N] [--chips N] [--samples N] [--effort E] [--prove N]
    python tests/benchmarks/bench_papers.py table --rows FILE

`run` appends one line a row to FILE and leaves out rows that are there, so it can be stopped and
started again. LeNet-5 with 4-bit weights on the 20000 training images of MNIST of the zoo, ConvNet
with 6-bit weights on 4000 images of CIFAR-10; a bound of 0.03 and 0.04 of max|W|. The networks are
described from memory of the papers' family, not taken from them. Every method has all its epochs,
and what it ends at is scored. Columns: clean; mean of drawn
chips; KPP 1 % and its lower bound at 95 %; the authors' sign walk and how far it goes; worst found
by our search; certified share of the first `--prove` samples.
"""  # noqa: E501

from __future__ import annotations

import argparse
import json
import os
import time
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from bench_retrain import cell_of, knobs_of, read_rows
from onnx import numpy_helper, parser
from scipy.stats import binom

from cimrobust.certify.bounded_network import BoundedNetwork, open_bounds
from cimrobust.certify.bounds import certify
from cimrobust.data.load_dataset import load_data
from cimrobust.device.load_profile import load_profile
from cimrobust.device.profile import DeviceProfile
from cimrobust.engine.kernel import program_chip
from cimrobust.engine.open import open_network
from cimrobust.engine.subject import Subject
from cimrobust.engine.torch_threads import one_torch_thread
from cimrobust.mapping.decided import stored_layers
from cimrobust.mapping.place import place
from cimrobust.onnx_io.load_network import load_network
from cimrobust.onnx_io.write_back import write_back
from cimrobust.pipeline.gain_steps import evaluation_step
from cimrobust.run import Run
from cimrobust.search.ensemble import search
from cimrobust.settings.training_settings import TrainingSettings
from cimrobust.training.authors_score import sign_walk
from cimrobust.training.loop import start_training, train_epoch
from cimrobust.training.methods.method_catalogue import recipe_of
from cimrobust.training.parameters import Parameters, stored_integers
from cimrobust.training.session import open_session
from cimrobust.training.sigma_search import search_epoch
from cimrobust.training.state import State
from cimrobust.training.training_job import Job, deployed

ROOT = Path(__file__).resolve().parents[2]
ZOO = Path(os.environ.get("CIMROBUST_ZOO", ROOT.parent / "shared" / "zoo"))
METHODS = (
    "plain",
    "noise",
    "clip",
    "trice",
    "trice-search",
    "a-trice:version=v1",
    "a-trice:version=v2",
    "a-trice:version=v3",
    "a-trice:version=v4",
    "adversarial",
    "cimrobust",
)

LENET = """
<ir_version: 8, opset_import: ["" : 13]>
lenet5 (float[N, 1, 28, 28] x) => (float[N, 10] y)
<float[6, 1, 5, 5] c1, float[6] cb1, float[16, 6, 5, 5] c2, float[16] cb2,
 float[400, 120] w1, float[120] b1, float[120, 84] w2, float[84] b2, float[84, 10] w3, float[10] b3> {
  a = Conv <pads = [2, 2, 2, 2]> (x, c1, cb1)
  b = Relu(a)
  c = MaxPool <kernel_shape = [2, 2], strides = [2, 2]> (b)
  d = Conv(c, c2, cb2)
  e = Relu(d)
  f = MaxPool <kernel_shape = [2, 2], strides = [2, 2]> (e)
  g = Flatten(f)
  h = Gemm(g, w1, b1)
  i = Relu(h)
  j = Gemm(i, w2, b2)
  k = Relu(j)
  y = Gemm(k, w3, b3)
}
"""  # noqa: E501

CONVNET = """
<ir_version: 8, opset_import: ["" : 13]>
convnet (float[N, 3, 32, 32] x) => (float[N, 10] y)
<float[32, 3, 3, 3] c1, float[32] cb1, float[64, 32, 3, 3] c2, float[64] cb2,
 float[64, 64, 3, 3] c3, float[64] cb3, float[1024, 128] w1, float[128] b1,
 float[128, 10] w2, float[10] b2> {
  a = Conv <pads = [1, 1, 1, 1]> (x, c1, cb1)
  b = Relu(a)
  c = MaxPool <kernel_shape = [2, 2], strides = [2, 2]> (b)
  d = Conv <pads = [1, 1, 1, 1]> (c, c2, cb2)
  e = Relu(d)
  f = MaxPool <kernel_shape = [2, 2], strides = [2, 2]> (e)
  g = Conv <pads = [1, 1, 1, 1]> (f, c3, cb3)
  h = Relu(g)
  i = MaxPool <kernel_shape = [2, 2], strides = [2, 2]> (h)
  j = Flatten(i)
  k = Gemm(j, w1, b1)
  l = Relu(k)
  y = Gemm(l, w2, b2)
}
"""

MNIST_STEPS = '{ op = "divide", value = 255 }, { op = "reshape", shape = [1, 28, 28] }'
CIFAR_STEPS = (
    '{ op = "divide", value = 255 }, { op = "subtract", value = [0.4914, 0.4822, 0.4465] },'
    ' { op = "divide", value = [0.2471, 0.2435, 0.2616] },'
    ' { op = "transpose", perm = [0, 3, 1, 2] }'
)
#: Graph, weight bits, arrays of the zoo, steps of the input, training images.
NETWORKS = {
    "lenet5": (LENET, 4, "mnist", MNIST_STEPS, 20000),
    "convnet": (CONVNET, 6, "cifar10", CIFAR_STEPS, 4000),
}


def write_inputs(name: str, bound: float, seed: int, out: Path) -> tuple[Path, Path, Path]:
    """Write the network with random weights, its data description and its device profile."""
    text, bits, arrays, steps, _count = NETWORKS[name]
    model, random = parser.parse_model(text), np.random.default_rng(seed)
    # What is declared without a value stands among the tensors whose shapes are known.
    for declared in model.graph.value_info:
        shape = tuple(axis.dim_value for axis in declared.type.tensor_type.shape.dim)
        spread = np.sqrt(2.0 / np.prod(shape[1:] if len(shape) == 4 else shape[:1]))
        made = random.normal(size=shape) * spread if len(shape) > 1 else np.zeros(shape)
        model.graph.initializer.append(
            numpy_helper.from_array(made.astype(np.float32), declared.name)
        )
    del model.graph.value_info[:]
    out.mkdir(parents=True, exist_ok=True)
    paths = (
        out / f"{name}-{seed}.onnx",
        out / f"{name}.toml",
        out / f"{name}-{bound:g}-device.toml",
    )
    onnx.save(model, paths[0])
    files = "".join(
        f'{key} = "{(ZOO / "data" / f"{arrays}_{part}.npz").as_posix()}"\n'
        for key, part in (("file", "test"), ("train_file", "train"))
    )
    paths[1].write_text(
        f'schema = 1\n{files}\n[[input]]\nname = "x"\narray = "x"\ndtype = "float32"\n'
        f'steps = [{steps}]\n\n[label]\narray = "y"\n\n'
        '[decision]\noutput = "y"\nread = "argmax"\nmetric = "accuracy"\n'
    )
    paths[2].write_text(
        f'schema = 1\nname = "papers-{bits}bit"\n'
        'source = "devices that write-verify leaves within the bound of the papers"\n\n'
        f'[weight]\nbits = {bits}\nscale = "tensor"\nmapping = "differential"\n\n'
        f'[device]\nbits = {bits}\ntolerance = {bound}\ndistribution = "uniform"\n'
    )
    return paths


def lower_bound(scores: np.ndarray, share: float) -> float | None:
    """Return a score that the percentile is above with 95 % confidence; None: too few chips."""
    ranks = np.arange(1, len(scores) + 1)
    known = ranks[binom.cdf(ranks - 1, len(scores), share) <= 0.05]
    return float(np.sort(scores)[known[-1] - 1]) if known.size else None


def row(task: dict[str, Any], arguments: argparse.Namespace) -> dict[str, Any]:
    """Train and score one row."""
    begun = time.process_time()
    model, data, device = write_inputs(task["network"], task["bound"], task["seed"], arguments.out)
    network, profile = load_network(model), load_profile(device)
    limit = min(arguments.training or 10**9, NETWORKS[task["network"]][4])
    training = load_data(data, inputs=network.inputs, part="train", limit=limit)
    evaluation = load_data(data, inputs=network.inputs, limit=arguments.samples)
    settings = TrainingSettings(
        epochs=arguments.epochs, batch=128, learning_rate=1e-3, draws=5, seed=task["seed"]
    )
    session = open_session(network, profile, training, evaluation, settings, drop_overlap=True)
    base, _, given = task["method"].partition(":")
    job = session.job(recipe_of(base).method(knobs_of(given)), settings)
    trains = time.process_time()
    state, trained = train_to_the_end(job, session.parameters)
    spent = time.process_time() - trains
    label = task["method"].replace(":", "-").replace("=", "-")
    written = arguments.out / f"{task['network']}-{task['bound']:g}-{label}-{task['seed']}.onnx"
    write_back(model, written, *stored_integers(session.trainable, trained))
    scored = _scored(written, profile, evaluation, arguments, job, trained)
    return {
        **task,
        **scored,
        "weight_range": state.weight_range,
        "sigma": None if state.copies is None else state.copies.sigma,
        "training_seconds": round(spent, 1),
        "seconds": round(time.process_time() - begun, 1),
    }


def train_to_the_end(job: Job, start: Parameters) -> tuple[State, Parameters]:
    """Train for all epochs; return where that ends, and what is deployed.

    No epoch is chosen, and the rate ends at zero: before training a network guesses, so any epoch
    is within the clean loss of it, and of networks that an attack takes to nothing the choice by
    attacked accuracy would take the least trained one.
    """
    with one_torch_thread():
        state = start_training(job, start)
        for epoch in range(1, job.settings.epochs + 1):
            if state.copies is None:
                train_epoch(job, state, epoch)
            else:
                search_epoch(job, state, state.copies, epoch, train_epoch)
        return state, deployed(job, state.averaged, state.mean)


def _scored(
    path: Path,
    profile: DeviceProfile,
    evaluation: Any,
    arguments: argparse.Namespace,
    job: Job,
    parameters: Parameters,
) -> dict[str, Any]:
    network, scan = stored_layers(load_network(path), profile)
    placement = place(scan, profile)
    runtime = open_network(network, scan, placement, evaluation)
    drawn = np.array(
        [
            runtime.score(program_chip(placement, seed=0, trial=trial)).value
            for trial in range(arguments.chips)
        ]
    )
    walk = sign_walk(evaluation_step(job, parameters, runtime))
    walked = {
        name: (nominal + walk.deviations[name]).astype(np.float32)
        for name, nominal in placement.nominal().items()
    }
    found = search(Subject(runtime, placement), Run(seed=1, effort=arguments.effort))
    scored = {
        "clean": runtime.nominal.value,
        "mean": float(drawn.mean()),
        "kpp": float(np.quantile(drawn, 0.01)),
        "kpp_bound": lower_bound(drawn, 0.01),
        "sign_walk": runtime.score(walked).value,
        "sign_walk_reached": walk.reached,
        "worst": found.score.value,
        "certified": None,
    }
    if arguments.prove:
        bounded = open_bounds(runtime, placement)
        assert isinstance(bounded, BoundedNetwork), bounded
        chosen = np.arange(min(arguments.prove, bounded.num_decisions))
        proved = certify(bounded, samples=chosen, effort=1e7, branching=None)
        scored["certified"] = proved.count / len(chosen)
    return scored


def run(arguments: argparse.Namespace) -> None:
    """Make the rows that are missing."""
    keys = ("network", "bound", "method", "seed")
    done = {tuple(entry[key] for key in keys) for entry in read_rows(arguments.rows)}
    for seed in range(arguments.seeds):
        for name in arguments.networks:
            for bound in arguments.bounds:
                for method in arguments.methods:
                    if (name, bound, method, seed) in done:
                        continue
                    task = dict(zip(keys, (name, bound, method, seed), strict=True))
                    made = row(task, arguments)
                    made |= {key: getattr(arguments, key) for key in ("epochs", "chips", "effort")}
                    made |= {"samples": arguments.samples, "training": arguments.training}
                    with arguments.rows.open("a") as stream:
                        stream.write(json.dumps(made) + "\n")
                    print(json.dumps(made), flush=True)


def table(arguments: argparse.Namespace) -> None:
    """Print the rows: mean over seeds, and half the range between them."""
    columns = ("clean", "mean", "kpp", "kpp_bound", "sign_walk", "worst", "certified")
    groups: dict[tuple[str, float, str], list[dict[str, Any]]] = {}
    for entry in read_rows(arguments.rows):
        key = (entry["network"], entry["bound"], entry["method"])
        groups.setdefault(key, []).append(entry)
    print(
        "| network | bound | method | seeds | clean | mean chip | KPP 1 % | its lower bound |"
        " authors' sign walk | worst found | certified |"
    )
    print("|" + "---|" * 11)
    for (name, bound, method), rows in groups.items():
        cells = []
        for column in columns:
            values = [100 * entry[column] for entry in rows if entry[column] is not None]
            cells.append(cell_of(values))
        print(f"| {name} | {bound:g} | {method} | {len(rows)} | {' | '.join(cells)} |")


def main() -> None:
    """Do what the command line says."""
    made = argparse.ArgumentParser()
    made.add_argument("what", choices=["run", "table"])
    made.add_argument("--rows", type=Path, default=Path("bench_papers.jsonl"))
    made.add_argument("--out", type=Path, default=Path("papers"))
    made.add_argument("--networks", nargs="*", default=list(NETWORKS))
    made.add_argument("--bounds", nargs="*", type=float, default=[0.03, 0.04])
    made.add_argument("--methods", nargs="*", default=list(METHODS))
    made.add_argument("--seeds", type=int, default=3)
    made.add_argument("--epochs", type=int, default=60)
    made.add_argument("--chips", type=int, default=10000)
    made.add_argument("--samples", type=int)
    made.add_argument("--training", type=int, help="Fewer training images than the experiment has")
    made.add_argument("--effort", default="standard")
    made.add_argument("--prove", type=int, default=100)
    arguments = made.parse_args()
    {"run": run, "table": table}[arguments.what](arguments)


if __name__ == "__main__":
    main()
