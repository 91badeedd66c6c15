"""A genuine certificate of a network that fails, and what a forger needs to make it pass."""

from __future__ import annotations

import contextlib
import io
import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from markupsafe import escape

import cimrobust
from cimrobust.certificate.certificate_files import canonical_json, read_certificate
from cimrobust.certificate.gate_evidence import EvidenceProblemsError
from cimrobust.certificate.manifest import write_manifest
from cimrobust.certificate.models import CertificateModel
from cimrobust.certificate.policy import Policy
from cimrobust.certificate.result_names import CERTIFICATE, REPORT, TRIALS
from cimrobust.certificate.verdict import judge
from cimrobust.cli.main import run
from cimrobust.files import sha256_of
from cimrobust.montecarlo.trial_table import from_parquet
from cimrobust.report import chart_parts, charts, training_chart
from cimrobust.report.render import render
from cimrobust.review import certificate_replay
from cimrobust.review.at_the_reviewer import AtHand, open_given
from cimrobust.review.certificate_replay import rerun
from cimrobust.review.depth import Depth
from cimrobust.review.reopened import reopen
from cimrobust.review.replay_check import ReplayCheck
from cimrobust.run import Run

POLICY = (
    "[require]\nclean_accuracy = 0.9\nworst_found_accuracy = 0.8\nkpp = { k = 1, accuracy = 0.8 }\n"
)


#: Claims that need neither model nor data.
FROM_FILES = frozenset(
    [
        "schema",
        "tool",
        "metric",
        "machine",
        "manifest",
        "witness_in_box",
        "witness_devices",
        "trials",
        "stopping",
        "verdict",
        "metric_numbers",
        "shares",
        "worst_found_numbers",
        "device_numbers",
        "settings",
        "diagnostics",
        "evaluation_set",
        "certified_samples",
        "rare_numbers",
        "device_profile",
        "policy_file",
    ]
)


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
        """Write a certificate whose verdict, digests and page follow from its numbers, by the
        tool's own functions.
        """
        for name in values["worst_found"]["witness"]:
            values["worst_found"]["witness"][name] = sha256_of(self.folder / name)
        made = CertificateModel.model_validate(values)
        if judged:
            policy = None if made.policy is None else Policy.model_validate(made.policy)
            made = made.model_copy(
                update={"verdict": judge(made, policy, from_parquet(self.folder / TRIALS))}
            )
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
        return cimrobust.replay(
            folder,
            model=self.model,
            data=self.data,
            policy=self.policy,
            reviewer_seed=7,
            workers=1,
            **more,
        )

    def refuted(self, folder: Path, expected: set[str], *more: str) -> set[str]:
        """Return the names of the claims that the command refutes, and check its exit code; without
        model and data where files alone must tell.

        Args:
            folder: The certificate.
            expected: Claims that must be refuted.
            more: More options of the command.
        """
        options = [
            "--policy",
            str(self.policy),
            "--reviewer-seed",
            "7",
            "--workers",
            "1",
            "--json",
            *more,
        ]
        if not expected <= FROM_FILES:
            options += ["--model", str(self.model), "--data", str(self.data)]
        with contextlib.redirect_stdout(io.StringIO()) as said:
            code = run(["replay", str(folder), *options])
        found = {check["id"] for check in json.loads(said.getvalue()) if check["held"] is False}
        assert code == (6 if found else 0)
        return found

    def is_stopped(self, folder: Path) -> bool:
        """Tell whether the gate refuses to judge a certificate; it gets the files of the network
        and of the data, and runs neither.
        """
        try:
            cimrobust.gate(folder, policy=self.policy, model=self.model, data=self.data)
        except EvidenceProblemsError:
            return True
        return False


@contextlib.contextmanager
def _pictures_left_out() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patched:
        for module in (charts, chart_parts, training_chart):
            patched.setattr(
                module,
                "svg",
                lambda _figure, name, text: (
                    f'<svg role="img" id="{name}"><title>{escape(text)}</title></svg>'
                ),
            )
        yield


@pytest.fixture(scope="module", autouse=True)
def without_pictures() -> Iterator[None]:
    """Leave pictures out of all pages: drawing them takes longer than all checks, and no claim
    stands in them alone. A module at a time, so that tests elsewhere have their pictures.
    """
    with _pictures_left_out():
        yield


@pytest.fixture(scope="session")
def case(samples: Path, tmp_path_factory: pytest.TempPathFactory) -> Case:
    """A genuine certificate that fails its policy."""
    folder = tmp_path_factory.mktemp("genuine")
    policy = folder / "policy.toml"
    policy.write_text(POLICY)
    model, data = (samples / f"breast_cancer_mlp.{end}" for end in ("onnx", "toml"))
    out = folder / "out"
    with _pictures_left_out():
        cimrobust.analyze(
            model,
            data=data,
            out=out,
            tolerance=0.12,
            effort="quick",
            trials=60,
            policy=policy,
            diagnostics="layers",
            safety_class=1,
            workers=1,
        )
    return Case(model, data, policy, out)


@pytest.fixture(scope="session")
def made_again(case: Case, tmp_path_factory: pytest.TempPathFactory) -> CertificateModel:
    """The certificate of a new run, made once: it does not depend on what is claimed."""
    certificate = read_certificate(case.folder)
    at_hand = AtHand(model=case.model, data=str(case.data))
    given = open_given(certificate, at_hand)
    return rerun(
        reopen(
            certificate,
            given,
            at_hand,
            out=tmp_path_factory.mktemp("rerun"),
            depth=Depth(run=Run(workers=1)),
        )
    )


@pytest.fixture
def one_rerun(made_again: CertificateModel, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let replays that run the analysis again take the run that was made once."""
    monkeypatch.setattr(certificate_replay, "rerun", lambda *_arguments, **_more: made_again)


@pytest.fixture
def forged(case: Case, tmp_path: Path) -> Forged:
    """A copy that may be forged."""
    shutil.copytree(case.folder, tmp_path / "forged")
    return Forged(tmp_path / "forged")


Forgery = Callable[[Forged], None]
