"""Finished parts of a long run on disk.

An interrupted run goes on where it stopped and ends with the same result.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save

from cimrobust.errors import CimrobustError
from cimrobust.files import write_whole
from cimrobust.json_file import parse_json
from cimrobust.tensor_file import read_described_tensors

#: Plain values for JSON, and arrays by name.
Part = tuple[dict[str, Any], Mapping[str, np.ndarray]]


@dataclass(frozen=True)
class Memory:
    """Parts of one run, each in a file of its own.

    Attributes:
        folder: Where they are kept; None: nowhere.
        fingerprint: Digest of everything that the parts depend on; parts of another run are made
            again.
    """

    folder: Path | None = None
    fingerprint: str = ""
    taken: list[str] = field(default_factory=list)

    def recall(self, name: str, make: Callable[[], Part]) -> Part:
        """Return a part: from its file if that is of this run, else made and written.

        Args:
            name: Name of the file.
            make: Makes the part.
        """
        path = None if self.folder is None else self.folder / f"{name}.part"
        known = None if path is None else self._read(path)
        if known is not None:
            self.taken.append(name)
            return known
        values, arrays = make()
        if path is not None:
            text = json.dumps({"fingerprint": self.fingerprint, "values": values})
            # Without any array the format has no place for the description.
            filled = {**arrays, "": np.zeros(1, dtype=np.uint8)}
            write_whole(
                path,
                save(
                    {key: np.ascontiguousarray(array) for key, array in filled.items()},
                    metadata={"part": text},
                ),
            )
        return values, arrays

    def _read(self, path: Path) -> Part | None:
        """Return the part in a file; None where there is none, it is corrupt, or of another run."""
        try:
            arrays, metadata = read_described_tensors(path, what="part of a run")
            described = parse_json(metadata["part"])
            if described["fingerprint"] != self.fingerprint:
                return None
            return described["values"], {key: array for key, array in arrays.items() if key}
        except (CimrobustError, KeyError, ValueError, TypeError):
            return None
