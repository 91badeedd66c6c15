"""All methods, by the name that the command line takes."""

from __future__ import annotations

from cimrobust.errors import UsageError
from cimrobust.training.methods.a_trice import A_TRICE_CHAINED, A_TRICE_SUMMED
from cimrobust.training.methods.adversarial import ADVERSARIAL
from cimrobust.training.methods.awp import AWP
from cimrobust.training.methods.cimrobust import CIMROBUST
from cimrobust.training.methods.ibp import IBP, IBP_A_TRICE
from cimrobust.training.methods.noise import DEVICE_NOISE, NOISE
from cimrobust.training.methods.plain import PLAIN
from cimrobust.training.methods.trice import TRICE
from cimrobust.training.training_protocol import Recipe

RECIPES = {
    recipe.name: recipe
    for recipe in (
        PLAIN,
        NOISE,
        DEVICE_NOISE,
        TRICE,
        ADVERSARIAL,
        A_TRICE_CHAINED,
        A_TRICE_SUMMED,
        AWP,
        IBP,
        IBP_A_TRICE,
        CIMROBUST,
    )
}
# The reading of A-TRICE that measured better has the plain name; results state the reading.
ALIASES = {"a-trice": A_TRICE_SUMMED.name}


def recipe_of(name: str) -> Recipe:
    """Return a method by name or alias.

    Raises:
        UsageError: There is no such method.
    """
    found = RECIPES.get(ALIASES.get(name, name))
    if found is None:
        raise UsageError(
            f"method must be one of {', '.join((*RECIPES, *ALIASES))}, got '{name}' (--method);"
            " choose one of them"
        )
    return found
