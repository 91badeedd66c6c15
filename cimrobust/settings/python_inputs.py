"""What the functions of the package take in place of files.

Names for type checkers and signatures. The libraries that they come from are not imported: at run
time their types are Any.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

if TYPE_CHECKING:
    from onnx import ModelProto
    from torch.nn import Module
    from torch.utils.data import DataLoader, TensorDataset

    TorchData: TypeAlias = DataLoader[Any] | TensorDataset
else:
    ModelProto = Module = TorchData = Any


class Estimator(Protocol):
    """A fitted estimator of scikit-learn."""

    def get_params(self, deep: bool = ...) -> dict[str, Any]:
        """Return its parameters."""


class Table(Protocol):
    """A pandas DataFrame or a Hugging Face Dataset."""

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""


class InFolder(Protocol):
    """A result that lies in a folder, as `Certificate`, `Sweep` and `Retrained` do."""

    @property
    def directory(self) -> Path:
        """The folder."""


#: An ONNX file; or a model in memory: its bytes, an `onnx.ModelProto`, a `torch.nn.Module`, a
#: fitted estimator of scikit-learn.
ModelLike: TypeAlias = str | Path | bytes | ModelProto | Module | Estimator
#: Data by name; or in memory: arrays ``(x, y)``, arrays by graph input and ``y``, of torch, a
#: pandas DataFrame, a Hugging Face Dataset.
DataLike: TypeAlias = str | Path | tuple[Any, Any] | Mapping[str, Any] | TorchData | Table
#: A policy's TOML file, or its tables.
PolicyLike: TypeAlias = str | Path | Mapping[str, Any]
#: A shipped device profile by name, a TOML file, or its tables.
DeviceLike: TypeAlias = str | Path | Mapping[str, Any]
#: A folder of a result, or the result.
FolderLike: TypeAlias = str | Path | InFolder
