"""What retrain.json may hold, with names that try to break the page."""

from __future__ import annotations

HOSTILE = "<script>alert(1)</script>'\"&</td>"


def outcome(folder: str, worst: float) -> dict:
    kpp = [{"k": k, "score": 0.9, "lower_bound": None, "confidence": 0.95} for k in (1.0, 5.0)]
    return {
        "folder": folder,
        "model": {"name": HOSTILE, "sha256": "ab" * 32, "bytes": 10},
        "clean": 0.96,
        "quantised": 0.95,
        "mean": 0.94,
        "kpp": kpp,
        "worst_found": worst,
        "transferred": None if folder == "before" else 0.7,
        "certified": None,
        "certified_reason": HOSTILE,
        "trials": 20,
        "effort": "quick",
        "verdict": "INCONCLUSIVE",
    }


def training(method: str) -> dict:
    row = {
        "loss": 0.3,
        "clean": 0.95,
        "attacked": 0.6,
        "kpp": None,
        "mean": 0.9,
        "proved": None,
        "learning_rate": 0.001,
        "skipped": 0,
        "eligible": True,
        "seconds": 1.0,
        "training_seconds": 0.5,
    }
    return {
        "method": method,
        "what": HOSTILE,
        "knobs": {HOSTILE: 0.5, "range": 2.0, "clipping": 0.05, "tight": 10.0},
        "version": HOSTILE if method == "a-trice" else None,
        "noise_scale": 0.0375 if method == "trice-search" else None,
        "weight_range": 3.0,
        "bound_share": 0.0,
        "bound_ratio": 64.25,
        "bound_reason": None,
        "best_epoch": 1,
        "stopped_early": False,
        "epochs": [{"epoch": epoch, **row} for epoch in (0, 1)],
    }


def pace(**changes) -> dict:
    made = {
        "rate": 0.001,
        "before": 0.97,
        "tried": [{"rate": 0.002, "clean": None}, {"rate": 0.001, "clean": 0.965}],
    }
    return {**made, **changes}


def summary(**changes) -> dict:
    made = {
        "reason": None,
        "required": 0.48,
        "required_by": HOSTILE,
        "unrefuted": 0.04,
        "refuted": 0.05,
        "certified_samples": 50,
        "certified_reason": None,
    }
    return {**made, **changes}


def tolerances(roles: tuple[str, ...] = ("before", "control", "after"), **changes) -> dict:
    known = {0.01: (0.9, 0.8), 0.03: (0.6, 0.2), 0.035: (0.5, None), 0.045: (0.4, None)}

    def scores(role: str, tolerance: float) -> dict | None:
        worst, certified = known[tolerance]
        seen = role == "before" or tolerance != 0.035
        return (
            {"worst_found": worst if seen else None, "certified": certified}
            if role in roles
            else None
        )

    rows = [
        {"tolerance": tolerance, "is_stated": tolerance == 0.03, "is_bisection": tolerance == 0.035}
        | {role: scores(role, tolerance) for role in ("before", "control", "after")}
        for tolerance in known
    ]
    made = {
        "stated": 0.03,
        "rows": rows,
        **{role: summary() if role in roles else None for role in ("before", "control", "after")},
    }
    return {**made, **changes}


def layers(count: int = 3, roles: tuple[str, ...] = ("before", "control", "after")) -> dict:
    rows = [
        {"initializer": f"{HOSTILE}.{index}", "trained": index > 0}
        | {
            role: {"alone": 0.5 + 0.4 * index / count, "others": 0.9} if role in roles else None
            for role in ("before", "control", "after")
        }
        for index in range(count)
    ]
    return {"rows": rows, "reasons": {}}


def step(name: str, worst: float, **changes) -> dict:
    theirs = {"score": 0.9, "reached": 1.25, "steps": 11}
    made = {
        "name": name,
        "what": HOSTILE,
        "folder": None,
        "sha256": "ab" * 32,
        "certified": name in ("as it is", "plain", "method"),
        "clean": 0.95,
        "worst_found": worst,
        "sign_walk": theirs,
        "carlini_wagner": None,
        "authors_reason": HOSTILE,
    }
    return {**made, **changes}


def steps(clipped: float = 0.5) -> list[dict]:
    theirs = {"score": 0.85, "reached": 1.0625, "steps": 2000}
    return [
        step("as it is", 0.1),
        step("clipped", 0.3, carlini_wagner=theirs, authors_reason=None),
        step("plain", 0.2),
        step("plain, clipped", clipped),
        step("attack", 0.7, sign_walk=None),
        step("method", 0.8),
    ]


def weights(**changes) -> list[dict]:
    scale = {"largest": 0.5, "box_radius": 0.015, "mean_level": 0.25}
    roles = dict.fromkeys(("before", "control", "clip", "after"), scale)
    return [{"initializer": HOSTILE, **roles, **changes}]


def description(**changes) -> dict:
    made = {
        "schema_version": "1.5",
        "tool": {"name": "cimrobust", "version": "0.1.0", "dependencies": {"numpy": "2.0"}},
        "metric": {
            "name": "accuracy",
            "higher_is_better": True,
            "unit": "fraction",
            "description": "share of right decisions",
        },
        "model": HOSTILE,
        "device": HOSTILE,
        "tolerance": 0.03,
        "self_labelled": True,
        "splits": {
            "training": 100,
            "validation": 20,
            "evaluation": 50,
            "dropped": 1,
            "digest": "cd" * 32,
            "training_files": {},
            "evaluation_files": {},
        },
        "settings": {"epochs": 2, "search_passes": 3},
        "parameters": {
            "stored": [HOSTILE],
            "biases": [],
            "normalisations": [],
            "left": {HOSTILE: HOSTILE},
        },
        "training": training("cimrobust"),
        "control": training("plain"),
        "more_trainings": {"clip": training("clip"), "attack": training("cimrobust")},
        "steps": steps(),
        "steps_reason": None,
        "weights": weights(),
        "tuning": None,
        "pace": pace(),
        "before": outcome("before", 0.1),
        "after": outcome("after", 0.8),
        "control_outcome": outcome("control", 0.2),
        "tolerances": tolerances(),
        "tolerances_reason": None,
        "layers": layers(),
        "layers_reason": None,
        "equivalent": {"tolerance": 0.01, "effort": "quick", "reason": None},
        "notes": [HOSTILE],
        "files": {HOSTILE: "ef" * 32},
        "seconds": {"load": 0.1},
    }
    return {**made, **changes}
