"""The published schemas.

Of the current version of each format from its model, of older ones as they were released.

``python -m cimrobust.certificate.published_schemas`` writes those of the current versions into
`schemas/`.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, get_args

from pydantic import BaseModel

from cimrobust.certificate.models import CertificateModel
from cimrobust.certificate.models.attested import Attestation
from cimrobust.certificate.models.compared_certificates import Comparison
from cimrobust.certificate.models.listed import Manifest
from cimrobust.certificate.models.printed_certificates import (
    AnalyzeOutput,
    GateOutput,
    GateRefusedOutput,
    RareOutput,
    ReplayOutput,
    RetrainOutput,
    SweepOutput,
)
from cimrobust.certificate.models.printed_devices import (
    DevicesCheckOutput,
    DevicesFitOutput,
    DevicesLevelsOutput,
    DevicesListOutput,
    DevicesShowOutput,
)
from cimrobust.certificate.models.printed_folders import (
    BomOutput,
    ReportOutput,
    SignOutput,
    VerifySignatureOutput,
)
from cimrobust.certificate.models.printed_installation import DoctorOutput
from cimrobust.certificate.models.printed_networks import (
    InitOutput,
    InspectOutput,
    RewriteOutput,
    VerifyOutput,
)
from cimrobust.certificate.models.printed_plan import PlanOutput
from cimrobust.certificate.models.printed_progress import ProgressOutput
from cimrobust.certificate.models.retrained import Retraining
from cimrobust.certificate.models.suggested import SuggestModel
from cimrobust.certificate.models.swept import SweepModel
from cimrobust.certificate.schema_files import FOLDER
from cimrobust.field_texts import field_texts

if TYPE_CHECKING:
    from cimrobust.certificate.models.result_file import ResultFile

#: Model of the current version by name of the format.
FORMATS: dict[str, type[ResultFile]] = {
    kind.NAME: kind
    for kind in (
        CertificateModel,
        SweepModel,
        Retraining,
        SuggestModel,
        Comparison,
        Manifest,
        Attestation,
    )
}
#: Model of what a command prints with `--json`, by name. `suggest` and `compare` print their files.
OUTPUTS: dict[str, type[ResultFile]] = {
    kind.NAME: kind
    for kind in (
        DoctorOutput,
        ProgressOutput,
        InitOutput,
        InspectOutput,
        AnalyzeOutput,
        PlanOutput,
        SweepOutput,
        RareOutput,
        GateOutput,
        GateRefusedOutput,
        ReplayOutput,
        SignOutput,
        VerifySignatureOutput,
        BomOutput,
        ReportOutput,
        RetrainOutput,
        VerifyOutput,
        RewriteOutput,
        DevicesListOutput,
        DevicesShowOutput,
        DevicesLevelsOutput,
        DevicesFitOutput,
        DevicesCheckOutput,
    )
}


def described_schema(kind: type[ResultFile]) -> dict[str, Any]:
    """Return the schema of a format with a description for every property.

    The text that stands behind its field.

    Only the published files need it, so it is made when they are written, not whenever the models
    are imported.
    """
    schema: dict[str, Any] = json.loads(json.dumps(kind.published_schema()))
    models = {model.__name__: model for model in _models_of(kind)}
    for name, described in ((kind.__name__, schema), *schema.get("$defs", {}).items()):
        texts = field_texts(models[name])
        for field, properties in described.get("properties", {}).items():
            # A key that is a word of Python or pydantic has an underscore behind it in the model.
            properties["description"] = texts.get(field) or texts[f"{field}_"]
    return schema


def _models_of(kind: type[BaseModel]) -> set[type[BaseModel]]:
    """Return a model and all models that its fields or entries hold, however deep."""
    found: set[type[BaseModel]] = set()
    waiting: list[Any] = [kind, getattr(kind, "ITEM", None)]
    while waiting:
        part = waiting.pop()
        if not (isinstance(part, type) and issubclass(part, BaseModel)):
            waiting += get_args(part)
        elif part not in found:
            found.add(part)
            waiting += [field.annotation for field in part.model_fields.values()]
    return found


def write_schemas() -> None:
    """Write the schemas of the current versions from their models."""
    for name, kind in (FORMATS | OUTPUTS).items():
        text = json.dumps(described_schema(kind), indent=2) + "\n"
        (FOLDER / f"{name}-{kind.VERSION}.json").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    write_schemas()
