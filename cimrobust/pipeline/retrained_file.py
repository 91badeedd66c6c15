"""The file of a re-trained network: where it lies, and that it holds what was trained."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from cimrobust.certificate.result_names import RETRAINED_MODEL
from cimrobust.engine.deployed_engine import rounds_activations
from cimrobust.engine.other_sizes import check_sizes
from cimrobust.errors import CimrobustError
from cimrobust.mapping.decided import stored_layers
from cimrobust.mapping.place import place
from cimrobust.onnx_io.deploy import deploy
from cimrobust.onnx_io.load_network import load_network
from cimrobust.onnx_io.save import to_bytes
from cimrobust.onnx_io.write_back import write_back
from cimrobust.training.parameters import Parameters, check_changed, stored_integers
from cimrobust.training.training_roles import CONTROL, METHOD
from cimrobust.training.written import check_written

if TYPE_CHECKING:
    from cimrobust.training.session import Session


def model_of(out: Path, role: str) -> Path:
    """Return where the network of a training lies."""
    if role == METHOD:
        return out / RETRAINED_MODEL
    folder = out / role if role == CONTROL else out / "steps" / role
    return folder / RETRAINED_MODEL


def export(session: Session, parameters: Parameters, path: Path, *, must_change: bool) -> None:
    """Write a network with other values; check that it changed, and that the file holds them.

    Raises:
        UsageError: It did not.
        SelfCheckError: It does not.
    """
    values, integers = stored_integers(session.trainable, parameters)
    before, before_integers = stored_integers(session.trainable, session.parameters)
    check_changed({**before, **before_integers}, {**values, **integers}, must_change=must_change)
    path.parent.mkdir(parents=True, exist_ok=True)
    written = write_back(session.runtime.network.path, path, values, integers)
    try:
        _check_file(session, parameters, path)
    except CimrobustError:
        for file in written:
            file.unlink(missing_ok=True)
        raise


def _check_file(session: Session, parameters: Parameters, path: Path) -> None:
    """Check that a file holds what was trained, and computes the same at other sizes.

    Raises:
        SelfCheckError: It does not.
    """
    network, scan = stored_layers(load_network(path), session.profile)
    written = place(scan, session.profile)
    stored = session.network.stored(parameters)
    for name, devices in session.trainable.devices.items():
        weight, network_before = stored[name].detach(), session.runtime.network
        kind = (
            "bfloat16"
            if name in network_before.bfloat16_in_file
            else network_before.initializers[name].dtype.name
        )
        check_written(
            weight.cpu().numpy(),
            devices.program(weight).nominal.cpu().numpy(),
            written.tensors[name],
            kind,
            path,
        )
    deployed = to_bytes(deploy(network, scan, widen=False).model, path)
    check_sizes(network, deployed, integer=rounds_activations(network, scan))
