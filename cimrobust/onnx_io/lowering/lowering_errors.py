"""Why a node is not lowered."""

from __future__ import annotations


class StaysError(Exception):
    """A node uses a form of its operator that has no standard nodes and stays as it is.

    The message says which form.
    """


class RefusedError(Exception):
    """A node uses what cannot be handled at all, so that the model is not covered.

    The message says what, as the end of "node 'x' (op): ...".
    """


class UnknownTypeError(Exception):
    """A lowering needs the type or rank of an input that inference has not found yet."""
