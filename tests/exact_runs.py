"""onnxruntime sessions of tests with exact integer products, whatever the processor and the
optimisation level.
"""

from __future__ import annotations

from pathlib import Path

import onnx
import onnxruntime

from cimrobust.engine.sessions import EXACT
from cimrobust.onnx_io.unsigned import exact_file


def exact_options() -> onnxruntime.SessionOptions:
    """Return session options with exact products."""
    options = onnxruntime.SessionOptions()
    for key, value in EXACT.items():
        options.add_session_config_entry(key, value)
    return options


def exact_model(model: onnx.ModelProto | bytes | str | Path) -> bytes | str:
    """Return a model whose integer products are exact without optimisation too, where the session
    options do nothing.
    """
    if isinstance(model, str | Path):
        return exact_file(Path(model).read_bytes(), Path(model).parent) or str(model)
    content = model if isinstance(model, bytes) else model.SerializeToString()
    return exact_file(content, Path()) or content
