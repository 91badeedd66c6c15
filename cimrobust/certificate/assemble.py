"""Puts a certificate together from the evidence of a run."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cimrobust.certificate.blocks import certified, diagnostics, drawn_chips, results, scope
from cimrobust.certificate.blocks import converter_block as converters
from cimrobust.certificate.blocks import item_block as item
from cimrobust.certificate.blocks import limits_block as limits
from cimrobust.certificate.blocks import rare_block as rare
from cimrobust.certificate.blocks import samples_block as samples
from cimrobust.certificate.blocks.reproduction import reproduction
from cimrobust.certificate.models import (
    CertificateModel,
    ItemDescription,
    MonteCarlo,
    RareEvent,
    Reproduce,
    StoredChip,
    Verdict,
)
from cimrobust.certificate.result_names import WITNESS
from cimrobust.certificate.verdict import NO_POLICY, judge
from cimrobust.engine.machine import this_machine
from cimrobust.reliability.chip_file import CHIP_FILE

if TYPE_CHECKING:
    from cimrobust.certificate.evidence import Evidence
    from cimrobust.certificate.policy import Policy

_NO_DAY = "no day was given (--issued), and no clock is read"
_IDEAL_CONVERTERS = "the profile has ideal converters"


def assemble(evidence: Evidence, policy: Policy | None = None) -> CertificateModel:
    """Return a certificate.

    Args:
        evidence: What the run found.
        policy: What the verdict is given against; None: the verdict is open.
    """
    described = None if policy is None else policy.item
    covered = scope.scope_of(evidence)
    open_certificate = CertificateModel(
        schema_version="1.6",
        tool=item.tool(),
        issued=evidence.issued,
        issued_reason=None if evidence.issued is not None else _NO_DAY,
        item=None if described is None else ItemDescription.model_validate(described.model_dump()),
        item_reason=None if described is not None else _no_item(policy),
        machine=this_machine(),
        machine_reason=None,
        metric=item.metric(evidence.runtime.task),
        model=item.model(evidence),
        data=item.data(evidence),
        device=item.certified_device(evidence.placement),
        settings=list(evidence.settings),
        mapping=item.mapping(evidence.scan, evidence.placement),
        converters=converters.converters(evidence),
        converters_reason=None if evidence.runtime.converters else _IDEAL_CONVERTERS,
        clean=results.clean(evidence),
        monte_carlo=_monte_carlo(evidence, policy),
        worst_found=results.worst_found(evidence),
        evaluation_set=samples.evaluation_set(evidence),
        certified=certified.certified(evidence),
        checks=[*limits.checks(evidence), *certified.checks(evidence)],
        diagnostics=diagnostics.diagnostics(evidence),
        diagnostics_reason=None,
        retraining=None,
        retraining_reason="the network was not re-trained in this run",
        assumptions=scope.assumptions(covered),
        not_covered=scope.not_covered(covered),
        policy=None if policy is None else policy.to_dict(),
        policy_reason="no policy was given" if policy is None else None,
        policy_file=None if evidence.policy_file is None else evidence.policy_file.name,
        policy_sha256=None if evidence.policy_file is None else evidence.policy_file.sha256,
        verdict=Verdict(word="INCONCLUSIVE", sentence=NO_POLICY, requirements=[]),
        seeds={"run": evidence.trials.seed},
        warnings=limits.warnings(evidence),
        reproduce=_reproduce(evidence),
        timings=evidence.timings,
    )
    verdict = judge(open_certificate, policy, evidence.trials)
    return open_certificate.model_copy(update={"verdict": verdict})


def _no_item(policy: Policy | None) -> str:
    return "no policy was given" if policy is None else "the policy has no [item]"


def _monte_carlo(evidence: Evidence, policy: Policy | None) -> MonteCarlo:
    return drawn_chips.monte_carlo(
        evidence.trials,
        policy,
        num_inputs=evidence.runtime.dataset.num_samples,
        most=evidence.runtime.task.most_decisions,
        rare=_rare(evidence),
    )


def _reproduce(evidence: Evidence) -> Reproduce:
    return reproduction(
        evidence.network.path.name,
        data=_base_name(evidence.data_argument),
        device=_base_name(evidence.device_argument),
        settings=evidence.settings,
        num_weights=evidence.devices.weights,
    )


def _rare(evidence: Evidence) -> RareEvent | None:
    if evidence.rare is None:
        return None
    digest = evidence.likely_digest
    stored = None if digest is None else StoredChip(file=f"{WITNESS}/{CHIP_FILE}", sha256=digest)
    certification = evidence.certification.score
    certified_score = None if certification is None else certification.value
    return rare.rare_event(
        evidence.rare,
        higher_is_better=evidence.trials.higher_is_better,
        search=evidence.likely,
        stored=stored,
        certified=certified_score,
    )


def _base_name(text: str) -> str:
    """Return a name without its folder.

    So a certificate says nothing about the machine it was made on.
    """
    return text.rstrip("/").rsplit("/", 1)[-1]
