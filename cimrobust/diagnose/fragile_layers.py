"""Diagnostic: which layer is fragile.

Attacks in which one layer alone deviates, and in which all but one do.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from cimrobust.attack.attack_plan import AttackPlan
from cimrobust.attack.diagnosis_protocol import DiagnosisRequest, Diagnostic, Finding
from cimrobust.attack.subject_parts import restricted
from cimrobust.diagnose.diagnose_records import Attacked, LayerAttack, LayerAttacks

if TYPE_CHECKING:
    from cimrobust.attack.attack import Attack
    from cimrobust.mapping.box import Pattern

NAME = "layers"
#: Passes of all attacks together; with many layers each gets `_LEAST` all the same.
_PASSES = {"quick": 100, "standard": 240, "thorough": 2000}
_LEAST, _MOST = 6, {"quick": 12, "standard": 20, "thorough": 100}
_EVALUATIONS = {"quick": 80, "standard": 240, "thorough": 1200}


def _run(request: DiagnosisRequest) -> Finding:
    names = request.box.names
    plan = plan_of(request.run.effort, len(names))
    request.run.progress.start(LAYERS.title, 2 * len(names))
    rows: list[LayerAttack] = []
    passes, evaluations = 0, 0
    kept: dict[str, Pattern] = {}
    worst_others: Attack | None = None
    for name in names:
        alone = _attack(request, plan, [name])
        others = (
            _attack(request, plan, [other for other in names if other != name])
            if len(names) > 1
            else None
        )
        made = [alone] if others is None else [alone, others]
        passes += sum(attack.passes for attack in made)
        evaluations += sum(attack.runs for attack in made)
        kept[f"layer {name} alone"] = {name: alone.pattern[name]}
        if others is not None and (
            worst_others is None or request.runtime.task.is_worse(others.score, worst_others.score)
        ):
            worst_others = others
            kept["all layers but one"] = others.pattern
        rows.append(
            LayerAttack(
                initializer=name,
                alone=Attacked.of(alone.score, alone.origin),
                others=None if others is None else Attacked.of(others.score, others.origin),
            )
        )
        request.run.progress.advance(2, f"{name}: {alone.score.value:.4g}")
    sign = 1.0 if request.runtime.task.higher_is_better else -1.0
    rows.sort(key=lambda row: sign * row.alone.score)
    found = LayerAttacks(
        rows=tuple(rows),
        crafting_samples=len(request.context.twin.attack_set),
        passes_each=plan.passes,
    )
    return Finding(found, passes, evaluations, kept)


def _attack(request: DiagnosisRequest, plan: AttackPlan, names: list[str]) -> Attack:
    return request.context.attack(
        plan,
        {"the worst pattern, in these layers": dict(request.found.deviations)},
        box=restricted(request.box, names),
    )


def plan_of(effort: str, num_layers: int) -> AttackPlan:
    """Return the attack on every layer, and on all but it, of a network of so many layers."""
    each = min(max(_PASSES[effort] // (2 * num_layers), _LEAST), _MOST[effort])
    return AttackPlan(known=each // 2, zero=each - each // 2, evaluations=_EVALUATIONS[effort])


LAYERS = Diagnostic(NAME, "Attacks by layer", _run, gives=LayerAttacks)
