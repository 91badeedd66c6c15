"""The conditions under which evidence counts, each a row of the verdict of its own.

A condition that does not hold says that the evidence was made for something else: such a
certificate passes nothing, and is not refuted by it either.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date

from cimrobust.certificate.baseline_required import data_digests
from cimrobust.certificate.judging import NO_NUMBERS, Occasion
from cimrobust.certificate.models import CertificateModel, RequirementResult
from cimrobust.certificate.policy_tables import CONDITION, Conditions
from cimrobust.certificate.search_depth import effort_in_words, reaches
from cimrobust.device.digest import digest_of_tables, profile_digest
from cimrobust.device.load_profile import list_profiles, load_profile


def judge_conditions(
    certificate: CertificateModel, conditions: Conditions | None, occasion: Occasion
) -> list[RequirementResult]:
    """Judge every condition that is stated.

    Met, or refuted where the certificate says otherwise or does not say.
    """
    asked = conditions or Conditions.model_construct()
    return list(_rows(certificate, asked, occasion))


def _rows(
    made: CertificateModel, asked: Conditions, occasion: Occasion
) -> Iterator[RequirementResult]:
    if asked.metric is not None:
        yield _row(
            "metric",
            f"scores that are {asked.metric}",
            made.metric.name == asked.metric,
            f"Its scores are {made.metric.name}.",
        )
    if asked.device is not None:
        yield _device(made, asked.device)
    if asked.least_tolerance is not None:
        yield _tolerance(made, asked.least_tolerance)
    if asked.least_samples is not None:
        used = made.data.used
        yield _row(
            "least_samples",
            f"at least {asked.least_samples} evaluation samples",
            used >= asked.least_samples,
            f"It is of {used} samples.",
        )
    if asked.data_sha256 is not None:
        yield _digests("data_sha256", "evaluation data", asked.data_sha256, data_digests(made))
    if asked.model_sha256 is not None:
        yield _digests(
            "model_sha256", "model", asked.model_sha256, {file.sha256 for file in made.model.files}
        )
    if asked.effort is not None:
        yield _row(
            "effort",
            f"search effort at least {asked.effort}",
            reaches(made, asked.effort),
            f"The search was made with effort {effort_in_words(made)}.",
        )
    if asked.least_trials is not None:
        trials = made.monte_carlo.trials
        yield _row(
            "least_trials",
            f"at least {asked.least_trials} drawn chips",
            trials >= asked.least_trials,
            f"It has {trials} drawn chips.",
        )
    if asked.tool is not None:
        yield _tool(made, asked.tool)
    if asked.newest_days is not None:
        yield _age(made, asked.newest_days, occasion.today)
    if occasion.issued_after is not None:
        yield _issued_after(made, occasion.issued_after)


def _row(key: str, text: str, held: bool, sentence: str) -> RequirementResult:
    return RequirementResult(
        id=f"{CONDITION}{key}",
        text=f"Evidence counts with {text}",
        status="met" if held else "refuted",
        sentence=sentence,
        **NO_NUMBERS,
    )


def _device(made: CertificateModel, asked: str) -> RequirementResult:
    """Compare the device profile.

    A digest by digest, a name by name, and by the digest of the shipped profile if there is one of
    the name.
    """
    found, name = digest_of_tables(made.device.profile), str(made.device.profile.get("name"))
    if asked.startswith("sha256:"):
        return _row(
            "device",
            f"the device profile of {_short(asked)}",
            asked == f"sha256:{found}",
            f"Its profile '{name}' has {_short(f'sha256:{found}')}.",
        )
    if asked in list_profiles():
        same = found == profile_digest(load_profile(asked))
        changed = "" if same or name != asked else ", changed against the one that is shipped"
        return _row(
            "device",
            f"the shipped device profile '{asked}'",
            same,
            f"Its profile is '{name}'{changed}.",
        )
    return _row("device", f"device profile '{asked}'", name == asked, f"Its profile is '{name}'.")


def _short(digest: str) -> str:
    return f"{digest[:23]}..."


def _tolerance(made: CertificateModel, least: float) -> RequirementResult:
    """Compare the smallest tolerance of any layer in devices.

    A layer that deviates less than asked was not examined as asked.
    """
    smallest = min(
        [
            made.device.tolerance_fraction,
            *(layer.tolerance_fraction for layer in made.mapping.layers),
        ]
    )
    sentence = f"It is for a tolerance of {100 * smallest:.4g} % of the conductance range."
    return _row(
        "least_tolerance",
        f"a tolerance of at least {100 * least:.4g} %",
        smallest >= least,
        sentence,
    )


def _digests(key: str, what: str, asked: list[str], found: set[str]) -> RequirementResult:
    """Compare digests: every file of the certificate has to be among those asked for."""
    other = sorted(found - set(asked))
    if not found:
        sentence = f"The {what} has no file with a digest."
    elif other:
        sentence = f"The {what} has a file of sha256 {other[0][:16]}..., which is not among them."
    else:
        sentence = (
            f"The {what} is that of the policy: sha256"
            f" {', '.join(f'{digest[:16]}...' for digest in sorted(found))}."
        )
    return _row(
        key,
        f"a certain {what} ({len(asked)} digest{'s' if len(asked) > 1 else ''})",
        bool(found) and not other,
        sentence,
    )


def _tool(made: CertificateModel, least: str) -> RequirementResult:
    held = made.tool.name == "cimrobust" and _numbers(made.tool.version) >= _numbers(least)
    return _row(
        "tool",
        f"cimrobust {least} or later",
        held,
        f"It was made by {made.tool.name} {made.tool.version}.",
    )


def _numbers(version: str) -> tuple[int, ...]:
    """Return the numbers of a version, without zeros at its end.

    What does not begin with a number is before all others.
    """
    numbers: list[int] = []
    for part in version.split("."):
        digits = part[: len(part) - len(part.lstrip("0123456789"))]
        if not digits:
            break
        numbers.append(int(digits[:9]))
        if digits != part:
            break
    while numbers and numbers[-1] == 0:
        numbers.pop()
    return tuple(numbers)


def issue_day(made: CertificateModel) -> date | None:
    """Return the day of issue; None: the certificate states none, or what it states is no day."""
    try:
        return None if made.issued is None else date.fromisoformat(made.issued)
    except ValueError:
        return None


def _age(made: CertificateModel, most: int, today: date | None) -> RequirementResult:
    text, issued = f"an age of at most {most} days", issue_day(made)
    if issued is None:
        return _row("newest_days", text, False, "It states no day of issue (analyze --issued).")
    days = 0 if today is None else (today - issued).days
    if days < 0:
        return _row(
            "newest_days",
            text,
            False,
            f"It says that it was issued on {issued}, which is after {today}.",
        )
    return _row(
        "newest_days",
        text,
        days <= most,
        f"It was issued on {issued}, {days} days before {today or issued}.",
    )


def _issued_after(made: CertificateModel, day: date) -> RequirementResult:
    issued = issue_day(made)
    sentence = (
        "It states no day of issue (analyze --issued)."
        if issued is None
        else f"It was issued on {issued}."
    )
    return _row(
        "issued_after", f"a day of issue after {day}", issued is not None and issued > day, sentence
    )
