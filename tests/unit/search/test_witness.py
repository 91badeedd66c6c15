from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import numpy_helper
from safetensors.numpy import load_file

from cimrobust.data.decision import Score
from cimrobust.errors import SelfCheckError
from cimrobust.mapping.box import box_of
from cimrobust.search.witness import DEVIATIONS_FILE, MODEL_FILE, write_witness
from cimrobust.search.witness_replay import compare_replay, replay_file
from tests.unit.search.conftest import MLP, Opener, mlp_weights, samples


@pytest.mark.parametrize("batch", ["N", "1"])
def test_anyone_can_check_the_files(opened: Opener, tmp_path: Path, batch: str) -> None:
    x = samples(30, 6)
    runtime, placement = opened(MLP.replace("N,", f"{batch},"), mlp_weights(), {"x": x})
    box = box_of(placement)
    pattern = box.random_corner(np.random.default_rng(0))
    write_witness(tmp_path, runtime, box, pattern)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        DEVIATIONS_FILE,
        "model.onnx",
        MODEL_FILE,
    ]

    tensors = load_file(tmp_path / DEVIATIONS_FILE)
    model = onnx.load(tmp_path / MODEL_FILE)
    stored = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    for name in ("w1", "w2"):
        nominal, deviation = tensors[f"{name}.nominal"], tensors[f"{name}.deviation"]
        assert (tensors[f"{name}.lo"] <= deviation).all()
        assert (deviation <= tensors[f"{name}.hi"]).all()
        np.testing.assert_array_equal(stored[name], nominal + deviation)
        assert {
            tensors[f"{name}.{part}"].dtype for part in ("nominal", "lo", "hi", "deviation")
        } == {np.dtype(np.float32)}

    session = ort.InferenceSession(str(tmp_path / MODEL_FILE), providers=["CPUExecutionProvider"])
    chosen = [int(session.run(None, {"x": sample[None]})[0].argmax()) for sample in x]
    score = replay_file(tmp_path / MODEL_FILE, runtime.dataset, runtime.task)
    assert score.count == int((np.array(chosen) == runtime.task.labels).sum())


def test_a_pattern_outside_the_box_is_not_written(opened: Opener, tmp_path: Path) -> None:
    runtime, placement = opened(MLP, mlp_weights(), {"x": samples(10, 6)})
    box = box_of(placement)
    with pytest.raises(SelfCheckError, match="must lie in its tolerance interval"):
        write_witness(tmp_path, runtime, box, {name: 2 * box.hi[name] + 1 for name in box.names})
    assert not (tmp_path / MODEL_FILE).exists()


def test_replay_that_differs_too_much_is_an_internal_error(opened: Opener) -> None:
    runtime, _ = opened(MLP, mlp_weights(), {"x": samples(10, 6)})
    assert "exactly" in compare_replay(runtime, Score(0.5, 500, 1000), Score(0.5, 500, 1000))
    assert "but for 3 decisions" in compare_replay(
        runtime, Score(0.5, 500, 1000), Score(0.503, 503, 1000)
    )
    with pytest.raises(
        SelfCheckError,
        match=r"replayed witness must give the score of the search, got 0\.6 in place of 0\.5",
    ):
        compare_replay(runtime, Score(0.5, 500, 1000), Score(0.6, 600, 1000))
    with pytest.raises(SelfCheckError, match="got inf in place of 2"):
        compare_replay(runtime, Score(2.0, None, 10), Score(float("inf"), None, 10))
