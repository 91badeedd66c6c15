"""Fitted estimators of scikit-learn as ONNX models."""

from __future__ import annotations

import importlib.util
import warnings
from typing import Any

import onnx

from cimrobust.errors import UsageError
from cimrobust.printable_text import printable


def converted(estimator: Any) -> onnx.ModelProto:
    """Return an estimator as a model of one float input ``X`` of shape (samples, features).

    Args:
        estimator: Fitted; a classifier gives labels and a plain table of probabilities.

    Raises:
        UsageError: skl2onnx is not installed, the estimator is not fitted, or has a part that
            skl2onnx does not know.
    """
    if importlib.util.find_spec("skl2onnx") is None:
        raise UsageError(
            "estimator of scikit-learn must have skl2onnx, which is not installed (model); install"
            " it: pip install skl2onnx, or convert the estimator and give the file"
        )
    features = getattr(estimator, "n_features_in_", None)
    if features is None:
        raise UsageError(
            f"estimator must be fitted, got a {type(estimator).__name__} that is not (model); call"
            " its fit first"
        )
    from skl2onnx import to_onnx  # noqa: PLC0415  # only where somebody has an estimator
    from skl2onnx.common.data_types import FloatTensorType  # noqa: PLC0415
    from sklearn.base import is_classifier  # noqa: PLC0415

    options = {id(estimator): {"zipmap": False}} if is_classifier(estimator) else None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model: onnx.ModelProto = to_onnx(
                estimator,
                initial_types=[("X", FloatTensorType([None, int(features)]))],
                options=options,
            )
    except Exception as err:  # whatever skl2onnx raises on what it does not know
        raise UsageError(
            f"estimator must be one that skl2onnx converts, got {type(err).__name__}:"
            f" {printable(err)[:300]} (model); convert it yourself and give the file"
        ) from err
    return model
