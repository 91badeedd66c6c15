"""The compiled special functions are those of the package, which is imported whole afterwards."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import scipy.special

from cimrobust import special_functions

_ARGUMENTS = {"betainc": 3, "betaincinv": 3} | dict.fromkeys(
    ("betaln", "gammaincinv", "rel_entr", "xlog1py", "xlogy"), 2
)
_AFTERWARDS = """
import sys
from cimrobust import special_functions
assert "scipy.special" not in sys.modules
import scipy.special
import scipy.stats
assert scipy.special._ufuncs.betaincinv is special_functions.betaincinv
print(scipy.stats.beta.ppf(0.3, 2, 3) == special_functions.betaincinv(2, 3, 0.3))
"""


@pytest.mark.parametrize("name", special_functions.__all__)
def test_numbers_are_those_of_the_package_to_the_last_bit(name):
    values = np.random.default_rng(1).uniform(0.01, 0.99, (_ARGUMENTS.get(name, 1), 1000))
    ours = getattr(special_functions, name)(*values)
    np.testing.assert_array_equal(ours, getattr(scipy.special, name)(*values))
    assert np.isfinite(ours).all()


def test_package_is_whole_afterwards():
    done = subprocess.run(
        [sys.executable, "-c", _AFTERWARDS], check=True, capture_output=True, text=True
    )
    assert done.stdout == "True\n"
