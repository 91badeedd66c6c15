"""A genuine certificate of a network that fails, and what a forger needs to make it pass."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import cimrobust
from cimrobust.certificate.files import CERTIFICATE, REPORT, TRIALS, canonical_json
from cimrobust.certificate.manifest import write_manifest
from cimrobust.certificate.models import CertificateModel
from cimrobust.certificate.policy import Policy
from cimrobust.certificate.verdict import judge
from cimrobust.files import sha256_of
from cimrobust.montecarlo.table import from_parquet
from cimrobust.report.render import render
from cimrobust.review.check import ReplayCheck

POLICY = "[require]\nclean_accuracy = 0.9\nworst_found_accuracy = 0.8\nkpp = { k = 1, accuracy = 0.8 }\n"


@dataclass(frozen=True)
class Forged:
    """A certificate in a forger's hands."""

    folder: Path

    @property
    def plain(self) -> dict[str, Any]:
        """The certificate as plain values."""
        values: dict[str, Any] = json.loads((self.folder / CERTIFICATE).read_text())
        return values

    def write(self, values: dict[str, Any], *, judged: bool = True, rendered: bool = True) -> None:
        """Write a certificate whose verdict, digests and page follow from its numbers, by the tool's own functions."""
        for name in values["worst_found"]["witness"]:
            values["worst_found"]["witness"][name] = sha256_of(self.folder / name)
        made = CertificateModel.model_validate(values)
        if judged:
            policy = None if made.policy is None else Policy.model_validate(made.policy)
            made = made.model_copy(update={"verdict": judge(made, policy, from_parquet(self.folder / TRIALS))})
        (self.folder / CERTIFICATE).write_text(canonical_json(made))
        if rendered:
            (self.folder / REPORT).write_text(render(made))
        write_manifest(self.folder)


@dataclass(frozen=True)
class Case:
    """What is certified."""

    model: Path
    data: Path
    policy: Path
    folder: Path

    def replay(self, folder: Path, **more: Any) -> list[ReplayCheck]:
        """Replay a certificate as a reviewer would."""
        return cimrobust.replay(folder, model=self.model, data=self.data, policy=self.policy, reviewer_seed=7, workers=1, **more)


@pytest.fixture(scope="session")
def case(samples: Path, tmp_path_factory: pytest.TempPathFactory) -> Case:
    """A genuine certificate that fails its policy."""
    folder = tmp_path_factory.mktemp("genuine")
    policy = folder / "policy.toml"
    policy.write_text(POLICY)
    model, data = (samples / f"breast_cancer_mlp.{end}" for end in ("onnx", "toml"))
    out = folder / "out"
    cimrobust.analyze(
        model, data=data, out=out, tolerance=0.12, effort="quick", trials=60, policy=policy, diagnostics="layers", safety_class=1, workers=1
    )
    return Case(model, data, policy, out)


@pytest.fixture
def forged(case: Case, tmp_path: Path) -> Forged:
    """A copy that may be forged."""
    shutil.copytree(case.folder, tmp_path / "forged")
    return Forged(tmp_path / "forged")


Forgery = Callable[[Forged], None]
