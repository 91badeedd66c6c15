"""Results that lie in a folder: their files can be kept elsewhere."""

from __future__ import annotations

import copy
import shutil
from pathlib import Path
from typing import Self

from cimrobust.errors import UsageError
from cimrobust.files import staging_folder
from cimrobust.input_file import printable


class SavedResult:
    """What a result in a folder can do, whatever it says.

    Attributes:
        directory: Where its files are. Without ``out`` it is a private folder, which is removed
            with the result.
    """

    directory: Path

    def save(self, folder: str | Path) -> Self:
        """Copy all files of the result to a folder, which appears whole or not at all.

        Args:
            folder: Made here; must be missing or empty, and outside of the result's own.

        Returns:
            The same result there.

        Raises:
            UsageError: The folder has files in it, is no folder, or lies in the result's own.
        """
        if not isinstance(folder, str | Path):
            raise UsageError(
                f"folder must be a path, got {type(folder).__name__} (folder); give text or a Path"
            )
        target = Path(folder)
        if target.exists() and not (target.is_dir() and not any(target.iterdir())):
            raise UsageError(
                f"folder must be missing or empty, got one with files ({printable(target)}); give"
                " another"
            )
        if target.resolve().is_relative_to(self.directory.resolve()):
            # A copy would have to hold itself.
            raise UsageError(
                "folder must lie outside of the result's own, got one inside"
                f" ({printable(target)}); give another"
            )
        target.parent.mkdir(parents=True, exist_ok=True)
        with staging_folder(target.parent) as staged:
            shutil.copytree(self.directory, staged / "result").replace(target)
        moved = copy.copy(self)
        object.__setattr__(moved, "directory", target)  # a frozen dataclass, of any fields
        return moved
