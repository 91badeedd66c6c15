"""What would change a verdict, each with the command that does or tries it."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cimrobust.certificate.policy_tables import CONDITION
from cimrobust.certificate.wording import bounded_units

if TYPE_CHECKING:
    from cimrobust.certificate.models import CertificateModel


@dataclass(frozen=True)
class Remedy:
    """One thing to do.

    Attributes:
        what: What to do.
        words: What is known of its effect: words around numbers, one more than there are numbers.
        paths: Where the numbers stand in the JSON, with how they are shown.
        command: Command that does it, or tries it.
    """

    what: str
    words: tuple[str, ...]
    paths: tuple[tuple[str, str], ...]
    command: str


def remedies(certificate: CertificateModel) -> list[Remedy]:
    """Return what would change the verdict.

    First what was measured, then what decides open questions, then what can be tried.
    """
    return [*_measured(certificate), *_deciding(certificate), *_untried(certificate)]


def _measured(c: CertificateModel) -> Iterator[Remedy]:
    found, at = c.diagnostics, "diagnostics."
    if found is None:
        return
    curve = found.tolerance_curve
    if curve is not None and curve.unrefuted > 0 and curve.unrefuted < c.device.tolerance_fraction:
        yield Remedy(
            "Verify every device more tightly",
            ("at a tolerance of ", " no chip was found that misses ", "; that is no proof"),
            (
                (f"{at}tolerance_curve.unrefuted", "percent"),
                (f"{at}tolerance_curve.required", "score"),
            ),
            _analyze(c, "--tolerance", f"{curve.unrefuted:.4g}"),
        )
    if (
        curve is not None
        and curve.certified is not None
        and curve.certified < c.device.tolerance_fraction
    ):
        yield Remedy(
            "Verify every device so tightly that it is proven",
            ("at ", f", over the first {curve.certified_samples} {bounded_units(c)}"),
            ((f"{at}tolerance_curve.certified", "percent"),),
            _analyze(c, "--tolerance", f"{curve.certified:.4g}"),
        )
    if found.write_verify is not None and found.write_verify.rows:
        rows = found.write_verify.rows
        best = max(
            (index for index, row in enumerate(rows) if row.ranking == found.write_verify.best),
            key=lambda index: rows[index].share,
            default=None,
        )
        if best is not None:
            row = f"{at}write_verify.rows.{best}."
            yield Remedy(
                f"Verify some devices {found.write_verify.factor:g} times more tightly",
                ("with ", " of the devices the worst chip found scores ", ""),
                ((f"{row}share", "percent"), (f"{row}score", "score")),
                _command(c, "verify", "--out", "devices.parquet"),
            )
    if found.layers is not None and found.layers.rows and found.layers.rows[0].others is not None:
        yield Remedy(
            f"Keep {found.layers.rows[0].initializer} digital",
            ("with all other layers in devices the worst chip found scores ", " (a short search)"),
            ((f"{at}layers.rows.0.others.score", "score"),),
            _analyze(c, "--digital", found.layers.rows[0].initializer),
        )


def _deciding(c: CertificateModel) -> Iterator[Remedy]:
    """Yield what decides open requirements and conditions that do not hold."""
    rows = [row for row in c.verdict.requirements if row.status != "met"]
    needed = max(
        (kpp.needed_trials for kpp in c.monte_carlo.kpp if kpp.lower_bound is None), default=0
    )
    statistical = [row.id for row in rows if row.status == "open" and "KPP" in row.text]
    if statistical:
        more = (
            f"at least {needed} chips decide a bound on these samples"
            if needed
            else "more chips give a tighter bound"
        )
        yield Remedy(
            "Draw more chips",
            (f"{more}: {', '.join(statistical)}",),
            (),
            _analyze(c, "--trials", str(max(needed, 4 * c.monte_carlo.trials))),
        )
    if any(row.id in ("effort", f"{CONDITION}effort") for row in rows):
        yield Remedy(
            "Search with the effort that is asked for",
            ("the policy asks for more than " + c.worst_found.effort,),
            (),
            _analyze(c, "--effort", "standard"),
        )
    if any(row.id == f"{CONDITION}newest_days" for row in rows) and c.issued is None:
        yield Remedy(
            "State the day of issue",
            ("the policy asks for an age",),
            (),
            _analyze(c, "--issued", "YYYY-MM-DD"),
        )


def _untried(c: CertificateModel) -> Iterator[Remedy]:
    if not any(
        row.status == "refuted" and not row.id.startswith(CONDITION)
        for row in c.verdict.requirements
    ):
        return
    if c.policy_file is not None:
        yield Remedy(
            "Find the fewest layers to protect",
            ("by searches; not run here",),
            (),
            f"cimrobust suggest {_inputs(c)} --policy {shlex.quote(c.policy_file)}",
        )
    yield Remedy(
        "Re-train for the tolerance",
        ("what it gains is unknown until it is measured",),
        (),
        _command(c, "retrain", "--train", "TRAINING_DATA", "--out", "retrained"),
    )


def _command(c: CertificateModel, name: str, *options: str) -> str:
    return f"cimrobust {name} {_inputs(c)} {shlex.join(options)}"


def _inputs(c: CertificateModel) -> str:
    """Return network, data and devices as the reproduction command names them."""
    words = _parts(c.reproduce.command)[2:]
    kept = words[:1]
    for option in ("--data", "--device"):
        if option in words[:-1]:
            kept += [option, words[words.index(option) + 1]]
    return shlex.join(kept)


def _parts(command: str) -> list[str]:
    """Return the words of a command.

    Those between spaces where quotes do not match, which no certificate of ours has.
    """
    try:
        return shlex.split(command)
    except ValueError:
        return command.split()


def _analyze(c: CertificateModel, option: str, value: str) -> str:
    """Return the command that made the certificate, with another value of one option."""
    words = _parts(c.reproduce.command)
    if option in words[:-1] and option != "--digital":
        place = words.index(option)
        words[place : place + 2] = []
    return shlex.join([*words, option, value])
