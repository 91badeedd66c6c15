"""The public names of the package."""

from __future__ import annotations

import pkgutil
import subprocess
import sys

import pytest

import cimrobust


def test_no_subpackage_takes_the_place_of_a_public_name():
    # Importing cimrobust.x binds the attribute x of the package, in front of what it gives out
    # lazily.
    assert not {module.name for module in pkgutil.iter_modules(cimrobust.__path__)} & set(
        cimrobust.__all__
    )


def test_public_names_are_there():
    assert all(
        callable(getattr(cimrobust, name)) for name in cimrobust.__all__ if name != "__version__"
    )


def test_a_name_that_is_not_there_is_told():
    with pytest.raises(AttributeError, match="module 'cimrobust' has no attribute 'analyse'"):
        cimrobust.analyse  # noqa: B018


def test_public_names_are_listed_before_they_are_imported():
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            "import cimrobust, sys; names = dir(cimrobust);"
            " heavy = {'numpy', 'onnx', 'torch'} & sys.modules.keys();"
            " sys.exit(bool(set(cimrobust.__all__) - set(names) or heavy))",
        ],
        check=False,
    )
    assert done.returncode == 0
