from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from threading import Thread

import numpy as np
import pytest

from cimrobust.engine import sessions
from cimrobust.engine.batches import Feeding
from cimrobust.engine.original_file import run_original
from cimrobust.engine.ort import OrtEngine
from cimrobust.errors import InputRefusedError, ModelNotCoveredError, UsageError
from cimrobust.onnx_io.deploy import deploy
from cimrobust.onnx_io.network import Network
from cimrobust.onnx_io.scan import scan_layers

Loader = Callable[..., Network]
DENSE = """
<ir_version: 8, opset_import: ["" : 13]>
agraph (float[{n}, 6] x) => (float[{n}, 4] y, float[{n}, 5] h) <float[6, 5] w1, float[5, 4] w2>
{{ a = MatMul(x, w1) h = Relu(a) y = MatMul(h, w2) }}
"""
GENERATOR = np.random.default_rng(0)
W = {
    name: GENERATOR.normal(size=shape).astype(np.float32)
    for name, shape in (("w1", (6, 5)), ("w2", (5, 4)))
}
X = GENERATOR.normal(size=(23, 6)).astype(np.float32)


def _dense(weights: dict[str, np.ndarray]) -> np.ndarray:
    return np.asarray(np.maximum(X @ weights["w1"], 0) @ weights["w2"])


def _engine(
    load: Loader, first: str | int = 1, *, widen: bool = True, **settings: object
) -> OrtEngine:
    network = load(DENSE.format(n=first), W)
    return OrtEngine(deploy(network, scan_layers(network), widen=widen), **settings)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("first", "widen", "feeding"),
    [
        ("N", True, Feeding("free", 256)),
        (1, True, Feeding("free", 256)),
        (1, False, Feeding("fixed", 1)),
        (7, False, Feeding("fixed", 7)),
    ],
)
def test_every_batch_mode_gives_all_samples(
    load: Loader, first: str | int, widen: bool, feeding: Feeding
) -> None:
    engine = _engine(load, first, widen=widen)
    assert engine.feeding == feeding
    moved = {name: array + np.float32(0.5) for name, array in W.items()}
    np.testing.assert_allclose(
        engine.run(moved, {"x": X}), _dense(moved), rtol=1e-4, atol=1e-5
    )  # float32 sums of six terms


def test_results_do_not_depend_on_threads(load: Loader) -> None:
    engine = _engine(load, batch_size=4)
    np.testing.assert_array_equal(
        engine.run(W, {"x": X}, threads=1), engine.run(W, {"x": X}, threads=3)
    )


def test_many_networks_can_be_open_at_once(load: Loader) -> None:
    engine = _engine(load)
    moved = [{name: array * np.float32(scale) for name, array in W.items()} for scale in range(8)]
    results: dict[int, np.ndarray] = {}
    threads = [
        Thread(
            target=lambda index=index: results.update({index: engine.run(moved[index], {"x": X})})
        )
        for index in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for index in range(8):
        np.testing.assert_array_equal(results[index], engine.run(moved[index], {"x": X}))


def test_weight_arrays_live_as_long_as_the_network(load: Loader) -> None:
    engine = _engine(load)
    network = engine.open({name: array.copy() for name, array in W.items()})
    waste = [np.full(array.shape, 9.0, np.float32) for array in W.values() for _ in range(100)]
    np.testing.assert_allclose(network.run({"x": X}), _dense(W), rtol=1e-4, atol=1e-5)
    network.close()
    assert len(waste) == 200


def test_weights_in_another_memory_order_are_copied(load: Loader) -> None:
    fortran = {name: np.asfortranarray(array) for name, array in W.items()}
    engine = _engine(load)
    np.testing.assert_array_equal(engine.run(fortran, {"x": X}), engine.run(W, {"x": X}))


def test_any_output_can_be_the_decision(load: Loader) -> None:
    np.testing.assert_allclose(
        _engine(load, output="h").run(W, {"x": X}), np.maximum(X @ W["w1"], 0), rtol=1e-4, atol=1e-5
    )
    with pytest.raises(
        UsageError, match=r"must be an output of the graph, got 'z' \(graph has \['y', 'h'\]\)"
    ):
        _engine(load, output="z")


def test_wrong_weights_are_refused(load: Loader) -> None:
    engine = _engine(load)
    with pytest.raises(
        UsageError,
        match=r"given for every mapped initializer, got missing \['w2'\], unknown \['w3'\]",
    ):
        engine.open({"w1": W["w1"], "w3": W["w2"]})
    with pytest.raises(UsageError, match=r"'w1' must have shape \(6, 5\), got \(5, 6\)"):
        engine.open({"w1": W["w1"].T, "w2": W["w2"]})


def test_samples_that_do_not_fit_are_refused_in_one_line(load: Loader) -> None:
    with pytest.raises(
        UsageError, match=r"samples must fit the model, got x float32\[23, 7\]"
    ) as caught:
        _engine(load).run(W, {"x": np.zeros((23, 7), np.float32)})
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("first", ["N", 1, 4])
def test_original_runs_as_the_file_says(load: Loader, first: str | int) -> None:
    output = run_original(load(DENSE.format(n=first), W), {"x": X}, threads=2)
    np.testing.assert_allclose(output, _dense(W), rtol=1e-4, atol=1e-5)


def test_original_that_changed_is_refused(load: Loader) -> None:
    network = load(DENSE.format(n=1), W)
    with network.path.open("ab") as file:
        file.write(b"\0\0")
    with pytest.raises(InputRefusedError, match="must not change during a run"):
        run_original(network, {"x": X})
    network.path.unlink()
    with pytest.raises(InputRefusedError, match="model file must stay readable during a run; "):
        run_original(network, {"x": X})


def test_models_that_the_runtime_cannot_run_are_not_covered(tmp_path: Path) -> None:
    with pytest.raises(ModelNotCoveredError, match="model must be optimised by onnxruntime, got"):
        sessions.write_optimised(b"junk", weights={}, path=tmp_path / "m.onnx")
    message = "model must run in the memory that there is, got: std::bad_alloc"
    with pytest.raises(ModelNotCoveredError, match=message), sessions._errors_of_runs({"x": X}):
        raise RuntimeError("std::bad_alloc")


def test_model_that_onnxruntime_cannot_open_is_not_covered(tmp_path: Path) -> None:
    from cimrobust.engine.sessions import open_session  # noqa: PLC0415

    (tmp_path / "bad.onnx").write_bytes(b"not a model")
    with pytest.raises(ModelNotCoveredError, match="must open in onnxruntime"):
        open_session(tmp_path / "bad.onnx")


def _resident_mebibytes() -> float:
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096 / 2**20


def test_memory_is_flat_in_the_number_of_sessions(load: Loader) -> None:
    """Every session holds 4 MiB of weights and as much again packed; 200 of them must not add up."""  # noqa: E501
    text = """
    <ir_version: 8, opset_import: ["" : 13]>
    agraph (float[N, 1024] x) => (float[N, 1024] y) <float[1024, 1024] w> { y = MatMul(x, w) }
    """
    weights = np.random.default_rng(0).normal(size=(1024, 1024)).astype(np.float32)
    network = load(text, {"w": weights})
    engine, x = OrtEngine(deploy(network, scan_layers(network))), np.ones((8, 1024), np.float32)

    def growth(num_sessions: int) -> float:
        before = _resident_mebibytes()
        for _ in range(num_sessions):
            engine.run({"w": weights.copy()}, {"x": x})
        return _resident_mebibytes() - before

    growth(20)
    # What leaks grows in each round; a heap in pieces, as tests before leave it, once.
    assert min(growth(200), growth(200)) < 16
