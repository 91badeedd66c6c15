"""Libraries of extras, and what to do where they are not installed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from cimrobust.errors import UsageError

_LIBRARIES = {
    "sign": "securesystemslib and in-toto-attestation",
    "sign-sigstore": "sigstore, securesystemslib and in-toto-attestation",
    "bom": "cyclonedx-python-lib",
    "mlflow": "mlflow or mlflow-skinny",
    "pdf": "weasyprint",
}


@contextmanager
def needing(extra: str, purpose: str) -> Iterator[None]:
    """Import what an extra installs.

    Args:
        extra: Name of the extra.
        purpose: What it is needed for.

    Raises:
        UsageError: It is not installed; names the command that installs it.
    """
    try:
        yield
    except ImportError as err:
        missing = err.name or "one of them"
        raise UsageError(
            f"{purpose} must have {_LIBRARIES[extra]}, got no {missing}; pip install"
            f" 'cimrobust[{extra}]'"
        ) from err
