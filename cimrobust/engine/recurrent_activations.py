"""Activations of recurrent nodes, in NumPy."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from jaxtyping import Float32
from scipy.special import expit

from cimrobust.errors import ModelNotCoveredError

Activation = Callable[[Float32[np.ndarray, "*shape"]], Float32[np.ndarray, "*shape"]]

_Function = Callable[
    [Float32[np.ndarray, "*shape"], np.float32, np.float32], Float32[np.ndarray, "*shape"]
]


def _softplus(
    x: Float32[np.ndarray, "*shape"], _a: np.float32, _b: np.float32
) -> Float32[np.ndarray, "*shape"]:
    return np.asarray(np.logaddexp(x, np.float32(0)))


def _elu(
    x: Float32[np.ndarray, "*shape"], a: np.float32, _b: np.float32
) -> Float32[np.ndarray, "*shape"]:
    return np.where(x >= 0, x, a * np.expm1(np.minimum(x, np.float32(0))))


# Function and default alpha and beta; None: the function has no such parameter. ONNX leaves the
# defaults of Affine, ScaledTanh and ThresholdedRelu to operators that do not exist or have others;
# onnxruntime takes 0, and the network is what it computes.
_FUNCTIONS: Mapping[str, tuple[_Function, float | None, float | None]] = {
    "affine": (lambda x, a, b: a * x + b, 0.0, 0.0),
    "elu": (_elu, 1.0, None),
    "hardsigmoid": (lambda x, a, b: np.clip(a * x + b, np.float32(0), np.float32(1)), 0.2, 0.5),
    "leakyrelu": (lambda x, a, _: np.where(x >= 0, x, a * x), 0.01, None),
    "relu": (lambda x, _a, _b: np.maximum(x, np.float32(0)), None, None),
    "scaledtanh": (lambda x, a, b: a * np.tanh(b * x), 0.0, 0.0),
    "sigmoid": (lambda x, _a, _b: np.asarray(expit(x)), None, None),
    "softplus": (_softplus, None, None),
    "softsign": (lambda x, _a, _b: x / (np.float32(1) + np.abs(x)), None, None),
    "tanh": (lambda x, _a, _b: np.tanh(x), None, None),
    "thresholdedrelu": (lambda x, a, _: np.where(x > a, x, np.float32(0)), 0.0, None),
}


def activations_of(
    attributes: Mapping[str, object], defaults: Sequence[str], num_directions: int
) -> list[tuple[Activation, ...]]:
    """Return the activations of every direction.

    Values of ``activation_alpha`` and ``activation_beta`` go, in their order, to the functions that
    have such a parameter.

    Raises:
        ModelNotCoveredError: A function is not known.
    """
    listed = attributes.get("activations")
    names = (
        [str(name) for name in listed]
        if isinstance(listed, Sequence) and listed
        else [*defaults] * num_directions
    )
    alphas, betas = _floats(attributes, "activation_alpha"), _floats(attributes, "activation_beta")
    functions: list[Activation] = []
    for name in names:
        if name.lower() not in _FUNCTIONS:
            raise ModelNotCoveredError(
                f"activation of a recurrent node must be one of ONNX's, got '{name}'; export it"
                " with one of them"
            )
        function, alpha, beta = _FUNCTIONS[name.lower()]
        functions.append(_bound(function, _next(alphas, alpha), _next(betas, beta)))
    size = len(defaults)
    return [
        tuple(functions[start : start + size]) for start in range(0, size * num_directions, size)
    ]


def _bound(function: _Function, alpha: np.float32, beta: np.float32) -> Activation:
    return lambda x: function(x, alpha, beta)


def _next(values: list[float], default: float | None) -> np.float32:
    """Take the next value for a parameter; a function without the parameter takes none."""
    if default is None:
        return np.float32(0)
    return np.float32(values.pop(0) if values else default)


def _floats(attributes: Mapping[str, object], name: str) -> list[float]:
    values = attributes.get(name)
    return [float(str(value)) for value in values] if isinstance(values, Sequence) else []
