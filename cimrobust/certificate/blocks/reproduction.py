"""How a certificate is made again, as a command and in Python."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from cimrobust.certificate.models import Reproduce
from cimrobust.certificate.witness_check import witness_check

if TYPE_CHECKING:
    from cimrobust.certificate.models import Setting

#: Settings that may be given several times.
REPEATED = frozenset({"digital", "skip"})


def reproduction(
    model: str, *, data: str, device: str, settings: Sequence[Setting], num_weights: int
) -> Reproduce:
    """Say how a certificate is made again, verdict included.

    Args:
        model: File name of the network.
        data: Base name of what was given as data.
        device: Base name of what was given as devices.
        settings: All settings; those that were given are said.
        num_weights: Stored weights of the network.
    """
    given = [setting for setting in settings if not setting.is_default]
    return Reproduce(
        command=_command(model, data, device, given),
        python=_python(model, data, device, given),
        witness_check=witness_check(num_weights),
    )


def _command(model: str, data: str, device: str, given: Sequence[Setting]) -> str:
    parts = ["cimrobust", "analyze", model, "--data", data, "--device", device, "--out", "out"]
    for setting in given:
        parts += (
            [f"--{setting.key}"]
            if setting.value is True
            else [f"--{setting.key}", str(setting.value)]
        )
    return shlex.join(parts)


def _python(model: str, data: str, device: str, given: Sequence[Setting]) -> str:
    named: dict[str, Any] = {}
    for setting in given:
        name = setting.key.replace("-", "_")
        named[name] = (
            [*named.get(name, []), setting.value] if setting.key in REPEATED else setting.value
        )
    arguments = {"data": data, "device": device, "out": "out", **named}
    shown = ", ".join(f"{key}={value!r}" for key, value in arguments.items())
    return f"import cimrobust\n\ncertificate = cimrobust.analyze({model!r}, {shown})"
