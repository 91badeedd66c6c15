from __future__ import annotations

from cimrobust.engine.open import Runtime
from cimrobust.mapping.placement import Placement
from cimrobust.progress import NullProgress
from cimrobust.search.candidate import Key
from cimrobust.search.pass_ledger import PassLedger


class Notes(NullProgress):
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.told: list[str] = []

    def advance(self, steps: int = 1, note: str = "") -> None:
        self.told.append(note)


def test_the_worst_score_that_is_shown_never_rises_while_a_ledger_is_lent(
    small: tuple[Runtime, Placement],
) -> None:
    task, notes = small[0].task, Notes()
    ledger = PassLedger(task, progress=notes)
    count = task.num_decisions
    lent = ledger.lend()
    lent.advance(1)
    ledger.record(Key(count / 4, 0.0))
    lent = ledger.lend()
    for score in (count / 2, 0.0):
        lent.advance(1)
        lent.record(Key(score, 0.0))
    lent.advance(1)
    assert notes.told == ["", "worst 25.0 %", "worst 25.0 %", "worst 0.0 %"]
    assert [point.score for point in lent.trace] == [0.5, 0.0]
