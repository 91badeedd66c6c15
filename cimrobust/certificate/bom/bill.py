"""The one door of CycloneDX.

A bill of materials from its models, with the parts that they lack added to the serialisation.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any
from uuid import NAMESPACE_URL, uuid5

from cyclonedx.model import ExternalReference, ExternalReferenceType, HashAlgorithm, HashType, XsUri
from cyclonedx.model.bom import Bom, BomMetaData
from cyclonedx.model.component import Component, ComponentType
from cyclonedx.model.tool import ToolRepository
from cyclonedx.output.json import JsonV1Dot6

from cimrobust.certificate.bom.claims import MODEL, declarations
from cimrobust.certificate.bom.model_card import model_card

if TYPE_CHECKING:
    from cimrobust.certificate.models import CertificateModel

_DATA, _PART = "data/", "part/"
_SERIALS = "https://cimrobust.org/certificates"


@dataclass(frozen=True)
class EvidenceFile:
    """A file that a bill of materials refers to.

    Attributes:
        url: Path, relative to the folder of the certificate.
        sha256: Its digest.
    """

    url: str
    sha256: str


def bill_of_materials(
    certificate: CertificateModel,
    *,
    stated: EvidenceFile,
    witness: EvidenceFile,
    attestation: EvidenceFile | None,
    timestamp: datetime | None,
) -> str:
    """Return an ML-BOM, CycloneDX 1.6 in JSON: the same for the same certificate.

    Args:
        certificate: The certificate.
        stated: Its file; the serial number follows from its digest.
        witness: The worst chip found.
        attestation: Signed statement about the certificate; None: there is none.
        timestamp: When the bill is made; None: not stated.
    """
    datasets = {f"{_DATA}{name}": digest for name, digest in sorted(certificate.data.files.items())}
    bom = _parts(certificate, datasets, _references(stated, witness, attestation))
    bom.serial_number = uuid5(NAMESPACE_URL, f"{_SERIALS}/{stated.sha256}")
    with (
        warnings.catch_warnings()
    ):  # a network in one file depends on nothing, which the library takes for an oversight
        warnings.filterwarnings(
            "ignore", message=".*has no defined dependencies", category=UserWarning
        )
        plain: dict[str, Any] = json.loads(JsonV1Dot6(bom).output_as_string())
    # The library states the clock's time where it is given none, and the same certificate must give
    # the same bill.
    del plain["metadata"]["timestamp"]
    if timestamp is not None:
        plain["metadata"]["timestamp"] = timestamp.isoformat()
    plain["metadata"]["component"]["modelCard"] = model_card(certificate, datasets)
    for component in plain["components"]:
        if component["type"] == "data":
            component["data"] = [{"type": "dataset", "name": component["name"]}]
    plain["declarations"] = declarations(
        certificate,
        certificate_url=stated.url,
        witness_url=witness.url,
        witness_sha256=witness.sha256,
        sha256=stated.sha256,
    )
    return json.dumps(plain, indent=2, sort_keys=True, ensure_ascii=False) + "\n"


def _parts(
    certificate: CertificateModel,
    datasets: Mapping[str, str],
    references: Iterable[ExternalReference],
) -> Bom:
    """Return network, external data, evaluation data and tool.

    The network's file is the first that the certificate names.
    """
    main, *others = certificate.model.files
    model = _component(main.name, ComponentType.MACHINE_LEARNING_MODEL, MODEL, main.sha256)
    model.external_references.update(references)
    parts = [
        _component(file.name, ComponentType.FILE, f"{_PART}{file.name}", file.sha256)
        for file in others
    ]
    data = [
        _component(name.removeprefix(_DATA), ComponentType.DATA, name, digest)
        for name, digest in datasets.items()
    ]
    tool = Component(
        name=certificate.tool.name,
        version=certificate.tool.version,
        type=ComponentType.APPLICATION,
        bom_ref="tool",
    )
    bom = Bom(
        metadata=BomMetaData(component=model, tools=ToolRepository(components=[tool])),
        components=[*parts, *data],
    )
    bom.register_dependency(model, parts)
    return bom


def _component(name: str, kind: ComponentType, reference: str, sha256: str) -> Component:
    return Component(name=name, type=kind, bom_ref=reference, hashes=[_hash(sha256)])


def _hash(sha256: str) -> HashType:
    return HashType(alg=HashAlgorithm.SHA_256, content=sha256)


def _references(
    stated: EvidenceFile, witness: EvidenceFile, attestation: EvidenceFile | None
) -> Iterator[ExternalReference]:
    files = {
        ExternalReferenceType.CERTIFICATION_REPORT: stated,
        ExternalReferenceType.EVIDENCE: witness,
    }
    if attestation is not None:
        files[ExternalReferenceType.ATTESTATION] = attestation
    for kind, file in files.items():
        yield ExternalReference(type=kind, url=XsUri(file.url), hashes=[_hash(file.sha256)])
