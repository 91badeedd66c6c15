"""Settings that a certificate states, against what its numbers tell of the run."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from cimrobust.data.calibration_share import set_apart
from cimrobust.review.differences import named
from cimrobust.review.replay_check import ReplayCheck
from cimrobust.review.settings_numbers import wrong_settings

if TYPE_CHECKING:
    from cimrobust.certificate.models import CertificateModel, Setting
    from cimrobust.certificate.models.item import Data

_TRANSFERRED = "transferred_witness"


def settings_check(certificate: CertificateModel) -> ReplayCheck:
    """Check that samples, transferred witness and calibration are those that the settings state.

    A witness of another network, or calibration data, that were never used would keep a replay from
    running the analysis again.
    """
    stated = {row.key: row.value for row in certificate.settings}
    wrong = list(
        wrong_limit(
            certificate.data,
            certificate.settings,
            has_converters=certificate.converters is not None,
        )
    )
    worst = certificate.worst_found
    members = {row.name for row in worst.members} | {row.name for row in worst.not_run}
    if "transfer" in stated and (stated["transfer"] is not None) != (_TRANSFERRED in members):
        wrong.append("settings.transfer")
    if stated.get("calibration") is not None and _shares_samples(certificate):
        wrong.append("settings.calibration")
    wrong += wrong_settings(certificate)
    if certificate.seeds.get("run", certificate.monte_carlo.seed) != certificate.monte_carlo.seed:
        wrong.append("seeds.run")
    fine = (
        f"{certificate.data.used} of {certificate.data.available} samples, effort, seed and"
        " witnesses are those of the run"
    )
    return ReplayCheck(
        "settings", not wrong, fine if not wrong else f"not as the numbers say: {named(wrong)}"
    )


def _shares_samples(certificate: CertificateModel) -> bool:
    """Return whether converters took their ranges from the file that is evaluated.

    No run accepts that file as calibration data.
    """
    found = {} if certificate.converters is None else certificate.converters.calibration_files
    files = (
        {digest for name, digest in part.items() if not name.endswith(".toml")}
        for part in (found, certificate.data.files)
    )
    return bool(set.intersection(*files))


def wrong_limit(data: Data, settings: Sequence[Setting], *, has_converters: bool) -> Iterator[str]:
    """Yield where fewer samples were used than there are, and no setting says so.

    Args:
        data: The evaluation data.
        settings: The settings.
        has_converters: Whether a part of the samples may have been set aside to calibrate them.
    """
    if not settings:
        return
    limit = next((row.value for row in settings if row.key == "limit"), None)
    usable = data.available - (0 if data.labels is None else data.labels.ignored_samples)
    aside = set_apart(usable) if has_converters else 0
    allowed = {usable, usable - aside}
    if isinstance(limit, int) and not isinstance(limit, bool):
        allowed = {min(limit, count) for count in allowed}
    if data.used not in allowed:
        yield "data.used"
