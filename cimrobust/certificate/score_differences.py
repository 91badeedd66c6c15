"""Numbers of two certificates side by side, and whether chance can explain their difference.

Two intervals that hold with 95 % each hold at once with 90 % at least, whatever they depend on. So
where they do not overlap, chance does not explain the difference at that confidence. Where they do,
nothing follows: certificates do not state which samples were decided right, and without that no
paired test is sound. Which samples are certified is stored, so certified scores on the same samples
are compared in pairs.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from cimrobust.binomial import at_least, sign_test
from cimrobust.certificate.models import CertificateModel
from cimrobust.certificate.models.compared_certificates import BoundedScore, ComparedScore
from cimrobust.certificate.programmed import programmed_score
from cimrobust.certificate.wording import score_name, shown
from cimrobust.certify.per_sample import PerSample
from cimrobust.montecarlo.trial_table import TrialTable

#: Confidence at which two intervals of 95 % hold at once.
JOINT_CONFIDENCE = 0.9
_CONFIDENCE = 0.95


@dataclass(frozen=True)
class Side:
    """One certificate, with the tables of its folder where they are at hand.

    Attributes:
        certificate: The certificate.
        trials: Its drawn chips; None: not at hand.
        certified: What is proven of every sample; None: not at hand, or nothing is.
    """

    certificate: CertificateModel
    trials: TrialTable | None = None
    certified: PerSample | None = None


def compare_scores(
    a: Side, b: Side, *, same_metric: bool, same_samples: bool
) -> Iterator[ComparedScore]:
    """Yield the numbers of two certificates side by side.

    Args:
        a: The first.
        b: The second.
        same_metric: Whether their scores measure the same.
        same_samples: Whether both were judged on the same samples.
    """
    one, other = a.certificate, b.certificate
    frame = _Frame(one, same_metric=same_metric)
    name = (
        "converters" if one.converters is not None and other.converters is not None else "quantised"
    )
    yield frame.by_samples(
        "clean", "Clean, as programmed", _programmed(one, name), _programmed(other, name)
    )
    yield frame.by_samples(
        "mean",
        "Average of the drawn chips",
        _of_samples(one, "mean", one.monte_carlo.mean),
        _of_samples(other, "mean", other.monte_carlo.mean),
    )
    yield from _percentiles(frame, a, b, same_samples=same_samples)
    yield frame.row(
        "worst_found",
        "Worst chip found",
        _of_samples(one, "worst_found", one.worst_found.score),
        _of_samples(other, "worst_found", other.worst_found.score),
        beyond=None,
        why=(
            "Both are results of a search: neither is the worst case, and a better search may turn"
            " the difference round."
        ),
    )
    yield _proofs(frame, a, b, same_samples=same_samples)


def upper_percentile(table: TrialTable, k: float) -> float | None:
    """Return an upper bound on the k-th percentile of chips; None: too few trials.

    The percentile is at most as good as the bound, with 95 % confidence and whatever the
    distribution. The j-th worst of n trials is a bound if a chip as bad as the percentile is drawn
    at least j times with probability 5 % at most.
    """
    ranks = np.arange(1, table.num_trials + 1)
    fine = np.flatnonzero(at_least(ranks, table.num_trials, k / 100) <= 1 - _CONFIDENCE)
    if table.is_sequential or not fine.size:
        return None
    ordered = np.sort(table.value) if table.higher_is_better else np.sort(table.value)[::-1]
    return float(ordered[fine[0]])


@dataclass(frozen=True)
class _Frame:
    """What every row has in common."""

    certificate: CertificateModel
    same_metric: bool

    def by_samples(
        self, name: str, title: str, a: BoundedScore | None, b: BoundedScore | None
    ) -> ComparedScore:
        """Return a row whose intervals are about other samples."""
        return self.row(name, title, a, b, beyond=_apart(a, b), why=_said(a, b, "the samples"))

    def row(
        self,
        name: str,
        title: str,
        a: BoundedScore | None,
        b: BoundedScore | None,
        *,
        beyond: bool | None,
        why: str,
        is_about_chips: bool = False,
    ) -> ComparedScore:
        """Return a row; what measures different things is not subtracted."""
        difference = None if a is None or b is None or not self.same_metric else b.score - a.score
        higher = self.certificate.metric.higher_is_better
        better = None if not difference else "b" if (difference > 0) is higher else "a"
        lacking = [side for side, score in (("A", a), ("B", b)) if score is None]
        if lacking:
            why = f"{' and '.join(lacking)} {'states' if len(lacking) == 1 else 'state'} none."
        elif not self.same_metric:
            why = "Scores of A and B measure different things."
        elif difference == 0:
            why = "They are equal."
        else:
            why = f"{self._much(difference or 0.0)} {why}"
        return ComparedScore(
            name=name,
            title=title,
            about="chips" if is_about_chips else "samples",
            a=a,
            b=b,
            difference=difference,
            better=better,  # type: ignore[arg-type]  # checked by pydantic
            beyond_chance=beyond if difference else None,
            statement=why,
        )

    def _much(self, difference: float) -> str:
        if self.certificate.metric.name == "accuracy":
            return (
                f"B is {abs(100 * difference):.4g} percentage points"
                f" {'higher' if difference > 0 else 'lower'}."
            )
        return (
            f"B is {shown(self.certificate, abs(difference))}"
            f" {'higher' if difference > 0 else 'lower'}."
        )


def _programmed(made: CertificateModel, name: str) -> BoundedScore:
    if name == "quantised" and made.converters is not None:
        return _of_samples(made, name, made.clean.quantised_score)
    return _of_samples(made, name, programmed_score(made))


def _of_samples(made: CertificateModel, name: str, score: float) -> BoundedScore:
    found = next((row for row in made.evaluation_set.intervals if row.name == name), None)
    return BoundedScore(
        score=score,
        low=None if found is None else found.low,
        high=None if found is None else found.high,
    )


def _apart(a: BoundedScore | None, b: BoundedScore | None) -> bool | None:
    """Return True where two intervals do not overlap.

    None where they do or one is missing, as nothing follows then.
    """
    if a is None or b is None or a.low is None or a.high is None or b.low is None or b.high is None:
        return None
    return True if a.low > b.high or b.low > a.high else None


def _said(a: BoundedScore | None, b: BoundedScore | None, what: str) -> str:
    if a is None or b is None or a.low is None or b.low is None or a.high is None or b.high is None:
        return "Without an interval of both, nothing is said about chance."
    if _apart(a, b):
        return (
            f"The intervals do not overlap: the choice of {what} does not explain the difference,"
            f" with {100 * JOINT_CONFIDENCE:g} % confidence."
        )
    return f"The intervals overlap: the choice of {what} may explain the difference."


def _percentiles(frame: _Frame, a: Side, b: Side, *, same_samples: bool) -> Iterator[ComparedScore]:
    """Yield percentiles that both state.

    On the same samples, bounds on both sides tell whether the choice of chips explains a
    difference.
    """
    known = {row.k: row for row in b.certificate.monte_carlo.kpp}
    for row in a.certificate.monte_carlo.kpp:
        if row.k not in known:
            continue
        other = known[row.k]
        first = _percentile(a, row.score, row.lower_bound, row.confidence, row.k)
        second = _percentile(b, other.score, other.lower_bound, other.confidence, row.k)
        why = _said(first, second, "the chips")
        if not same_samples:
            why = "Both bounds are on samples of their own, so they are not compared."
        yield frame.row(
            f"kpp_{row.k:g}",
            f"All but the worst {row.k:g} % of chips",
            first,
            second,
            beyond=_apart(first, second) if same_samples else None,
            why=why,
            is_about_chips=True,
        )


def _percentile(
    side: Side, score: float, bound: float | None, confidence: float, k: float
) -> BoundedScore:
    """Return a percentile with its bound, and the opposite bound where trials are at hand."""
    other = None
    if (
        side.trials is not None
        and side.trials.num_trials == side.certificate.monte_carlo.trials
        and confidence >= _CONFIDENCE
    ):
        other = upper_percentile(side.trials, k)
    ends = (bound, other) if side.certificate.metric.higher_is_better else (other, bound)
    return BoundedScore(score=score, low=ends[0], high=ends[1])


def _proofs(frame: _Frame, a: Side, b: Side, *, same_samples: bool) -> ComparedScore:
    """Compare certified scores.

    On the same samples in pairs, as which samples are certified is known.
    """
    one, other = (
        (
            None
            if side.certificate.certified.score is None
            else _of_samples(side.certificate, "certified", side.certificate.certified.score)
        )
        for side in (a, b)
    )
    title = "Certified for every chip"
    first, second = a.certified, b.certified
    # Decisions of one sample are not independent of each other.
    is_paired = same_samples and all(
        side.certificate.certified.samples == side.certificate.data.used for side in (a, b)
    )
    if (
        not is_paired
        or first is None
        or second is None
        or len(first.certified) != len(second.certified)
    ):
        why = "Certified scores are bounded on one side alone, so nothing is said about chance."
        return frame.row("certified", title, one, other, beyond=None, why=why)
    only_a, only_b = (
        int((first.certified & ~second.certified).sum()),
        int((second.certified & ~first.certified).sum()),
    )
    chance = sign_test(only_a, only_b) if only_a + only_b else 1.0
    is_beyond = chance <= 1 - _CONFIDENCE
    said = (
        f"Of the same samples {only_a} are certified in A alone and {only_b} in B alone: by the"
        f" sign test the choice of samples {'does not explain' if is_beyond else 'may explain'} the"
        f" difference, p = {chance:.2g}."
    )
    return frame.row("certified", title, one, other, beyond=True if is_beyond else None, why=said)


def measured(certificate: CertificateModel) -> str:
    """Return what scores of a certificate measure: metric, and whose decisions are the labels."""
    return score_name(certificate)
