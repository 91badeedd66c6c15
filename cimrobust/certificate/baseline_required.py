"""A requirement that a network be no worse than the one in use, whose certificate is at hand."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cimrobust.certificate.judging import Case, Judged, capital
from cimrobust.certificate.programmed import programmed_score
from cimrobust.certificate.search_depth import effort_in_words, search_depth
from cimrobust.certificate.wording import on_samples, score_name, shown
from cimrobust.device.digest import digest_of_tables

if TYPE_CHECKING:
    from cimrobust.certificate.models import CertificateModel
    from cimrobust.certificate.policy_tables import RequireRow


def judge_baseline(case: Case, row: RequireRow) -> Judged:
    """Compare scores without deviation and of the worst chips found.

    Open unless both certificates were made for the same purpose.
    """
    made, baseline = case.certificate, case.occasion.baseline
    better = made.metric.higher_is_better
    asked = (
        f"{score_name(made)}, without deviation and of the worst chip found, at most"
        f" {_slack(made, row.threshold)} {'below' if better else 'above'} those of the baseline,"
        f" {on_samples(made)}"
    )
    if row.samples == "beyond":
        return Judged(
            f"{asked} and beyond them",
            "open",
            "No bound of a difference beyond these samples is computed; ask it on these (samples).",
        )
    if baseline is None:
        return Judged(
            asked, "open", "No baseline is at hand; give its certificate (gate --baseline)."
        )
    different = _incomparable(made, baseline)
    if different:
        return Judged(asked, "open", f"The baseline cannot be compared with: {different}.")
    pairs = {
        "without deviation": (programmed_score(made), programmed_score(baseline)),
        "of the worst chip found": (made.worst_found.score, baseline.worst_found.score),
    }
    sign = 1 if better else -1
    lost = [sign * (theirs - ours) for ours, theirs in pairs.values()]
    sentence = "; ".join(
        f"{what} {shown(made, ours)}, baseline {shown(made, theirs)}"
        for what, (ours, theirs) in pairs.items()
    )
    # A difference of two fractions is off by their rounding, which must not decide: 0.96 - 0.95 is
    # above 0.01.
    held = all(loss <= row.threshold + 1e-12 * max(1.0, abs(row.threshold)) for loss in lost)
    return Judged(
        asked,
        "met" if held else "refuted",
        f"{capital(score_name(made))} {sentence}.",
        max(lost),
        "searched",
    )


def _slack(made: CertificateModel, value: float) -> str:
    return (
        f"{100 * value:.4g} percentage points"
        if made.metric.name == "accuracy"
        else shown(made, value)
    )


def _incomparable(made: CertificateModel, baseline: CertificateModel) -> str:
    """Return why two certificates cannot be compared; nothing where they can."""
    if made.metric.name != baseline.metric.name:
        return f"its metric is {baseline.metric.name}, not {made.metric.name}"
    if (data_digests(made), made.data.used) != (data_digests(baseline), baseline.data.used):
        return "it was judged on other samples"
    if digest_of_tables(made.device.profile) != digest_of_tables(baseline.device.profile):
        return "it was made for other devices"
    if search_depth(made) < search_depth(baseline):
        return (
            f"its worst chip was searched for with effort {effort_in_words(baseline)}, this one's"
            f" with {effort_in_words(made)} only"
        )
    return ""


def data_digests(made: CertificateModel) -> set[str]:
    """Return the digests of the evaluation data.

    The description is left out: it may be worded anew.
    """
    return {digest for name, digest in made.data.files.items() if not name.endswith(".toml")}
