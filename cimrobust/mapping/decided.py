"""Which layers of a network stay digital, and which devices the others have.

The rules of a profile, applied.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from dataclasses import replace
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

from cimrobust.errors import UsageError
from cimrobust.mapping.own_profile import own_profile
from cimrobust.onnx_io.densify import with_dense_groups
from cimrobust.onnx_io.layers import CrossbarLayer, LayerScan, UnmappedNode
from cimrobust.onnx_io.scan import scan_layers

if TYPE_CHECKING:
    from cimrobust.device.layer_rules import LayerRule
    from cimrobust.device.profile import DeviceProfile
    from cimrobust.onnx_io.network import Network

_MOST_NAMES = 3


def stored_layers(network: Network, profile: DeviceProfile) -> tuple[Network, LayerScan]:
    """Return the network as its arrays hold it, and its crossbar layers with their rules.

    The rule of a layer is the one that decides for it. Grouped convolutions become dense ones where
    the devices of their layer say so.

    Args:
        network: The network as loaded.
        profile: Its devices.

    Raises:
        UsageError: A rule fits no layer, or the rules leave none to be stored; see `decide`.
        ModelNotCoveredError: A grouped weight cannot be widened.
    """
    found = scan_layers(network)
    asked = _tables_asked_for(found, profile)
    scan = decide(scan_layers(network, stored=asked) if asked else found, profile)
    dense = frozenset(
        layer.initializer
        for layer in scan.layers
        if profile.of_rule(layer.rule).tile.grouped == "dense"
    )
    widened = with_dense_groups(network, dense)
    return (
        (network, scan)
        if widened is network
        else (widened, decide(scan_layers(widened, stored=asked), profile))
    )


def _tables_asked_for(scan: LayerScan, profile: DeviceProfile) -> frozenset[str]:
    """Return the initializers that are tables, not weights, but that a rule gives devices.

    The rule names them, or a node that reads them, in full.
    """
    named = {rule.match for rule in profile.rules if rule.match is not None and not rule.digital}
    return frozenset(
        node.table for node in scan.unmapped if node.table and named & {node.table, node.node}
    )


def decide(scan: LayerScan, profile: DeviceProfile) -> LayerScan:
    """Return the layers that are stored in devices, each with the rule that decides for it.

    Layers that stay digital are listed with the rule as the reason.

    Args:
        scan: All layers that could be stored.
        profile: Has the rules; the last one that a layer fits decides.

    Raises:
        UsageError: A rule fits no layer; the rules leave none to be stored; or they part weights
            that one array holds.
    """
    if not profile.rules:
        return replace(scan, is_decided=True)
    fits = [_fitting(rule, scan.layers) for rule in profile.rules]
    problems = [
        _unfit(profile, index, scan)
        for index, rule in enumerate(profile.rules)
        if not fits[index] and not _is_digital_already(rule, scan)
    ]
    if problems:
        raise UsageError(
            f"every rule for layers must fit at least one, got {'; '.join(problems)} (profile"
            f" '{profile.name}'); `cimrobust inspect` lists all layers"
        )
    rules = {
        layer.initializer: max(
            (index for index, fit in enumerate(fits) if layer.initializer in fit), default=None
        )
        for layer in scan.layers
    }
    layers = [replace(layer, rule=rules[layer.initializer]) for layer in scan.layers]
    digital = [layer for layer in layers if _stays_digital(layer, profile)]
    stored = tuple(layer for layer in layers if not _stays_digital(layer, profile))
    _check_arrays(layers, profile)
    if layers and not stored:
        raise UsageError(
            f"at least one layer must be stored in devices, got all {len(layers)} digital by"
            f" {', '.join(sorted(_deciders(digital, profile)))} (profile '{profile.name}'); leave"
            " one to the devices"
        )
    return LayerScan(stored, (*scan.unmapped, *_unmapped(digital, profile)), is_decided=True)


def _fitting(rule: LayerRule, layers: Sequence[CrossbarLayer]) -> frozenset[str]:
    """Return the initializers of the layers that a rule is for.

    None where a position is not one of the network's.
    """
    if rule.position is not None:
        first, last = (place + len(layers) if place < 0 else place for place in rule.position)
        inside = 0 <= first <= last < len(layers)
        return (
            frozenset(layer.initializer for layer in layers[first : last + 1])
            if inside
            else frozenset()
        )
    if rule.operator is not None:
        return frozenset(
            layer.initializer
            for layer in layers
            if any(use.op == rule.operator for use in layer.uses)
        )
    pattern = rule.match or ""
    return frozenset(
        layer.initializer
        for layer in layers
        if any(_matches(name, pattern) for name in _names(layer))
    )


def _names(layer: CrossbarLayer) -> list[str]:
    return [layer.initializer, *(use.node for use in layer.uses)]


def _matches(name: str, pattern: str) -> bool:
    return name == pattern or fnmatchcase(name, pattern)


def _is_digital_already(rule: LayerRule, scan: LayerScan) -> bool:
    """Tell whether a rule for digital layers names nodes that are digital anyway.

    What it asks for is so.
    """
    if not rule.digital:
        return False
    if rule.operator is not None:
        return any(node.op == rule.operator for node in scan.unmapped)
    return rule.match is not None and any(_matches(node.node, rule.match) for node in scan.unmapped)


def _unfit(profile: DeviceProfile, index: int, scan: LayerScan) -> str:
    """Say which rule fits no layer, and what may have been meant."""
    rule, layers = profile.rules[index], scan.layers
    named = rule.named(index)
    if rule.position is not None:
        return f"{named}, positions are 0 to {len(layers) - 1} or {-len(layers)} to -1"
    if rule.operator is not None:
        return (
            f"{named}, operators of the layers are"
            f" {', '.join(sorted({use.op for layer in layers for use in layer.uses}))}"
        )
    because = next(
        (node.reason for node in scan.unmapped if _matches(node.node, rule.match or "")), None
    )
    if because is not None:
        return f"{named}, which is no crossbar layer: {because}"
    near = _near(
        rule.match or "", dict.fromkeys(name for layer in layers for name in _names(layer))
    )
    return (
        f"{named}, nearest {'names are' if len(near) > 1 else 'name is'}"
        f" {', '.join(repr(name) for name in near)}"
    )


def _near(pattern: str, names: Iterable[str]) -> list[str]:
    """Return the names most like a pattern: at least one, more where they are much alike."""
    plain = pattern.replace("*", "").replace("?", "")
    known = list(names)
    close = difflib.get_close_matches(plain, known, n=_MOST_NAMES, cutoff=0.6)
    return close or difflib.get_close_matches(plain, known, n=1, cutoff=0.0)


def _check_arrays(layers: Sequence[CrossbarLayer], profile: DeviceProfile) -> None:
    """Raise UsageError where weights that meet in one array are to be stored in different ways."""
    arrays: dict[tuple[str, str], list[CrossbarLayer]] = {}
    for layer in layers:
        for use in layer.uses:
            arrays.setdefault((use.node, use.role), []).append(layer)
    for (node, _role), parts in arrays.items():
        first = parts[0]
        other = next(
            (part for part in parts if _array_form(part, profile) != _array_form(first, profile)),
            None,
        )
        if other is not None:
            raise UsageError(
                "weights that one array holds must be stored alike, got"
                f" {profile.decider(first.rule)} for '{first.initializer}' and"
                f" {profile.decider(other.rule)} for '{other.initializer}' (node '{node}', profile"
                f" '{profile.name}'); give both the same rule"
            )


def _array_form(layer: CrossbarLayer, profile: DeviceProfile) -> tuple[object, ...]:
    """Return what all weights of one array have in common."""
    if _stays_digital(layer, profile):
        return ("digital",)
    own = own_profile(layer, profile)
    return own.weight, own.device.bits, own.tile


def _stays_digital(layer: CrossbarLayer, profile: DeviceProfile) -> bool:
    return layer.rule is not None and profile.rules[layer.rule].digital


def _deciders(layers: Iterable[CrossbarLayer], profile: DeviceProfile) -> set[str]:
    return {profile.decider(layer.rule) for layer in layers}


def _unmapped(digital: Iterable[CrossbarLayer], profile: DeviceProfile) -> list[UnmappedNode]:
    return [
        UnmappedNode(
            use.node,
            use.op,
            f"digital by {profile.decider(layer.rule)}: weight '{layer.initializer}'",
            rule=layer.rule,
        )
        for layer in digital
        for use in layer.uses
    ]
