"""The members of the ensemble, in the order in which they run.

Later ones may go on from what earlier ones found.
"""

from __future__ import annotations

from cimrobust.search.members.carlini_wagner import CARLINI_WAGNER
from cimrobust.search.members.class_collapse import CLASS_COLLAPSE
from cimrobust.search.members.continuation import CONTINUATION
from cimrobust.search.members.corner_search import CORNER_SEARCH
from cimrobust.search.members.cross_entropy import CROSS_ENTROPY
from cimrobust.search.members.cross_fidelity import CROSS_FIDELITY, REPEAT_AFTER_MASKING
from cimrobust.search.members.dlr import DLR
from cimrobust.search.members.fast_run import FAST_RUN
from cimrobust.search.members.margin_hinge import MARGIN_HINGE
from cimrobust.search.members.pair_collapse import PAIR_COLLAPSE
from cimrobust.search.members.random_corners import RANDOM_CORNERS
from cimrobust.search.members.regression_error import REGRESSION_ERROR
from cimrobust.search.members.smooth_accuracy import SMOOTH_ACCURACY
from cimrobust.search.search_results import Member

MEMBERS: tuple[Member, ...] = (
    RANDOM_CORNERS,
    CORNER_SEARCH,
    SMOOTH_ACCURACY,
    MARGIN_HINGE,
    CROSS_ENTROPY,
    DLR,
    REGRESSION_ERROR,
    CARLINI_WAGNER,
    CLASS_COLLAPSE,
    PAIR_COLLAPSE,
    CROSS_FIDELITY,
    REPEAT_AFTER_MASKING,
    CONTINUATION,
    FAST_RUN,
)
