"""Errors that a user can act on, and the exit code each one ends a command with.

The exit codes are those of the command line's contract: 2 wrong usage, 4 model not covered, 5 input refused,
6 evidence refuted, 70 internal error. Every message reads ``<thing> must <rule>, got <value> (<where>); <what to do>``.
"""

from __future__ import annotations


class CimrobustError(Exception):
    """Base of all errors this package raises on purpose."""

    exit_code = 70


class UsageError(CimrobustError):
    """What the user asked for is wrong: an option, a profile, a policy, a data description."""

    exit_code = 2


class ModelNotCoveredError(CimrobustError):
    """The model is valid, but nothing in it can be analysed (no crossbar layer, no usable output)."""

    exit_code = 4


class InputRefusedError(CimrobustError):
    """A file is unsafe or corrupt and was not used."""

    exit_code = 5


class EvidenceRefutedError(CimrobustError):
    """Evidence does not hold: it is forged, damaged, of something else, or not signed by whom it must be."""

    exit_code = 6


class SelfCheckError(CimrobustError):
    """Two computations that must agree do not; no certificate may be written."""

    exit_code = 70
