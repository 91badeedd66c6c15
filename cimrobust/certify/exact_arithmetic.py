"""onnxruntime's arithmetic against exact arithmetic, on a few samples.

One run gives the inner tensors; `certify.operator_comparison` holds each operator against float64.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Shaped

from cimrobust.available_memory import available_memory
from cimrobust.certify.operator_comparison import Comparison
from cimrobust.engine.arithmetic_findings import Arithmetic, not_compared
from cimrobust.engine.batches import Feeding, cast_inputs, feeding_of_file
from cimrobust.engine.sessions import open_session
from cimrobust.engine.torch_threads import one_torch_thread
from cimrobust.errors import CimrobustError
from cimrobust.onnx_io.batch import coupling_operators
from cimrobust.onnx_io.exposed import as_declared, cut_tensors, with_outputs, work_of
from cimrobust.onnx_io.shapes import infer_types
from cimrobust.onnx_io.tensors import type_name
from cimrobust.twin.to_torch import TwinUnavailableError, to_torch

if TYPE_CHECKING:
    from cimrobust.onnx_io.network import Network

#: Samples, where the network takes any number at a time.
_SAMPLES = 4
#: Products a run may take; above it nothing is compared. A second or two in float64 on one core.
MOST_PRODUCTS = 2**32
#: Bytes that the inner tensors may take.
MOST_BYTES = 2**29
#: Parameters that the network may have: they are held in float64.
MOST_PARAMETERS = 2**26
# Bytes of a parameter: float64 constants, and those made of them; the model with its inner tensors
# as outputs, and the session of it. Of a ResNet-50 as integers 34 were seen, as floats 22.
_TWIN_BYTES = 36


def check_arithmetic(
    network: Network,
    inputs: Mapping[str, Shaped[np.ndarray, "samples ..."]],
    constants: Mapping[str, Shaped[np.ndarray, "..."]],
    *,
    output: str,
) -> Arithmetic:
    """Compare onnxruntime's run of a network with exact arithmetic on a few samples.

    Args:
        network: The network as loaded.
        inputs: Samples by graph input, samples first.
        constants: Graph inputs that are the same for all samples.
        output: Output that decisions are read from.
    """
    feeding = feeding_of_file(
        network.inputs, inputs, _SAMPLES, apart=bool(coupling_operators(network.model))
    )
    count = (
        feeding.size if feeding.mode != "free" else min(_SAMPLES, len(next(iter(inputs.values()))))
    )
    products, size = work_of(network.model, count)
    if products > MOST_PRODUCTS or size > MOST_BYTES:
        return not_compared(
            f"a run of {count} samples takes {products:.3g} products and {size:.3g} bytes, more"
            f" than the {MOST_PRODUCTS:.3g} and {MOST_BYTES:.3g} that this check may take"
        )
    needed, free = twin_bytes(network) + 2 * size, available_memory()
    if needed > free:
        return not_compared(
            f"its float64 form takes {needed / 1e9:.3g} GB of memory, and {free / 1e9:.3g} GB may"
            " be taken"
        )
    if network.num_parameters > MOST_PARAMETERS:
        return not_compared(
            f"the network has {network.num_parameters:.3g} parameters, more than the"
            f" {MOST_PARAMETERS:.3g} that this check may take"
        )
    try:
        twin = to_torch(network.model, outputs=[output]).double()
    except TwinUnavailableError as err:
        return not_compared(
            "no float64 form of"
            f" {'; '.join(err.nodes[:3])}{' and others' if len(err.nodes) > 3 else ''}"
        )
    feed = {
        **_one_batch(cast_inputs(network.inputs, inputs), feeding, count),
        **cast_inputs(network.inputs, constants),
    }
    names = (
        *cut_tensors(network.model, output),
        *_rounded_constants(network, twin.constants().keys()),
    )
    try:
        session = open_session(with_outputs(network.model, names))
        given = as_declared(
            network.model, dict(zip(names, session.run(list(names), feed), strict=True))
        )
    except Exception as err:  # whatever onnxruntime raises: nothing else needs inner tensors
        return not_compared(f"onnxruntime does not give the inner tensors ({type(err).__name__})")
    del session
    try:
        with torch.no_grad(), one_torch_thread():
            return Comparison(twin, output, feed, given).result(
                1 if feeding.mode == "none" else count
            )
    except (CimrobustError, RuntimeError) as err:
        return not_compared(f"the float64 form does not run ({type(err).__name__})")


def _rounded_constants(network: Network, constants: Collection[str]) -> list[str]:
    """Return float tensors that constants alone decide by way of 16 bit numbers.

    The float64 form has no such rounding, so that they are taken as onnxruntime makes them.
    """
    types = infer_types(network.model, strict=False)
    rounded: dict[str, None] = {}
    for node in network.model.graph.node:
        made = [name for name in node.output if name in constants and name in types]
        by_short = any(name in rounded for name in node.input)
        for name in made:
            kind = type_name(types[name].elem_type)
            if kind == "float16" or (by_short and kind.startswith("float")):
                rounded[name] = None
    return list(rounded)


def twin_bytes(network: Network) -> int:
    """Return what comparing a network takes beside its inner tensors."""
    return _TWIN_BYTES * network.num_parameters


def _one_batch(
    inputs: Mapping[str, Shaped[np.ndarray, "samples ..."]], feeding: Feeding, count: int
) -> dict[str, Shaped[np.ndarray, "..."]]:
    if feeding.mode == "none":
        return {name: array[0] for name, array in inputs.items()}
    return {
        name: np.take(array, np.arange(count) % len(array), axis=0)
        for name, array in inputs.items()
    }
