"""Which files the witness of a result is made of."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from cimrobust.errors import InputRefusedError

if TYPE_CHECKING:
    from cimrobust.onnx_io.network import Network


def require_listed(witness: Network, listed: Collection[str], model: str) -> None:
    """Raise InputRefusedError where a witness has data in files whose digests nobody states.

    Args:
        witness: Network of the witness file.
        listed: Files that a result lists, from its folder.
        model: The witness file among them.
    """
    folder = PurePosixPath(model).parent
    others = [file.name for file in witness.files[1:] if str(folder / file.name) not in listed]
    if others:
        raise InputRefusedError(
            f"witness files must all be listed with their digests, got data in '{others[0]}'"
            " (worst_found.witness); do not trust it"
        )
