"""Converters of a certificate, against the layers that they read and the bits that they have."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping
from typing import TYPE_CHECKING

from cimrobust.device.load_profile import profile_of
from cimrobust.review.differences import named
from cimrobust.review.replay_check import ReplayCheck

if TYPE_CHECKING:
    from cimrobust.certificate.models import CertificateModel, Layer
    from cimrobust.certificate.models.explained import ConvertedArray, Converters
    from cimrobust.device.profile import DeviceProfile


def converters_check(certificate: CertificateModel) -> Iterator[ReplayCheck]:
    """Check which products have converters, and their ranges; nothing where there are none.

    The ranges themselves follow from the calibration samples alone.

    Args:
        certificate: The certificate.
    """
    made = certificate.converters
    if made is None:
        return
    profile = profile_of(certificate.device.profile, shown="certificate.json")
    layers: dict[str, list[Layer]] = {}
    for layer in certificate.mapping.layers:
        for node in layer.nodes:
            layers.setdefault(node, []).append(layer)
    wrong = list(_wrong_products(made, layers))
    for index, array in enumerate(made.arrays):
        found = [*_wrong_range(array, profile), *_wrong_shape(array, layers)]
        wrong += [f"converters.arrays.{index}.{name}" for name in found]
    yield ReplayCheck(
        "converter_numbers",
        not wrong,
        "every layer has its converters, within their bits"
        if not wrong
        else f"contradicted at {named(wrong)}",
    )


def _wrong_products(made: Converters, nodes: Collection[str]) -> Iterator[str]:
    products = [array.product for array in made.arrays]
    if len(set(products)) < len(products):
        yield "converters.arrays"
    digital = {row.node for row in made.digital}
    # A product is named after its node, then the operand, and where there are two a direction.
    simulated = {
        node for node in nodes if any(product.startswith(f"{node}/") for product in products)
    }
    strays = [one for one in products if not any(one.startswith(f"{node}/") for node in nodes)]
    if strays or simulated | digital != set(nodes) or simulated & digital:
        yield "converters.digital"


def _wrong_range(array: ConvertedArray, profile: DeviceProfile) -> Iterator[str]:
    if not array.input_low <= array.input_high:
        yield "input_low"
    if not array.level_low <= array.zero_level <= array.level_high:
        yield "zero_level"
    if profile.dac is not None and array.level_high - array.level_low >= 2**profile.dac.bits:
        yield "level_high"
    if not _are_codes(array, profile):
        yield "code_high"
    conversions = array.planes * array.row_tiles * array.passes * array.columns
    if array.conversions_per_vector != (0 if profile.adc is None else conversions):
        yield "conversions_per_vector"
    sums = [value for tile in array.sums or () for plane in tile for value in plane]
    if array.largest_sum is not None and sums and not math.isclose(array.largest_sum, max(sums)):
        yield "largest_sum"


def _are_codes(array: ConvertedArray, profile: DeviceProfile) -> bool:
    """Tell whether there are output codes where there are such converters, within their bits."""
    low, high = array.code_low, array.code_high
    if profile.adc is None or low is None or high is None:
        return profile.adc is None and low is None and high is None
    return bool(0 < high - low < 2**profile.adc.bits)


def _wrong_shape(array: ConvertedArray, layers: Mapping[str, list[Layer]]) -> Iterator[str]:
    """Yield another matrix than that of the one layer that the node of a product reads."""
    node = array.product.rpartition("/")[0]
    own = layers.get(node, [])
    if len(own) == 1 and (array.rows, array.columns) != (own[0].rows, own[0].columns):
        yield "rows"
