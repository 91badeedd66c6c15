"""Which layers need protection, as Python users get it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from cimrobust.certificate.notebook_view import notebook_view, score_text
from cimrobust.diagnose.protection import DIGITAL, TIGHTER
from cimrobust.input_file import printable


@dataclass(frozen=True, repr=False)
class Suggestion:
    """What was found.

    Attributes:
        data: As its published schema says.
        found: Whether some set of layers, perhaps none at all, meets the policy.
    """

    data: dict[str, Any]
    found: bool

    @property
    def exit_code(self) -> int:
        """0: the policy can be met; 3: no set that was tried meets it."""
        return 0 if self.found else 3

    def __repr__(self) -> str:
        """Say what must be protected, in one line."""
        return (
            f"<Suggestion for {printable(self.data['model']['name'])}: {printable(self._said())}>"
        )

    def _repr_html_(self) -> str:
        """Show the smallest sets in a notebook."""
        sets = {name: self.data[name] for name in (DIGITAL, TIGHTER)}
        rows = [
            (name, "none", self.data[f"{name}_reason"] or "")
            if found is None
            else (name, ", ".join(found["layers"]), score_text(found["score"]))
            for name, found in sets.items()
        ]
        return notebook_view(
            f"{self.data['model']['name']}: {self._said()}",
            rows,
            columns=("protection", "layers", "worst chip found, or why there is none"),
        )

    def _said(self) -> str:
        best = self.data["best"]
        if best is not None:
            return f"{best} protection of {', '.join(self.data[best]['layers'])} meets the policy"
        return "meets the policy without protection" if self.found else "no set meets the policy"
