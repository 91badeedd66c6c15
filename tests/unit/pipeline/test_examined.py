"""Where the deployed network and the file differ, the one that is wrong is named."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

import cimrobust.pipeline.opened_subject as examined
from cimrobust.data.dataset import DataSet
from cimrobust.data.load_dataset import load_data
from cimrobust.engine.arithmetic_findings import Arithmetic, WrongTensor, not_compared
from cimrobust.engine.deployed_engine import DeployedDiffersError
from cimrobust.errors import ModelNotCoveredError, SelfCheckError
from cimrobust.pipeline.inspection import Inspection, inspect_model
from cimrobust.pipeline.opened_subject import open_examined

MODEL = """<ir_version: 8, opset_import: ["" : 17]> net (float[n, 6] x) => (float[n, 3] y) { y = Gemm <transB = 1> (x, w) }"""  # noqa: E501
WRONG = WrongTensor("/conv1", "QLinearConv", True, True, 7, 100, 12.0, 0.5)


@pytest.fixture
def opened(tmp_path: Path) -> tuple[Inspection, DataSet]:
    rng, model = np.random.default_rng(0), onnx.parser.parse_model(MODEL)
    model.graph.initializer.append(
        numpy_helper.from_array(rng.standard_normal((3, 6)).astype(np.float32), "w")
    )
    onnx.save(model, tmp_path / "net.onnx")
    np.savez(
        tmp_path / "d.npz", x=rng.standard_normal((12, 6)).astype(np.float32), y=np.arange(12) % 3
    )
    inspection = inspect_model(tmp_path / "net.onnx", device="rram-write-verify-3pct")
    return inspection, load_data(tmp_path / "d.npz", inputs=inspection.network.inputs)


def finding(monkeypatch: pytest.MonkeyPatch, found: Arithmetic, *, differs: bool = False) -> None:
    def differ(*_: object, **__: object) -> None:
        raise DeployedDiffersError(
            "deployed network must give the outputs of the model file, got: others"
        )

    monkeypatch.setattr(examined, "check_arithmetic", lambda *_args, **_keys: found)
    if differs:
        monkeypatch.setattr(examined, "open_network", differ)


def test_the_check_of_arithmetic_is_among_the_checks(opened: tuple[Inspection, DataSet]) -> None:
    runtime = open_examined(*opened, calibration=None, workers=1)
    assert runtime.checks.arithmetic.compared == 1
    assert runtime.checks.arithmetic.wrong == ()


def test_a_wrong_product_of_the_runtime_is_refused(
    opened: tuple[Inspection, DataSet], monkeypatch: pytest.MonkeyPatch
) -> None:
    finding(monkeypatch, Arithmetic(4, 3, 0.1, (WRONG,), ()))
    with pytest.raises(
        ModelNotCoveredError,
        match=(
            r"/conv1 \(QLinearConv\): 7 of 100 values are off by up to 12 levels.*; run it on"
            " another processor or with another version of onnxruntime"
        ),
    ):
        open_examined(*opened, calibration=None, workers=1)


def test_another_wrong_tensor_is_a_warning(
    opened: tuple[Inspection, DataSet], monkeypatch: pytest.MonkeyPatch
) -> None:
    finding(
        monkeypatch,
        Arithmetic(4, 3, 0.1, (WrongTensor("/exp", "Exp", False, False, 1, 9, 0.25, 0.125),), ()),
    )
    runtime = open_examined(*opened, calibration=None, workers=1)
    assert any(
        "/exp (Exp): 1 of 9 values are off by up to 0.25" in text for text in runtime.warnings
    )


@pytest.mark.parametrize(
    ("found", "error", "said"),
    [
        (
            Arithmetic(4, 3, 0.1, (WRONG,), ()),
            ModelNotCoveredError,
            "the deployed network differs from such a run",
        ),
        (Arithmetic(4, 3, 0.1, (), ()), SelfCheckError, "is right, the deployed network is wrong"),
        (
            not_compared("too large"),
            SelfCheckError,
            "which of the two is right was not compared: too large",
        ),
    ],
)
def test_who_is_wrong(
    opened: tuple[Inspection, DataSet],
    monkeypatch: pytest.MonkeyPatch,
    found: Arithmetic,
    error: type[Exception],
    said: str,
) -> None:
    finding(monkeypatch, found, differs=True)
    with pytest.raises(error, match=said):
        open_examined(*opened, calibration=None, workers=1)
