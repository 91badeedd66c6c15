"""What checks annotations at run time in the run with shapes; see `tests/conftest.py`."""

from __future__ import annotations

from io import BufferedIOBase
from typing import IO

from beartype import BeartypeConf, FrozenDict, beartype

check = beartype(
    conf=BeartypeConf(
        # An int is a float, as PEP 484 has it and mypy does.
        is_pep484_tower=True,
        # What a zip file opens is an `IO[bytes]` to mypy alone.
        hint_overrides=FrozenDict({IO[bytes]: IO[bytes] | BufferedIOBase}),
    )
)
