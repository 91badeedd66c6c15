"""The members of the ensemble, in the order in which they run; later ones may go on from what earlier ones found."""

from __future__ import annotations

from cimrobust.search.carlini_wagner import CARLINI_WAGNER
from cimrobust.search.class_collapse import CLASS_COLLAPSE
from cimrobust.search.continuation import CONTINUATION
from cimrobust.search.corner_search import CORNER_SEARCH
from cimrobust.search.cross_entropy import CROSS_ENTROPY
from cimrobust.search.cross_fidelity import CROSS_FIDELITY, REPEAT_AFTER_MASKING
from cimrobust.search.dlr import DLR
from cimrobust.search.fast_run import FAST_RUN
from cimrobust.search.margin_hinge import MARGIN_HINGE
from cimrobust.search.pair_collapse import PAIR_COLLAPSE
from cimrobust.search.protocol import Member
from cimrobust.search.random_corners import RANDOM_CORNERS
from cimrobust.search.regression_error import REGRESSION_ERROR
from cimrobust.search.smooth_accuracy import SMOOTH_ACCURACY

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
