"""The process that infers shapes of models nobody has vouched for."""

from __future__ import annotations

from collections.abc import Iterator

import onnx
import pytest

from cimrobust.onnx_io import sandbox


@pytest.fixture
def fresh() -> Iterator[None]:
    sandbox._stop()
    yield
    sandbox._stop()


@pytest.mark.usefixtures("fresh")
def test_it_starts_on_a_system_without_proc(monkeypatch: pytest.MonkeyPatch) -> None:
    elsewhere = sandbox._CODE.replace("/proc/", "/no-such-folder/")
    monkeypatch.setattr(sandbox, "_CODE", f"import sys\nsys.platform = 'darwin'\n{elsewhere}")
    model = onnx.parser.parse_model(
        '<ir_version: 8, opset_import: ["" : 17]> g (float[1, 2] x) => (float[1, 2] y)'
        " { y = Relu(x) }"
    )
    assert sandbox.inference_problem(model.SerializeToString()) is None
