"""Change any one number of a certificate: a replay with model and data names it, but for those that
no run can derive.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from cimrobust.certificate.certificate_files import read_certificate
from cimrobust.certificate.models import CertificateModel
from cimrobust.review.agreement import compare
from cimrobust.review.at_the_reviewer import AtHand, open_given
from cimrobust.review.depth import Depth
from cimrobust.review.derivation import derive, run_witness
from cimrobust.review.reopened import reopen
from cimrobust.run import Run
from tests.forgery.conftest import Case, Forged

#: Clocks, threads and machines: nothing that a run derives. docs/explanation/replay.md lists them
#: with the reason.
NOT_DERIVED = re.compile(r"timings\..*|.*\.seconds|machine\..*")
#: What a search found on its way: derived by a new run alone.
BY_RERUN = re.compile(
    r"worst_found\.(members|effort_curve|crafting_samples)\b.*|diagnostics\.(?!effects)\w+.*"
)


def _numbers(value: Any, place: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    """Yield the path of every number; truth values are none."""
    if isinstance(value, dict):
        for key, part in value.items():
            yield from _numbers(part, (*place, key))
    elif isinstance(value, list):
        for index, part in enumerate(value):
            yield from _numbers(part, (*place, index))
    elif isinstance(value, int | float) and not isinstance(value, bool):
        yield place


def _leaves(value: Any, place: str = "") -> Iterator[str]:
    """Yield the path of every number, text and truth value."""
    parts = (
        value.items()
        if isinstance(value, dict)
        else enumerate(value)
        if isinstance(value, list)
        else None
    )
    if parts is None:
        yield place
        return
    for key, part in parts:
        yield from _leaves(part, f"{place}.{key}" if place else str(key))


def _changed(plain: dict[str, Any], place: tuple[str | int, ...]) -> dict[str, Any]:
    """Return a certificate with another number at one place."""
    copy: dict[str, Any] = json.loads(json.dumps(plain))
    holder: Any = copy
    for step in place[:-1]:
        holder = holder[step]
    value = holder[place[-1]]
    holder[place[-1]] = value + 1 if isinstance(value, int) else value * 1.01 + 1e-4
    return copy


def _unnamed(plain: dict[str, Any], derived: CertificateModel) -> tuple[list[str], int]:
    """Return the places where a changed number is not told, and how many numbers there are."""
    unnamed, places = [], list(_numbers(plain))
    for place in places:
        try:
            claimed = CertificateModel.model_validate(_changed(plain, place))
        except ValidationError:
            continue  # refused when it is read
        name, block = ".".join(map(str, place)), str(place[0])
        told = list(compare(getattr(derived, block), getattr(claimed, block), claimed, place=block))
        if name not in told:
            unnamed.append(name)
    return unnamed, len(places)


@pytest.fixture(scope="module")
def derived(
    case: Case, made_again: CertificateModel, tmp_path_factory: pytest.TempPathFactory
) -> tuple[CertificateModel, CertificateModel]:
    """The certificate derived again, and that of a new run."""
    certificate = read_certificate(case.folder)
    at_hand = AtHand(model=case.model, data=str(case.data))
    given = open_given(certificate, at_hand)
    run = reopen(
        certificate,
        given,
        at_hand,
        out=tmp_path_factory.mktemp("derived"),
        depth=Depth(run=Run(workers=1)),
    )
    return (
        derive(case.folder, certificate, run, run_witness(case.folder, run)).certificate,
        made_again,
    )


def test_a_new_run_names_every_number_but_clocks(
    case: Case, derived: tuple[CertificateModel, CertificateModel]
) -> None:
    plain = json.loads((case.folder / "certificate.json").read_text())
    unnamed, count = _unnamed(plain, derived[1])
    assert [name for name in unnamed if not NOT_DERIVED.fullmatch(name)] == []
    assert count > 300


def test_at_most_a_twentieth_of_all_fields_is_beyond_any_check(case: Case) -> None:
    plain = json.loads((case.folder / "certificate.json").read_text())
    fields = {re.sub(r"\.\d+", ".*", place) for place in _leaves(plain)}
    # The machine is compared with the reviewer's, and a difference is named, although it refutes
    # nothing.
    beyond = {
        field
        for field in fields
        if NOT_DERIVED.fullmatch(field) and not field.startswith("machine.")
    }
    assert 0 < len(beyond) <= 0.05 * len(fields)


def test_a_replay_names_every_number_but_the_course_of_the_search(
    case: Case, derived: tuple[CertificateModel, CertificateModel]
) -> None:
    plain = json.loads((case.folder / "certificate.json").read_text())
    unnamed, _ = _unnamed(plain, derived[0])
    assert [
        name for name in unnamed if not NOT_DERIVED.fullmatch(name) and not BY_RERUN.fullmatch(name)
    ] == []


@pytest.mark.parametrize("seventh", range(6))
def test_the_command_refutes_a_changed_number(case: Case, forged: Forged, seventh: int) -> None:
    """A few numbers through the whole of a replay."""
    plain = forged.plain
    places = [
        place
        for place in _numbers(plain)
        if not any(one.fullmatch(".".join(map(str, place))) for one in (NOT_DERIVED, BY_RERUN))
    ]
    place = places[(len(places) // 7) * (seventh + 1)]
    path = Path(forged.folder) / "certificate.json"
    path.write_text(json.dumps(_changed(plain, place)))
    refuted = [
        check
        for check in case.replay(forged.folder, redraw=2)
        if check.held is False and check.id != "report"
    ]
    assert any(".".join(map(str, place)) in check.detail for check in refuted), (place, refuted)
