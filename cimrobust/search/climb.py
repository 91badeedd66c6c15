"""Projected sign-gradient ascent with momentum and step decay, over the whole attack set.

The schedule is that of APGD (Croce, Hein, ICML 2020, arXiv 2003.01690, algorithm 1), with the step
of every weight measured in half-widths of its own interval. Changed: one pattern for all samples,
so nothing is dropped when it is broken; intervals need not be symmetric; the corner that an iterate
points to is scored beside it; the loss may be rescaled from pass to pass.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Int8
from torch import Tensor

from cimrobust.search.candidate import Candidate
from cimrobust.search.kept_runs import kept_run
from cimrobust.search.torch_patterns import array_of
from cimrobust.search.unit import Unit

if TYPE_CHECKING:
    from cimrobust.mapping.box import Pattern
    from cimrobust.search.losses import Loss
    from cimrobust.search.oracle import Evaluation
    from cimrobust.search.scorer import Scorer

_MOMENTUM = 0.75
_SHARE_IMPROVED = 0.75
_SMALLEST_STEP = 1e-3
# First step of a run that goes on from another, in half-widths.
_LATER_STEP = 1.0
# Passes without fewer correct decisions after which a run whose decisions have collapsed onto one
# class is on the plateau that losses over all decisions do not leave (on the samples and the model
# zoo, none did later).
PATIENCE = 6
#: Ends the origin of the corner that an iterate points to.
CORNER = ", corner"


def checkpoints(passes: int) -> list[int]:
    """Return the passes at which the step may be halved.

    At 22 % first, then ever closer together, 6 % at least.
    """
    shares = [0.0, 0.22]
    while shares[-1] < 1.0:
        shares.append(shares[-1] + max(shares[-1] - shares[-2] - 0.03, 0.06))
    return sorted({int(np.ceil(share * passes - 1e-9)) for share in shares[1:] if share < 1.0})


@dataclass
class _Best:
    """The pass with the largest loss so far; of its gradients the signs, int8, which steps need."""

    loss: float
    unit: Unit
    signs: Mapping[str, Int8[Tensor, "..."]]


def climb(
    scorer: Scorer,
    member: str,
    loss: Loss,
    *,
    start: Pattern,
    passes: int,
    first_step: float = 2.0,
    origin: str,
    patience: int | None = None,
) -> Candidate | None:
    """Maximise a loss for a number of passes; score every iterate and its corner.

    Args:
        scorer: Scores patterns.
        member: Member that the patterns belong to.
        loss: What to maximise.
        start: First pattern.
        passes: Passes to make; fewer where nothing is correct any more, the step has become too
            small to matter, or the start has no gradient.
        first_step: First step in half-widths of the box.
        origin: Described in the certificate, e.g. the start.
        patience: Once the decisions have collapsed, stop after so many passes without fewer
            correct ones; None: use all passes.

    Returns:
        The best candidate of this run, None for no passes.
    """
    passes = min(passes, scorer.ledger.left)
    if passes <= 0:
        return None
    run = partial(_climb, scorer, member, loss, start, passes, first_step, origin, patience)
    return kept_run(scorer, lambda: (run(), 0.0))[0]


def _climb(
    scorer: Scorer,
    member: str,
    loss: Loss,
    start: Pattern,
    passes: int,
    first_step: float,
    origin: str,
    patience: int | None,
) -> Candidate | None:
    """Climb as `climb` says; at least one pass."""
    problem, space = scorer.problem, scorer.problem.space
    position = space.unit(start)
    scale = scorer.scale_at(start, loss)
    before, step, improved, schedule = position, first_step, 0, checkpoints(passes)
    best, at_check, last_check = _Best(-np.inf, position, {}), (-np.inf, first_step), 0
    found: Candidate | None = None
    fewest, since = np.inf, 0
    for index in range(passes):
        pattern = space.pattern(position)
        evaluation = scorer.evaluate(pattern, loss, scale)
        signs: Mapping[str, Int8[Tensor, "..."]] = {
            name: grad.sign().to(torch.int8) for name, grad in evaluation.gradients.items()
        }
        # Gradients are as large as the network, and scoring holds other weights of it.
        evaluation = replace(evaluation, gradients={})
        found = _keep(scorer, member, pattern, evaluation, found, origin)
        fewest, since = (found.key.score, 0) if found.key.score < fewest else (fewest, since + 1)
        scale = evaluation.scale
        if evaluation.loss > best.loss:
            improved += 1
            best = _Best(evaluation.loss, position, signs)
        del pattern, evaluation  # as large as the network, and made anew by the next pass
        if index in schedule:
            stuck = at_check == (best.loss, step)
            at_check = (best.loss, step)
            if improved < _SHARE_IMPROVED * (index - last_check) or stuck:
                step, position, signs = step / 2, best.unit, best.signs
                before = position
            improved, last_check = 0, index
        on_plateau = (
            patience is not None and since >= patience and problem.has_collapsed(found.key.score)
        )
        if (
            step < _SMALLEST_STEP
            or scorer.ledger.nothing_left
            or on_plateau
            or (index == 0 and not _leads_on(signs))
        ):
            break
        position, before = _next(position, before, signs, step, first=index == 0), position
    return found


def climb_in_turn(
    scorer: Scorer,
    member: str,
    losses: Sequence[Loss],
    *,
    start: Pattern,
    passes: int,
    first_step: float = 2.0,
    origin: str,
    patience: int | None = None,
    widths: Sequence[float] = (),
) -> list[Candidate]:
    """Climb on one loss after the other, each from the best so far.

    With equal shares of the passes; arguments as for `climb`. Where the network has hard steps,
    gradients of each loss are taken from Gaussians of its width, see `SampledTwin.widened`.

    Returns:
        The best candidate after each loss; the same one twice is listed once.
    """
    found: list[Candidate] = []
    for index, loss in enumerate(losses):
        share = passes * (index + 1) // len(losses) - passes * index // len(losses)
        run_from = found[-1].pattern if found else start
        step = _LATER_STEP if found else first_step
        with scorer.oracle.widened(widths[index]) if widths else nullcontext():
            run = climb(
                scorer,
                member,
                loss,
                start=run_from,
                passes=share,
                first_step=step,
                origin=origin,
                patience=patience,
            )
        if run is None:
            continue
        no_fewer = bool(found) and run.key.score >= found[-1].key.score
        if not found or run.key < found[-1].key:
            found.append(run)
        if patience is not None and no_fewer and scorer.problem.has_collapsed(found[-1].key.score):
            break
    return found


def _leads_on(signs: Mapping[str, Int8[Tensor, "..."]]) -> bool:
    return any(bool(sign.any()) for sign in signs.values())


def _next(
    position: Unit,
    before: Unit,
    signs: Mapping[str, Int8[Tensor, "..."]],
    step: float,
    *,
    first: bool,
) -> Unit:
    share = 1.0 if first else _MOMENTUM
    moved: Unit = {}
    for name, u in position.items():
        ahead = (u + step * signs[name].to(u.dtype)).clamp(-1, 1)
        moved[name] = (u + share * (ahead - u) + (1 - share) * (u - before[name])).clamp(-1, 1)
    return moved


def _keep(
    scorer: Scorer,
    member: str,
    pattern: Unit,
    evaluation: Evaluation,
    found: Candidate | None,
    origin: str,
) -> Candidate:
    """Score an iterate and its corner; return the best of this run."""
    iterate = {name: array_of(deviation) for name, deviation in pattern.items()}
    corner = scorer.problem.box.corner(iterate)
    best = Candidate(iterate, scorer.key_of(evaluation, iterate), origin, member)
    scorer.ledger.record(best.key)
    if found is not None and found.key <= best.key:
        best = found
    if any(not np.array_equal(corner[name], iterate[name]) for name in corner):
        key = scorer.score_if_worse(corner, best.key, near=evaluation)
        if key is not None and key < best.key:
            best = Candidate(corner, key, f"{origin}{CORNER}", member)
            scorer.ledger.record(best.key)
    return best
