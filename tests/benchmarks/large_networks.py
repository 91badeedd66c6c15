"""Write large networks with random weights, and data that they label themselves.

    python tests/benchmarks/large_networks.py resnet50 --out out/large --samples 16
    python tests/benchmarks/large_networks.py gpt --layers 24 --width 1024 --out out/large
    python tests/benchmarks/large_networks.py gpt --layers 24 --width 2048 --half --out out/large

Writes NAME.onnx (with NAME.onnx.data beside it where the tensors are above 1 GB), NAME.npz and
NAME.toml. The same command writes the same network: every tensor is drawn from a stream of its
own; with --half it is rounded to float16. Weights are He normal; BatchNorm statistics are those of
a batch that the network has seen; the bias of the last layer centres every score, so that samples
fall into many classes.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import numpy as np
import onnxruntime as ort
from large_graphs import NETWORKS, Graph, Size, Statistics
from onnx import TensorProto, helper, numpy_helper

_EXTERNAL_ABOVE = 10**9
_ALIGNMENT = 4096
_OPSET = 17
_STATISTICS_SAMPLES = 8
_LOGIT_SPREAD = 2.0


def save(graph: Graph, path: Path, *, takes_tokens: bool, size: Size, half: bool = False) -> None:
    """Write a graph; its tensors into a file beside it where they are above 1 GB."""
    external = (2 if half else 4) * graph.num_parameters() > _EXTERNAL_ABOVE
    floats = TensorProto.FLOAT16 if half else TensorProto.FLOAT
    sample = [size.tokens] if takes_tokens else [3, size.image, size.image]
    kind = TensorProto.INT64 if takes_tokens else floats
    source = helper.make_tensor_value_info("input", kind, ["N", *sample])
    outputs = [
        helper.make_tensor_value_info("scores", floats, ["N", None]),
        *(helper.make_tensor_value_info(n, floats, [None]) for n in graph.outputs),
    ]
    model = helper.make_model(
        helper.make_graph(graph.nodes, path.stem, [source], outputs),
        opset_imports=[helper.make_opsetid("", _OPSET)], ir_version=8,
    )  # fmt: skip
    beside = path.with_name(f"{path.name}.data")
    beside.unlink(missing_ok=True)
    for name, (_, draw) in graph.tensors.items():
        array = np.asarray(draw(), order="C")
        if half and array.dtype == np.float32:
            array = array.astype(np.float16)
        if external and array.nbytes > 4 * _ALIGNMENT:
            model.graph.initializer.append(_written_beside(name, array, beside))
        else:
            model.graph.initializer.append(numpy_helper.from_array(array, name))
    path.write_bytes(model.SerializeToString(deterministic=True))


def _written_beside(name: str, array: np.ndarray, path: Path) -> TensorProto:
    with path.open("ab") as file:
        file.write(b"\0" * (-file.tell() % _ALIGNMENT))
        start = file.tell()
        array.tofile(file)
    tensor = TensorProto(
        name=name, dims=array.shape, data_type=helper.np_dtype_to_tensor_dtype(array.dtype),
        data_location=TensorProto.EXTERNAL,
    )  # fmt: skip
    for key, value in (("location", path.name), ("offset", start), ("length", array.nbytes)):
        tensor.external_data.add(key=key, value=str(value))
    return tensor


def samples_of(size: Size, count: int, seed: int, *, takes_tokens: bool) -> np.ndarray:
    """Return tokens, or images of coarse coloured patches with noise."""
    stream = np.random.Generator(np.random.Philox(key=[seed, 1]))
    if takes_tokens:
        return stream.integers(0, size.vocabulary, (count, size.tokens), dtype=np.int64)
    coarse = stream.standard_normal((count, 3, 8, 8), dtype=np.float32)
    steps = np.arange(size.image) * 8 // size.image
    images = coarse[:, :, steps][..., steps]
    return images + 0.3 * stream.standard_normal(images.shape, dtype=np.float32)


def _session(path: Path, *, half: bool) -> ort.InferenceSession:
    options = ort.SessionOptions()
    if half:
        # Optimised, all weights are cast to float32 at once and packed: six bytes a weight more.
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
        options.add_session_config_entry("session.disable_prepacking", "1")
    return ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def _run(path: Path, outputs: list[str], x: np.ndarray, *, half: bool) -> list[np.ndarray]:
    found = _session(path, half=half).run(outputs, {"input": x})
    return [np.asarray(value, dtype=np.float32) for value in found]


def _statistics(
    name: str, size: Size, seed: int, x: np.ndarray, *, half: bool = False
) -> Statistics:
    """Run the network once on a batch that it is normalised by."""
    graph, takes_tokens = Graph(seed, None), x.ndim == 2
    NETWORKS[name][0](graph, size)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "statistics.onnx"
        save(graph, path, takes_tokens=takes_tokens, size=size, half=half)
        scores, *found = _run(path, ["scores", *graph.outputs], x, half=half)
    mean = scores.mean(axis=0)
    gain = np.float32(_LOGIT_SPREAD / (scores - mean).std())
    return {**dict(zip(graph.outputs, found, strict=True)), "gain": gain, "head.bias": -gain * mean}


def write_network(
    name: str, folder: Path, *, size: Size | None = None, samples: int = 16, seed: int = 0,
    stem: str | None = None, half: bool = False,
) -> Path:  # fmt: skip
    """Write a network with its data and data description; return the path of the network."""
    build, usual = NETWORKS[name]
    size, takes_tokens = size or usual, name in ("bert", "gpt")
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{stem or name}.onnx"
    batch = samples_of(size, _STATISTICS_SAMPLES, seed + 1, takes_tokens=takes_tokens)
    graph = Graph(seed, _statistics(name, size, seed, batch, half=half))
    build(graph, size)
    save(graph, path, takes_tokens=takes_tokens, size=size, half=half)
    x = samples_of(size, samples, seed, takes_tokens=takes_tokens)
    session = _session(path, half=half)
    scores = [session.run(["scores"], {"input": x[i : i + 1]})[0][0] for i in range(samples)]
    np.savez(path.with_suffix(".npz"), x=x, y=np.argmax(scores, axis=1))
    dtype = "int64" if takes_tokens else "float32"
    path.with_suffix(".toml").write_text(
        f'schema = 1\nfile = "{path.stem}.npz"\n\n[[input]]\nname = "input"\narray = "x"\n'
        f'dtype = "{dtype}"\n\n[label]\narray = "y"\n\n[decision]\noutput = "scores"\n'
        'read = "argmax"\nmetric = "accuracy"\n'
    )
    num_classes = len({int(np.argmax(row)) for row in scores})
    print(f"{path}: {graph.num_parameters():,} parameters, {num_classes} classes decided")
    return path


def main() -> None:
    """Write the networks named on the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("networks", nargs="+", choices=list(NETWORKS))
    parser.add_argument("--out", type=Path, required=True, help="Folder for the files")
    parser.add_argument("--name", help="Name of the files, where one network is written")
    parser.add_argument("--samples", type=int, default=16)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--half", action="store_true", help="Float16, for networks of tokens")
    for key in Size.__dataclass_fields__:
        parser.add_argument(f"--{key}", type=int, help="Default: that of the network")
    options = parser.parse_args()
    if options.name and len(options.networks) > 1:
        parser.error("--name is for one network")
    if options.half and not set(options.networks) <= {"bert", "gpt"}:
        parser.error("--half is for networks of tokens")
    for name in options.networks:
        usual = NETWORKS[name][1]
        given = {key: getattr(options, key) for key in Size.__dataclass_fields__}
        size = Size(**{key: value or getattr(usual, key) for key, value in given.items()})
        write_network(
            name, options.out, size=size, samples=options.samples, seed=options.seed,
            stem=options.name, half=options.half,
        )  # fmt: skip


if __name__ == "__main__":
    main()
