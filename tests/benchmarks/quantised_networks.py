"""Quantise a network of `large_networks.py` to 8 bits, as onnxruntime's users do.

    python tests/benchmarks/large_networks.py resnet50 --image 64 --out out/large
    python tests/benchmarks/quantised_networks.py out/large/resnet50.onnx --form QDQ --calm 0.2

Writes NAME_FORM.onnx with data and description beside the network: per channel, activations
unsigned, ranges of the first 4 samples, labelled by itself. `--calm` scales the last BatchNorm of
every residual branch; with 1, one part in 100,000 of the input changes most decisions of a deep
random network that rounds, and cimrobust refuses it.
"""

from __future__ import annotations

import argparse
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
from onnx import numpy_helper
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process

_CALIBRATION_SAMPLES = 4
_BRANCH = re.compile(r"(stage\d+\.\d+)\.(\d+)\.bn\.(?:scale|bias)")


class _Samples(CalibrationDataReader):
    def __init__(self, x: np.ndarray) -> None:
        self._left: Iterator[np.ndarray] = iter(x[:_CALIBRATION_SAMPLES])

    def get_next(self) -> dict[str, np.ndarray] | None:
        sample = next(self._left, None)
        return None if sample is None else {"input": sample[None]}


def calmed(model: onnx.ModelProto, share: float) -> onnx.ModelProto:
    """Scale what the last BatchNorm of every residual branch gives, in place."""
    found = {t.name: m for t in model.graph.initializer if (m := _BRANCH.fullmatch(t.name))}
    last: dict[str, int] = {}
    for match in found.values():
        last[match[1]] = max(last.get(match[1], 0), int(match[2]))
    for tensor in model.graph.initializer:
        named = found.get(tensor.name)
        if named is not None and int(named[2]) == last[named[1]]:
            scaled = numpy_helper.to_array(tensor) * np.float32(share)
            tensor.CopyFrom(numpy_helper.from_array(scaled, tensor.name))
    return model


def write_quantised(path: Path, form: str, share: float) -> Path:
    """Write the quantised network, its data and its description; return the path of the network."""
    target = path.with_name(f"{path.stem}_{form.lower()}.onnx")
    x = np.load(path.with_suffix(".npz"))["x"]
    with tempfile.TemporaryDirectory() as folder:
        float_file, ready = Path(folder) / "float.onnx", Path(folder) / "ready.onnx"
        onnx.save(calmed(onnx.load(path), share), float_file)
        quant_pre_process(float_file, ready, skip_symbolic_shape=True)
        quantize_static(
            ready,
            target,
            _Samples(x),
            quant_format=QuantFormat[form],
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
        )
    session = ort.InferenceSession(str(target), providers=["CPUExecutionProvider"])
    labels = [int(session.run(None, {"input": sample[None]})[0].argmax()) for sample in x]
    np.savez(target.with_suffix(".npz"), x=x, y=labels)
    described = path.with_suffix(".toml").read_text()
    target.with_suffix(".toml").write_text(
        described.replace(f'"{path.stem}.npz"', f'"{target.stem}.npz"')
    )
    print(f"{target}: {len(set(labels))} classes decided")
    return target


def main() -> None:
    """Quantise the network named on the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("network", type=Path)
    parser.add_argument("--form", choices=["QDQ", "QOperator"], default="QDQ")
    parser.add_argument("--calm", type=float, default=1.0, metavar="SHARE")
    options = parser.parse_args()
    write_quantised(options.network, options.form, options.calm)


if __name__ == "__main__":
    main()
