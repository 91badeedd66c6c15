"""cimrobust: what a neural network does on an imperfect analog chip, in the worst case."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cimrobust.certificate.result import Certificate
    from cimrobust.engine.installation import doctor
    from cimrobust.pipeline.analysis import analyze
    from cimrobust.pipeline.billing import bom
    from cimrobust.pipeline.demonstration import demo
    from cimrobust.pipeline.inspection import inspect_model
    from cimrobust.pipeline.planned_analysis import plan
    from cimrobust.pipeline.rare_chips import rare
    from cimrobust.pipeline.retraining import retrain
    from cimrobust.pipeline.rewriting import rewrite
    from cimrobust.pipeline.sharding import draw_shard
    from cimrobust.pipeline.suggesting import suggest
    from cimrobust.pipeline.sweep import sweep
    from cimrobust.pipeline.verifying import verify
    from cimrobust.review.comparing import compare
    from cimrobust.review.gating import gate
    from cimrobust.review.replaying import replay
    from cimrobust.review.signing import sign, verify_signature
    from cimrobust.run import Run
    from cimrobust.settings.analysis_settings import AnalysisSettings
    from cimrobust.settings.command_settings import (
        RareSettings,
        ReplaySettings,
        RetrainSettings,
        SuggestSettings,
        SweepSettings,
        VerifySettings,
    )
    from cimrobust.settings.training_settings import TrainingSettings

__version__ = "0.11.0"

__all__ = [
    "AnalysisSettings",
    "Certificate",
    "RareSettings",
    "ReplaySettings",
    "RetrainSettings",
    "Run",
    "SuggestSettings",
    "SweepSettings",
    "TrainingSettings",
    "VerifySettings",
    "__version__",
    "analyze",
    "bom",
    "compare",
    "demo",
    "doctor",
    "draw_shard",
    "gate",
    "inspect_model",
    "plan",
    "rare",
    "replay",
    "retrain",
    "rewrite",
    "sign",
    "suggest",
    "sweep",
    "verify",
    "verify_signature",
]

_HOMES = {
    "AnalysisSettings": "cimrobust.settings.analysis_settings",
    "Certificate": "cimrobust.certificate.result",
    "RareSettings": "cimrobust.settings.command_settings",
    "ReplaySettings": "cimrobust.settings.command_settings",
    "RetrainSettings": "cimrobust.settings.command_settings",
    "Run": "cimrobust.run",
    "SuggestSettings": "cimrobust.settings.command_settings",
    "SweepSettings": "cimrobust.settings.command_settings",
    "TrainingSettings": "cimrobust.settings.training_settings",
    "VerifySettings": "cimrobust.settings.command_settings",
    "analyze": "cimrobust.pipeline.analysis",
    "bom": "cimrobust.pipeline.billing",
    "compare": "cimrobust.review.comparing",
    "demo": "cimrobust.pipeline.demonstration",
    "doctor": "cimrobust.engine.installation",
    "draw_shard": "cimrobust.pipeline.sharding",
    "gate": "cimrobust.review.gating",
    "inspect_model": "cimrobust.pipeline.inspection",
    "plan": "cimrobust.pipeline.planned_analysis",
    "rare": "cimrobust.pipeline.rare_chips",
    "replay": "cimrobust.review.replaying",
    "retrain": "cimrobust.pipeline.retraining",
    "rewrite": "cimrobust.pipeline.rewriting",
    "sign": "cimrobust.review.signing",
    "suggest": "cimrobust.pipeline.suggesting",
    "sweep": "cimrobust.pipeline.sweep",
    "verify": "cimrobust.pipeline.verifying",
    "verify_signature": "cimrobust.review.signing",
}


def __getattr__(name: str) -> Any:
    """Import a public name when it is first asked for (PEP 562).

    So ``import cimrobust`` and the help answer at once.
    """
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    """List public names before any of them is imported, for completion."""
    return sorted({*globals(), *__all__})
