"""Settings of a method, searched on the validation split.

Short trainings, of which bad ones are stopped early (successive halving).

Optuna proposes (tree-structured Parzen estimators) and prunes. It is an extra (``pip install
cimrobust[retrain]``): SQLAlchemy and its like come with it, 40 MB that nobody needs who trains with
the defaults. The first trial is always the defaults, so what is found is no worse on the validation
split.
"""

from __future__ import annotations

import importlib
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from cimrobust.errors import UsageError
from cimrobust.progress import NullProgress, Progress
from cimrobust.seeds import stream_key
from cimrobust.training.loop import train
from cimrobust.training.training_job import DivergedError
from cimrobust.training.training_protocol import Knob, Recipe
from cimrobust.training.training_records import TunedTrial

if TYPE_CHECKING:
    from cimrobust.settings.training_settings import TrainingSettings
    from cimrobust.training.session import Session
    from cimrobust.training.state import EpochRow

LIBRARY = "optuna"
_LEARNING_RATE = "learning_rate"
#: Epochs of a whole trial as a share of those of the training, and the fewest.
_TRIAL_SHARE, _FEWEST_EPOCHS = 0.4, 4
#: Share of trials that goes on at every rung: one in so many.
_REDUCTION = 3
#: What a percentile counts beside the attacked score: it breaks ties.
_TIE = 1e-3
#: Score of a trial that diverged, below that of any that did not.
_DIVERGED = -1e12


@dataclass(frozen=True)
class Tuning:
    """What a search for settings found.

    Attributes:
        values: Settings of the method.
        learning_rate: Learning rate.
        trials: All trials, in the order they ran.
        budget: Epochs allowed.
        used: Epochs spent.
        library: Library and version that searched.
    """

    values: Mapping[str, float]
    learning_rate: float
    trials: tuple[TunedTrial, ...]
    budget: int
    used: int
    library: str


def score_of(row: EpochRow, *, higher_is_better: bool, proves: bool) -> float:
    """Return the score of an epoch.

    Proved if asked for, then attacked, ties by the first percentile; below all of these where too
    much clean accuracy is lost.
    """
    sign = 1.0 if higher_is_better else -1.0
    if not row.eligible:
        return sign * row.clean - (1e3 if higher_is_better else 1e9)
    kpp = row.kpp if math.isfinite(row.kpp) else 0.0
    proved = 10.0 * row.proved if proves and math.isfinite(row.proved) else 0.0
    return proved + sign * (row.attacked + _TIE * kpp)


def tune(
    session: Session,
    recipe: Recipe,
    settings: TrainingSettings,
    *,
    budget: int,
    given: Mapping[str, float | str] | None = None,
    progress: Progress | None = None,
) -> Tuning:
    """Search for the settings of a method.

    Args:
        session: The network and its samples.
        recipe: The method.
        settings: How the training itself is to run; trials run for 0.4 of its epochs, 4 at least.
        budget: Epochs that all trials may take together.
        given: Settings of the method that are not searched for.
        progress: Told of every epoch.

    Raises:
        UsageError: Optuna is not installed, or the budget is less than one trial.
    """
    optuna, fixed = _library(), dict(given or {})
    epochs = max(round(_TRIAL_SHARE * settings.epochs), _FEWEST_EPOCHS)
    if budget < epochs:
        raise UsageError(
            f"budget of the search for settings must be {epochs} epochs or more, got {budget}"
            " (--tune); give more, or 0"
        )
    progress = progress or NullProgress()
    progress.start(f"settings of {recipe.name}", budget)
    knobs = {
        _LEARNING_RATE: Knob(
            settings.first_rate, settings.first_rate / 5, settings.first_rate * 3, True, ""
        ),
        **{name: knob for name, knob in recipe.knobs.items() if name not in fixed},
    }
    seed = stream_key(settings.seed, "retrain", "tuning") % 2**31
    study = optuna.create_study(
        direction="maximize",
        sampler=optuna.samplers.TPESampler(seed=seed, n_startup_trials=5),
        pruner=optuna.pruners.SuccessiveHalvingPruner(
            min_resource=max(epochs // _REDUCTION, 1), reduction_factor=_REDUCTION
        ),
    )
    study.enqueue_trial({name: knob.default for name, knob in knobs.items()})
    trials: list[TunedTrial] = []
    used = 0
    while used + max(epochs // _REDUCTION, 1) <= budget:
        trial = study.ask()
        made = _run(
            session,
            recipe,
            replace(settings, epochs=min(epochs, budget - used)),
            trial,
            knobs,
            fixed,
            progress,
        )
        trials.append(made)
        used += made.epochs
        study.tell(trial, made.score)
    progress.finish()
    best = max(trials, key=lambda made: made.score)
    values = {name: value for name, value in best.values.items() if name != _LEARNING_RATE}
    return Tuning(
        values,
        best.values[_LEARNING_RATE],
        tuple(trials),
        budget,
        used,
        f"{LIBRARY} {optuna.__version__}",
    )


def _run(
    session: Session,
    recipe: Recipe,
    settings: TrainingSettings,
    trial: Any,
    knobs: Mapping[str, Knob],
    fixed: Mapping[str, float | str],
    progress: Progress,
) -> TunedTrial:
    """Train once with the settings that a trial proposes, as long as it is promising."""
    values = {
        name: trial.suggest_float(
            name, min(knob.low, knob.default), max(knob.high, knob.default), log=knob.is_log
        )
        for name, knob in knobs.items()
    }
    method = recipe.method(
        {**fixed, **{name: value for name, value in values.items() if name != _LEARNING_RATE}}
    )
    higher = session.objective.kind != "value"
    scores: list[float] = []

    def stops(row: EpochRow) -> bool:
        scores.append(score_of(row, higher_is_better=higher, proves=method.proves))
        trial.report(scores[-1], row.epoch)
        progress.advance(1, f"trial {trial.number}, attacked {row.attacked:.4g}")
        return bool(trial.should_prune())

    settings = replace(settings, learning_rate=values[_LEARNING_RATE], patience=settings.epochs)
    try:
        train(
            session.job(method, settings), session.parameters, progress=NullProgress(), stops=stops
        )
    except DivergedError:
        return TunedTrial(values=dict(values), epochs=len(scores) + 1, pruned=True, score=_DIVERGED)
    return TunedTrial(
        values=dict(values),
        epochs=len(scores),
        pruned=len(scores) < settings.epochs,
        score=max(scores),
    )


def _library() -> Any:
    try:
        optuna = importlib.import_module(LIBRARY)
    except ImportError as err:
        raise UsageError(
            "a search for settings must have Optuna, got none (--tune); pip install"
            " 'cimrobust[retrain]'"
        ) from err
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    return optuna
