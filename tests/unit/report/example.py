"""A certificate with names that try to break the page."""

from __future__ import annotations

HOSTILE = "<script>alert(1)</script>'\"&</td>"


def certificate(**changes) -> dict:
    made = {
        "schema_version": "1.6", "issued": None, "issued_reason": "not given", "item": None, "item_reason": "no policy was given",
        "tool": {"name": "cimrobust", "version": "0.1.0", "dependencies": {"numpy": "2.0"}},
        "machine": {
            "processor": HOSTILE,
            "architecture": "x86_64",
            "instruction_sets": ["avx2", HOSTILE],
            "onnxruntime": "1.23",
            "onnxruntime_build": HOSTILE,
        },
        "machine_reason": None,
        "metric": {"name": "accuracy", "higher_is_better": True, "unit": "fraction", "description": "share of right decisions"},
        "model": {
            "name": f"{HOSTILE}.onnx",
            "files": [{"name": HOSTILE, "sha256": "ab" * 32, "bytes": 1234}],
            "opset": {"": 17},
            "ir_version": 8,
            "producer": HOSTILE,
            "operators": {"Gemm": 1},
            "parameters": 100,
            "mapped_weights": 90,
            "mapped_fraction": 0.9,
            "inputs": [{"name": HOSTILE, "dtype": "float32", "shape": ["batch", 4]}],
            "outputs": [{"name": "scores", "dtype": "float32", "shape": None}],
            "batch": "The model takes any number of samples.",
            "notes": [HOSTILE],
        },
        "data": {
            "description": "d.toml",
            "files": {"d.npz": "cd" * 32},
            "available": 60,
            "used": 50,
            "steps": {HOSTILE: [{"op": "divide", "value": 255}]},
            "label_source": "given",
            "labels_of": None,
            "decision": {"output": "scores", "read": "argmax", "metric": "accuracy", "threshold": None, "axis": 1},
        },
        "device": {
            "profile": {
                "schema": 1,
                "name": HOSTILE,
                "source": "nowhere",
                "weight": {"bits": 8, "scale": "tensor", "mapping": "sign_magnitude"},
                "device": {"bits": 2, "tolerance": 0.03, "distribution": "truncated_gaussian", "sigma": 0.01, "z": 3.0, "quantiles": []},
                "tile": {"rows": 128, "columns": 128},
                "defaults_used": ["tile.rows"],
            },
            "tolerance_fraction": 0.03,
            "largest_tolerance_fraction": 0.03,
            "excluded_probability": 0.0,
            "profile_sha256": "ab" * 32, "devices_outside": 0.0, "chip_inside_probability": 1.0,
        },
        "settings": [{"key": "effort", "value": "quick", "is_default": False}, {"key": "seed", "value": 0, "is_default": True}],
        "mapping": {
            "layers": [
                {
                    "initializer": HOSTILE, "operators": ["Gemm"], "nodes": [HOSTILE], "shape": [4, 2], "groups": 1, "rows": 4, "columns": 2,
                    "weight_bits": 8, "slices": 4, "cells_per_weight": 4, "devices": 32, "tiles": 1, "scale_min": 0.001, "scale_max": 0.001,
                    "box_radius": 0.03, "levels_given": False,
                    "decided_by": "profile", "rule": None, "device_bits": 2, "coding": "sign_magnitude",
                    "tolerance_fraction": 0.03, "tile_rows": 128, "tile_columns": 128,
                }
            ],
            "unmapped": [{"node": HOSTILE, "op": "Softmax", "reason": "digital"}],
            "total_devices": 32,
            "total_tiles": 1,
        },
        "converters": {
            "score": 0.93, "correct": None, "calibration_samples": 40, "calibration_files": {HOSTILE: "12" * 32},
            "arrays": [
                {
                    "product": HOSTILE, "rows": 4, "columns": 2, "row_tiles": 1, "planes": 4, "passes": 1, "input_low": -1.0, "input_high": 1.0,
                    "level_low": -127, "level_high": 127, "zero_level": 0, "code_low": -128, "code_high": 127, "largest_sum": 41.5,
                    "sums": None, "conversions_per_vector": 8,
                },
            ],
            "digital": [{"node": HOSTILE, "op": "Conv", "reason": HOSTILE}],
        },
        "converters_reason": None,
        "clean": {
            "score": 0.96, "correct": 48, "samples": 50, "quantised_score": 0.94, "quantised_correct": 47,
            "per_class": [{"label": 0, "samples": 25, "clean": 24, "worst": 2}, {"label": 1, "samples": 25, "clean": 24, "worst": 3}],
            "per_class_reason": None,
        },
        "monte_carlo": {
            "trials": 10, "seed": 0, "samples": 50, "mean": 0.95, "std": 0.01, "min": 0.92, "max": 0.98, "worst_trial": 3,
            "kpp": [
                {"k": 1.0, "score": 0.92, "lower_bound": None, "confidence": 0.95, "rank": 0, "needed_trials": 299, "statement": "None yet.",
                 "two_source": None, "two_source_reason": "too few"},
                {"k": 10.0, "score": 0.92, "lower_bound": 0.92, "confidence": 0.9, "rank": 1, "needed_trials": 22, "statement": "Most chips.",
                 "two_source": {"bound": 0.75, "observed": 0.92, "rank": 1, "samples": 50, "method": "Clopper-Pearson", "spared_fraction": 0.05,
                                "chip_error": 0.05, "sample_error": 0.05, "statement": HOSTILE, "formula": HOSTILE}, "two_source_reason": None},
            ],
            "requirement": {"threshold": 0.9, "failures": 1, "rate": 0.1, "upper_bound": 0.4, "confidence": 0.95, "method": "beta mixture"},
            "requirement_reason": None,
            "stopping": {"max_trials": 20, "stopped": True, "rule": HOSTILE, "statement": HOSTILE,
                         "targets": [{"k": 1.0, "confidence": 0.95, "threshold": 0.9, "failures": 1, "outcome": "open"}]},
            "stopping_reason": None,
            "rare": {
                "threshold": 0.9, "wrong_decisions": 6, "decisions": 50, "devices": 32, "probability": 1e-6, "low": 5e-7, "high": 2e-6, "confidence": 0.95,
                "widened": 1.1, "reliability_index": 4.75, "reached": True, "reason": None, "particles": 100, "killed": 10, "moves": 15, "budget": 40000, "seed": 0,
                "repeats": [{"probability": 1e-6, "reached": True, "levels": 131, "evaluations": 19750, "accepted": 0.3, "nearest": 6.5}],
                "first_order": {
                    "reliability_index": 4.7, "probability": 1.3e-6, "log10_probability": -5.89, "ratio": 1.3, "agrees": True,
                    "comparison": HOSTILE, "meaning": HOSTILE,
                },
                "first_order_reason": None,
                "most_probable": {
                    "reliability_index": 4.7, "score": 0.88, "correct": 44, "file_score": 0.88, "file_score_reason": None, "method": "gradient",
                    "method_reason": None, "start": "no deviation", "devices": 32, "beyond_1": 9, "beyond_2": 4, "beyond_3": 1, "drawn_norm": 5.66,
                    "layers": [{"initializer": HOSTILE, "share": 1.0, "devices": 32, "beyond_1": 9, "beyond_2": 4, "beyond_3": 1}],
                    "starts": [
                        {"name": "no deviation", "norm": 4.7, "agreement": 1.0, "passes": 20, "evaluations": 60},
                        {"name": HOSTILE, "norm": None, "agreement": None, "passes": 20, "evaluations": 60},
                    ],
                    "effort": "quick", "seed": 0, "crafting_samples": 50, "passes": 40, "forwards": 90, "evaluations": 133,
                    "stored": {"file": "witness/most_probable.safetensors", "sha256": "ab" * 32}, "stored_reason": None,
                    "statement": HOSTILE, "label": HOSTILE,
                },
                "most_probable_reason": None,
                "statement": HOSTILE, "formula": HOSTILE, "label": HOSTILE,
            },
            "rare_reason": None,
            "histogram": {"edges": [0.92, 0.95, 0.98], "counts": [4, 6]},
        },
        "worst_found": {
            "score": 0.1, "correct": 5, "samples": 50, "member": "smooth_accuracy",
            "members": [
                {"name": "smooth_accuracy", "score": 0.1, "correct": 5, "seconds": 1.5, "passes": 20, "evaluations": 3, "note": HOSTILE},
                {"name": "random_corners", "score": 0.9, "correct": 45, "seconds": 0.5, "passes": 0, "evaluations": 24, "note": ""},
            ],
            "not_run": [{"name": "class_collapse", "reason": "two classes"}],
            "has_twin": True, "twin_reason": None, "effort": "quick", "crafting_samples": 50, "box_obeyed": True,
            "effort_curve": {"points": [{"passes": 0, "seconds": 0.1, "score": 0.5}, {"passes": 30, "seconds": 1.2, "score": 0.1}],
                             "near": {"passes": 30, "seconds": 1.2, "score": 0.1}}, "effort_curve_reason": None,
            "replay": {"engine": "onnxruntime", "score": 0.1, "correct": 5, "engine_score": 0.1, "note": "exactly."},
            "witness": {"witness/worst_case.onnx": "ef" * 32},
            "warnings": [{"code": "ZERO_GRADIENT", "text": HOSTILE}],
            "confusion": [[2, 23, 0], [22, 3, 0]], "confusion_reason": None,
            "flipped": {
                "count": 43, "form": "table", "input": HOSTILE, "shape": [4], "shown_shape": [4], "choice": HOSTILE,
                "rows": [
                    {"sample": 7, "label": 1, "becomes": 0, "margin": 0.2, "worst_margin": -0.4, "picture": None, "values": [0.5, -1.0, 2.0, 3.25]},
                    {"sample": 9, "label": 0, "becomes": -1, "margin": None, "worst_margin": None, "picture": None, "values": [0.0, 0.0, 1.0, 2.0]},
                ],
            },
            "flipped_reason": None,
            "likelihood": {"distance": 148.8, "drawn_distance": 38.6, "log10_probability": -4809.0, "statement": HOSTILE, "meaning": HOSTILE},
            "likelihood_reason": None,
        },
        "evaluation_set": {
            "samples": 50, "decisions": 50, "confidence": 0.95,
            "intervals": [
                {"name": "clean", "score": 0.96, "low": 0.86, "high": 0.995, "method": "Clopper-Pearson", "statement": HOSTILE, "caveat": None},
                {"name": "worst_found", "score": 0.1, "low": 0.03, "high": 0.22, "method": "Clopper-Pearson", "statement": "It.", "caveat": HOSTILE},
            ],
            "not_stated": [{"name": "mean", "reason": HOSTILE}],
        },
        "certified": {
            "score": None, "reason": "not computed", "correct": None, "samples": 50, "method": None, "operators": {}, "curve": [], "curve_samples": 0,
            "largest_tolerance": None, "largest_tolerance_reason": HOSTILE,
        },
        "checks": [{"id": "liveness", "text": "Moves.", "held": True, "detail": HOSTILE}],
        "diagnostics": {
            "effects": [
                {"effect": "float weights", "mean": 0.96, "low": 0.96, "high": 0.96, "chips": 0, "change": 0.0},
                {"effect": HOSTILE, "mean": 0.95, "low": 0.92, "high": 0.98, "chips": 10, "change": -0.01},
            ],
            "costs": [{"name": "layers", "passes": 32, "evaluations": 9, "seconds": 1.5}],
            "layers": {
                "rows": [
                    {"initializer": HOSTILE, "alone": {"score": 0.2, "correct": 10, "origin": HOSTILE}, "others": {"score": 0.5, "correct": 25, "origin": HOSTILE}},
                    {"initializer": "w", "alone": {"score": 0.9, "correct": 45, "origin": "from zero"}, "others": None},
                ],
                "crafting_samples": 50, "passes_each": 16,
            },
            "layers_reason": None,
            "classes": {
                "rows": [
                    {"label": 1, "samples": 25, "clean": 0.96, "clean_correct": 24, "recall": 0.0, "correct": 0, "origin": HOSTILE, "overall": 0.5, "becomes": 0},
                    {"label": 0, "samples": 25, "clean": 0.96, "clean_correct": 24, "recall": 0.96, "correct": 24, "origin": "no deviation", "overall": 0.94,
                     "becomes": None},
                ],
                "classes": 3, "left_out": [2], "passes_each": 16,
            },
            "classes_reason": None,
            "safety_class": {
                "label": 1, "samples": 25, "clean": 0.96, "recall": 0.04, "correct": 1, "overall": 0.5, "member": "smooth_accuracy", "effort": "quick",
                "passes": 80, "has_twin": False, "replay_note": HOSTILE, "witness": {HOSTILE: "ef" * 32},
            },
            "safety_class_reason": None,
            "transfer": {
                "directions": [
                    {"searched_samples": 25, "searched_clean": 0.96, "searched": 0.1, "held_out_samples": 25, "held_out_clean": 0.96, "held_out": 0.2,
                     "low": 0.07, "high": 0.41, "method": "Clopper-Pearson", "share": 0.88},
                    {"searched_samples": 25, "searched_clean": 0.96, "searched": 0.96, "held_out_samples": 25, "held_out_clean": 0.96, "held_out": 0.96,
                     "low": None, "high": None, "method": None, "share": None},
                ],
                "confidence": 0.95, "property_of": "too little damage", "statement": HOSTILE, "effort": "quick",
            },
            "transfer_reason": None,
            "tolerance_curve": {
                "points": [{"tolerance": 0.015, "score": 0.9, "correct": 45, "origin": HOSTILE}, {"tolerance": 0.03, "score": 0.1, "correct": 5, "origin": "s"}],
                "tried": [{"tolerance": 0.02, "score": 0.4, "correct": 20, "origin": HOSTILE}],
                "required": 0.48, "required_by": "the policy", "unrefuted": 0.015, "refuted": 0.02, "certified": None, "certified_samples": 0,
                "certified_reason": HOSTILE, "passes_each": 20,
            },
            "tolerance_curve_reason": None,
            "fragile_inputs": {
                "rows": [
                    {"sample": 7, "label": 1, "margin": 0.2, "breaks_at": 0.001, "becomes": 0, "pattern": HOSTILE, "certified_to": 0.0009},
                    {"sample": 9, "label": 0, "margin": None, "breaks_at": 0.02, "becomes": -1, "pattern": "w", "certified_to": None},
                ],
                "right": 47, "broken": 42, "patterns": [HOSTILE], "own_chips": 2, "bound_reason": None,
            },
            "fragile_inputs_reason": None,
            "stuck_devices": {
                "curves": [
                    {
                        "others": HOSTILE, "base": 0.95,
                        "points": [
                            {
                                "budget": 1, "score": 0.7, "correct": 35, "file_score": 0.7, "magnitude": 0.9, "random_mean": 0.94, "random_worst": 0.92,
                                "devices": [
                                    {
                                        "layer": HOSTILE, "group": 0, "row": 3, "column": 1, "slice_index": 3, "side": "positive", "stuck": "high",
                                        "target": 0.0, "weight_change": 0.4,
                                    }
                                ],
                            }
                        ],
                    }
                ],
                "kinds": ["low", "high"], "ranking": "gain", "draws": 5, "total_devices": 32, "crafting_samples": 50,
            },
            "stuck_devices_reason": None,
            "write_verify": {
                "base": 0.4,
                "rows": [
                    {
                        "ranking": "worst_case", "share": 0.05, "devices": 2, "score": 0.6, "regained": 0.2, "extra_writes": 0.4, "regained_per_write": 0.5,
                        "origin": HOSTILE,
                    }
                ],
                "best": "worst_case", "factor": 10.0, "writes_without": 4.2, "writes_verified": 41.8, "write_sigma": 0.1, "write_model": "Assumed: geometric.",
                "draws": 1, "crafting_samples": 50,
            },
            "write_verify_reason": None,
        },
        "diagnostics_reason": None, "retraining": None, "retraining_reason": "none",
        "assumptions": [{"id": "A1", "text": "Within.", "how_checked": "Not.", "effect_if_false": "Worse."}],
        "not_covered": ["Drift."],
        "policy": None, "policy_reason": "no policy was given", "policy_file": None, "policy_sha256": None,
        "verdict": {"word": "INCONCLUSIVE", "sentence": "None.", "requirements": []},
        "seeds": {"run": 0},
        "warnings": [HOSTILE],
        "reproduce": {"command": f"cimrobust analyze '{HOSTILE}'", "python": "import cimrobust", "witness_check": "import numpy"},
        "timings": {"workers": 2, "total_seconds": 12.5, "stages": {"load": 1.0, "search": 11.5}},
    }  # fmt: skip
    return {**made, **changes}
