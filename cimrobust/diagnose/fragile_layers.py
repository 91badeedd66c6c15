"""Diagnostic: which layer is fragile.

Attacks in which one layer alone deviates, and in which all but one do.
"""

from __future__ import annotations

from cimrobust.attack.attack import Attack, Plan
from cimrobust.attack.case_parts import restricted
from cimrobust.attack.diagnosis_protocol import Case, Diagnostic, Finding, Settings
from cimrobust.diagnose.diagnose_records import Attacked, LayerAttack, LayerAttacks
from cimrobust.mapping.box import Pattern

NAME = "layers"
#: Passes of all attacks together; with many layers each gets `_LEAST` all the same.
_PASSES = {"quick": 100, "standard": 240, "thorough": 2000}
_LEAST, _MOST = 6, {"quick": 12, "standard": 20, "thorough": 100}
_EVALUATIONS = {"quick": 80, "standard": 240, "thorough": 1200}


def _run(case: Case, settings: Settings) -> Finding:
    names = case.bench.box.names
    plan = _plan(settings, len(names))
    settings.progress.start(LAYERS.title, 2 * len(names))
    rows: list[LayerAttack] = []
    passes, evaluations = 0, 0
    kept: dict[str, Pattern] = {}
    worst_others: Attack | None = None
    for name in names:
        alone = _attack(case, plan, [name])
        others = (
            _attack(case, plan, [other for other in names if other != name])
            if len(names) > 1
            else None
        )
        made = [alone] if others is None else [alone, others]
        passes += sum(attack.passes for attack in made)
        evaluations += sum(attack.evaluations for attack in made)
        kept[f"layer {name} alone"] = {name: alone.pattern[name]}
        if others is not None and (
            worst_others is None or case.runtime.task.is_worse(others.score, worst_others.score)
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
        settings.progress.advance(2, f"{name}: {alone.score.value:.4g}")
    sign = 1.0 if case.runtime.task.higher_is_better else -1.0
    rows.sort(key=lambda row: sign * row.alone.score)
    found = LayerAttacks(
        rows=tuple(rows),
        crafting_samples=len(case.bench.opened.crafting),
        passes_each=plan.steps,
    )
    return Finding(found, passes, evaluations, kept)


def _attack(case: Case, plan: Plan, names: list[str]) -> Attack:
    box = restricted(case.bench.box, names)
    return case.bench.attack(
        NAME,
        box=box,
        plan=plan,
        starts={"the worst pattern, in these layers": dict(case.found.deviations)},
    )


def _plan(settings: Settings, num_layers: int) -> Plan:
    each = min(max(_PASSES[settings.effort] // (2 * num_layers), _LEAST), _MOST[settings.effort])
    return Plan(warm=each // 2, fresh=each - each // 2, evaluations=_EVALUATIONS[settings.effort])


LAYERS = Diagnostic(NAME, "Attacks by layer", _run)
