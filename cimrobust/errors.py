"""Errors that a user can act on, and the exit code each one ends a command with.

Every message reads ``<thing> must <rule>, got <value> (<where>); <what to do>``.
"""

from __future__ import annotations

#: What the exit codes of the command line promise.
EXIT_CODES = {
    0: "done, or the gate passed",
    1: "the gate failed; the witness is attached",
    2: "wrong usage: an option, a settings file, a path",
    3: "the gate can neither pass nor fail, or no set of layers meets the policy",
    4: "the model is not covered",
    5: "a file is unsafe, corrupt or too large, and was not used",
    6: "evidence is missing, damaged or forged, or of another network",
    70: "internal error, or a failed self-check",
    130: "interrupted; the same command with --resume goes on",
    141: "nobody reads the output any more",
}


class CimrobustError(Exception):
    """Base of all errors this package raises on purpose."""

    exit_code = 70


class UsageError(CimrobustError):
    """What the user asked for is wrong: an option, a profile, a policy, a data description."""

    exit_code = 2


class MemoryShortError(CimrobustError):
    """What was asked for needs more memory than there is, or than it may take (``--memory``)."""

    exit_code = 2


class ModelNotCoveredError(CimrobustError):
    """The model is valid, but cannot be analysed: it has no crossbar layer or no usable output."""

    exit_code = 4


class InputRefusedError(CimrobustError):
    """A file is unsafe or corrupt and was not used."""

    exit_code = 5


class EvidenceRefutedError(CimrobustError):
    """Evidence that somebody shows is missing, forged, damaged, or of another network.

    It passes nothing.
    """

    exit_code = 6


class SelfCheckError(CimrobustError):
    """Two computations that must agree do not; no certificate may be written."""

    exit_code = 70
