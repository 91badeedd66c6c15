"""The members of the ensemble, in the order in which they run.

Later ones may go on from what earlier ones found.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from cimrobust.search.members.carlini_wagner import CARLINI_WAGNER, FAST_RUN
from cimrobust.search.members.class_collapse import CLASS_COLLAPSE
from cimrobust.search.members.continuation import CONTINUATION
from cimrobust.search.members.cross_fidelity import CROSS_FIDELITY, REPEAT_AFTER_MASKING
from cimrobust.search.members.gradient_free import CORNER_SEARCH, RANDOM_CORNERS
from cimrobust.search.members.loss_members import LOSS_MEMBERS
from cimrobust.search.members.pair_collapse import PAIR_COLLAPSE

if TYPE_CHECKING:
    from cimrobust.search.members.member_protocol import Member

MEMBERS: tuple[Member, ...] = (
    RANDOM_CORNERS,
    CORNER_SEARCH,
    *LOSS_MEMBERS,
    CARLINI_WAGNER,
    CLASS_COLLAPSE,
    PAIR_COLLAPSE,
    CROSS_FIDELITY,
    REPEAT_AFTER_MASKING,
    CONTINUATION,
    FAST_RUN,
)
