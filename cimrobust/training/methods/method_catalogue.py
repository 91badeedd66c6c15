"""All methods, by the name that the command line takes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cimrobust.errors import UsageError
from cimrobust.training.methods.a_trice import A_TRICE
from cimrobust.training.methods.a_trice_projected import A_TRICE_CHAINED, A_TRICE_PROJECTED
from cimrobust.training.methods.adversarial import ADVERSARIAL
from cimrobust.training.methods.awp import AWP
from cimrobust.training.methods.cimrobust import CIMROBUST
from cimrobust.training.methods.ibp import IBP, IBP_A_TRICE
from cimrobust.training.methods.noise import DEVICE_NOISE, NOISE
from cimrobust.training.methods.plain import CLIP, PLAIN
from cimrobust.training.methods.trice import TRICE, TRICE_SEARCH

if TYPE_CHECKING:
    from cimrobust.training.training_protocol import Recipe

RECIPES = {
    recipe.name: recipe
    for recipe in (
        PLAIN,
        CLIP,
        NOISE,
        DEVICE_NOISE,
        TRICE,
        TRICE_SEARCH,
        ADVERSARIAL,
        A_TRICE,
        A_TRICE_CHAINED,
        A_TRICE_PROJECTED,
        AWP,
        IBP,
        IBP_A_TRICE,
        CIMROBUST,
    )
}


def recipe_of(name: str) -> Recipe:
    """Return a method by name.

    Raises:
        UsageError: There is no such method.
    """
    found = RECIPES.get(name)
    if found is None:
        raise UsageError(
            f"method must be one of {', '.join(RECIPES)}, got '{name}' (--method);"
            " choose one of them"
        )
    return found
