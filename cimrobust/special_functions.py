"""Special functions of SciPy, as they are compiled, the same functions as in `scipy.special`.

Importing that package wraps each of them for arrays of other libraries, and imports NumPy's Fortran
tools and its tests for it: 0.3 s, four tenths of what a gate takes. So the compiled module is
imported alone, unless the package is there already.

Enters and leaves: numbers and arrays of float64.
"""

from __future__ import annotations

import importlib
import sys
from importlib.machinery import PathFinder
from types import ModuleType
from typing import TYPE_CHECKING

import scipy

_PACKAGE = "scipy.special"


def _compiled() -> ModuleType:
    """Return the module of the compiled functions; the package is as unimported as before."""
    name = f"{_PACKAGE}._ufuncs"
    spec = PathFinder.find_spec(_PACKAGE, scipy.__path__)
    if _PACKAGE in sys.modules or spec is None or spec.submodule_search_locations is None:
        return importlib.import_module(name)
    # A module is imported after its package. This one stands in its place for so long, and whoever
    # imports the package afterwards gets it whole, with the same compiled module in it.
    instead = ModuleType(_PACKAGE)
    instead.__path__ = list(spec.submodule_search_locations)
    sys.modules[_PACKAGE] = instead
    try:
        return importlib.import_module(name)
    finally:
        del sys.modules[_PACKAGE]


if TYPE_CHECKING:
    from scipy.special import (
        betainc,
        betaincinv,
        betaln,
        expit,
        gammaincinv,
        log_ndtr,
        ndtr,
        ndtri,
        rel_entr,
        xlog1py,
        xlogy,
    )
else:
    _FUNCTIONS = _compiled()
    betainc, betaincinv, betaln = _FUNCTIONS.betainc, _FUNCTIONS.betaincinv, _FUNCTIONS.betaln
    ndtr, ndtri, log_ndtr = _FUNCTIONS.ndtr, _FUNCTIONS.ndtri, _FUNCTIONS.log_ndtr
    xlogy, xlog1py, rel_entr = _FUNCTIONS.xlogy, _FUNCTIONS.xlog1py, _FUNCTIONS.rel_entr
    expit, gammaincinv = _FUNCTIONS.expit, _FUNCTIONS.gammaincinv

__all__ = [
    "betainc",
    "betaincinv",
    "betaln",
    "expit",
    "gammaincinv",
    "log_ndtr",
    "ndtr",
    "ndtri",
    "rel_entr",
    "xlog1py",
    "xlogy",
]
