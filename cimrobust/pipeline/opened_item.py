"""What a run is about: a model, its data and its devices, as the user named them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cimrobust.data.calibration import load_samples
from cimrobust.engine.open import Runtime
from cimrobust.engine.teacher import labelled_by
from cimrobust.errors import UsageError
from cimrobust.onnx_io.load_network import load_network
from cimrobust.pipeline.examined import open_examined
from cimrobust.pipeline.inspection import Inspection, inspect_model


@dataclass(frozen=True)
class Item:
    """The item under test, before anything is loaded.

    Attributes:
        model: ONNX file.
        data: Data description, .npz, .csv, folder of ONNX test data, or ``module:function``.
        device: Name of a shipped device profile, or a TOML file.
        tolerance: Write-verify tolerance in place of the profile's, fraction of the conductance
            range.
        limit: Use the first so many samples.
        calibration: Data that converters take their ranges from; None: see `load_samples`.
        labels_of: Network whose clean decisions are the labels of data that have none; None: the
            model itself.
        digital: Patterns of initializer or node names whose layers stay digital, beside the rules
            of the profile.
    """

    model: str | Path
    data: str | Path
    device: str | Path
    tolerance: float | None = None
    limit: int | None = None
    calibration: str | Path | None = None
    labels_of: str | Path | None = None
    digital: Sequence[str] = ()

    def inspect(self) -> Inspection:
        """Load the model and place its crossbar layers; errors as `inspect_model`."""
        return inspect_model(
            self.model, device=str(self.device), tolerance=self.tolerance, digital=self.digital
        )

    def open(self, inspection: Inspection, *, workers: int) -> Runtime:
        """Load the samples and deploy the network on them.

        Errors as `load_samples` and `open_examined`.

        Args:
            inspection: What `inspect` returned.
            workers: Threads; no result depends on it.

        Raises:
            UsageError: The labels are to be those of another network, but the data have their own.
        """
        dataset, calibrating = load_samples(
            self.data,
            None if self.calibration is None else str(self.calibration),
            inputs=inspection.network.inputs,
            limit=self.limit,
            needs_calibration=inspection.placement.profile.needs_kernel,
        )
        if self.labels_of is not None:
            if dataset.labels is not None:
                raise UsageError(
                    "data must have no labels where another network's decisions are to be the"
                    f" labels, got labels in {self.data} (--labels-of); leave --labels-of out, or"
                    " write self = true under [label]"
                )
            dataset = labelled_by(load_network(Path(self.labels_of)), dataset, workers=workers)
        return open_examined(inspection, dataset, calibration=calibrating, workers=workers)
