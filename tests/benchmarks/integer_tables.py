"""Compare quantised networks with exact integer arithmetic and write the tables of
docs/explanation/integers.md.

    python tests/benchmarks/integer_tables.py --zoo ../shared/zoo --tables docs/integers-tables.md

Each row runs a file as the product does, as a plain onnxruntime session does on this processor, and
as the deployed network (float weights) does.
"""

from __future__ import annotations

import argparse
import logging
import sys
import tempfile
import warnings
from pathlib import Path

import numpy as np
import onnx
import onnxruntime

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from cimrobust.certify.exact_arithmetic import check_arithmetic  # noqa: E402
from cimrobust.data.load_dataset import load_data  # noqa: E402
from cimrobust.engine.batches import cast_inputs, feeding_of_file, run_batches  # noqa: E402
from cimrobust.engine.machine import this_machine  # noqa: E402
from cimrobust.engine.original_file import run_original  # noqa: E402
from cimrobust.engine.ort import OrtEngine  # noqa: E402
from cimrobust.onnx_io.batch import coupling_operators  # noqa: E402
from cimrobust.onnx_io.deploy import deploy  # noqa: E402
from cimrobust.onnx_io.load_network import load_network  # noqa: E402
from cimrobust.onnx_io.network import Network  # noqa: E402
from cimrobust.onnx_io.scan import scan_layers  # noqa: E402
from tests.exact_integers import FORMS, evaluate, quantised, samples  # noqa: E402

COUNT = 256
HEAD = (
    "| network | samples | accuracy, exact | product | plain session | deployed | tensors compared,"
    " off |\n|---|---|---|---|---|---|---|"
)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--zoo", type=Path, required=True, help="Folder of models with manifest.json"
    )
    parser.add_argument(
        "--tables", type=Path, default=Path("docs/integers-tables.md"), help="File for the tables"
    )
    parser.add_argument("--limit", type=int, default=None, help="Samples of the zoo's networks")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    here = this_machine()
    rows = [
        (
            f"{here.processor}, {' '.join(here.instruction_sets or ())}, onnxruntime"
            f" {here.onnxruntime}."
        ),
        "",
        HEAD,
    ]
    for form in FORMS:
        with tempfile.TemporaryDirectory() as folder:
            path, x = quantised(form, Path(folder)), samples(COUNT)
            size = 1 if "dynamic" in form else COUNT
            model = onnx.load(path)
            exact = np.concatenate(
                [evaluate(model, {"x": x[at : at + size]})[0] for at in range(0, COUNT, size)]
            )
            rows.append(_row(form, load_network(path), {"x": x}, {}, "y", exact.argmax(1), None))
        print(rows[-1], flush=True)
    for name in ("cifar_resnet8_qlinear", "cifar_resnet4b_qdq"):
        network = load_network(options.zoo / f"models/{name}.onnx")
        data = load_data(options.zoo / f"{name}.toml", inputs=network.inputs, limit=options.limit)
        output = data.decision.output or network.outputs[0].name
        x, model = next(iter(data.inputs.values())), onnx.load(network.path)
        exact = np.concatenate(
            [
                evaluate(model, {network.inputs[0].name: x[at : at + 100]})[0]
                for at in range(0, len(x), 100)
            ]
        )
        rows.append(
            _row(
                f"`{name}`",
                network,
                data.inputs,
                data.constants,
                output,
                exact.argmax(1),
                data.labels,
            )
        )
        print(rows[-1], flush=True)
    options.tables.write_text("\n".join(rows) + "\n")


def _row(
    name: str,
    network: Network,
    inputs: dict,
    constants: dict,
    output: str,
    expected: np.ndarray,
    labels: np.ndarray | None,
) -> str:
    scan = scan_layers(network)
    feeding = feeding_of_file(
        network.inputs, inputs, 16, apart=bool(coupling_operators(network.model))
    )
    engine = OrtEngine(deploy(network, scan), output=output, feeding=feeding)
    runs = [
        run_original(network, inputs, constants, output=output, threads=2),
        _plain(network, inputs, constants, output, feeding),
        engine.run(
            {layer.initializer: layer.values for layer in scan.layers}, inputs, constants, threads=2
        ),
    ]
    found = check_arithmetic(network, inputs, constants, output=output)
    compared = "-" if found.reason is not None else f"{found.compared}, {len(found.wrong)}"
    shown = [str(int((run.argmax(1) != expected).sum())) for run in runs]
    scores = [
        "" if labels is None else f" ({(run.argmax(1) == labels).mean():.4f})" for run in runs
    ]
    exact = "" if labels is None else f"{(expected == labels).mean():.4f}"
    cells = [f"{count}{score}" for count, score in zip(shown, scores, strict=True)]
    return f"| {name} | {len(expected)} | {exact} | {' | '.join(cells)} | {compared} |"


def _plain(network: Network, inputs: dict, constants: dict, output: str, feeding) -> np.ndarray:
    """Run the file as anybody would, with no option set."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(
        str(network.path), options, providers=["CPUExecutionProvider"]
    )
    ready, fixed = cast_inputs(network.inputs, inputs), cast_inputs(network.inputs, constants)
    return run_batches(lambda feed, _batch: session.run([output], feed)[0], ready, fixed, feeding)


if __name__ == "__main__":
    main()
