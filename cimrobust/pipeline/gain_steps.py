"""What each part of a re-training gains: the networks on the way, scored by one search.

From the network as it is to the re-trained one: clipped and nothing trained, plain fine-tuning,
plain fine-tuning on clipped weights, the attack without the interval bound, the whole method. Each
is written to a file and attacked as the certificates attack theirs, and scored as the authors of
TRICE and A-TRICE would score it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from cimrobust.certificate.models import CertificateModel
from cimrobust.certificate.models import retrained as blocks
from cimrobust.certificate.result_names import AFTER, BEFORE
from cimrobust.certificate.retrained_record import Measured
from cimrobust.engine.open import Runtime, open_network
from cimrobust.engine.subject import Subject
from cimrobust.engine.teacher import labelled_by
from cimrobust.files import sha256_of
from cimrobust.mapping.decided import stored_layers
from cimrobust.mapping.place import place
from cimrobust.onnx_io.load_network import load_network
from cimrobust.pipeline.retrained_file import export, model_of
from cimrobust.search.ensemble import search
from cimrobust.search.torch_patterns import tensor_of
from cimrobust.training.authors_score import (
    Deviated,
    carlini_wagner_as_published,
    sign_walk,
)
from cimrobust.training.clipping import clip_weights
from cimrobust.training.parameters import Parameters
from cimrobust.training.trained_network import Samples
from cimrobust.training.training_job import Job, make_step
from cimrobust.training.training_loss import Objective
from cimrobust.training.training_roles import ATTACK, CLIP, CONTROL, METHOD

if TYPE_CHECKING:
    from cimrobust.data.dataset import DataSet
    from cimrobust.mapping.placement import Placement
    from cimrobust.pipeline.retraining_stages import OpenedRetraining
    from cimrobust.training.loop import Trained
    from cimrobust.training.training_protocol import Step

_QUICK = "the Carlini-Wagner search of the authors is run from effort standard on"
_NO_CLASSES = "the authors' scores are of decisions among classes"
_NOT_REACHED = "no noise of the Carlini-Wagner search of the authors reached the bound"


@dataclass(frozen=True)
class _Network:
    """One network on the way.

    Attributes:
        name: Which it is.
        what: How it was made.
        path: Its file.
        role: Folder of its certificate; None: it has none.
        parameters: Its values.
    """

    name: str
    what: str
    path: Path
    role: str | None
    parameters: Parameters


def measure_steps(
    opened: OpenedRetraining,
    trained: Mapping[str, Trained],
    certificates: Mapping[str, CertificateModel],
) -> Measured:
    """Score every network on the way, and measure its weights.

    Args:
        opened: What was asked for, loaded.
        trained: Trainings by role.
        certificates: Certificates by folder.
    """
    evaluation = labelled_by(opened.network, opened.evaluation, workers=opened.asked.run.workers)
    steps, scales = [], {}
    for network in _networks(opened, trained):
        found, placement = _scored(opened, network, evaluation, certificates)
        steps.append(found)
        scales[network.name] = _scales(placement)
    return Measured(steps, _weights(scales))


def _networks(opened: OpenedRetraining, trained: Mapping[str, Trained]) -> list[_Network]:
    """Return the networks in their order, those without a file of their own written."""
    out, start = opened.asked.out, opened.session.parameters
    found = [_Network("as it is", "before training", opened.asked.model, BEFORE, start)]
    clip, method = trained.get(CLIP), trained[METHOD]
    reach = (clip or method).weight_range
    if reach is not None:
        clipped = start.copy()
        clip_weights(clipped, reach)
        path = model_of(out, "clipped")
        export(opened.session, clipped, path, must_change=False)
        what = f"largest weights clipped at {reach:g} standard deviations, nothing trained"
        found.append(_Network("clipped", what, path, None, clipped))
    others = [
        (CONTROL, "plain", "plain fine-tuning", CONTROL),
        (CLIP, "plain, clipped", "plain fine-tuning on clipped weights", None),
        (ATTACK, "attack", "the method without its interval bound", None),
        (METHOD, "method", opened.plan.method.name, AFTER),
    ]
    for role, name, what, certificate in others:
        if role in trained:
            path = model_of(out, role)
            found.append(_Network(name, what, path, certificate, trained[role].parameters))
    return found


def _scored(
    opened: OpenedRetraining,
    network: _Network,
    evaluation: DataSet,
    certificates: Mapping[str, CertificateModel],
) -> tuple[blocks.GainStep, Placement]:
    asked = opened.asked
    loaded, scan = stored_layers(load_network(network.path), opened.plan.profile)
    placement = place(scan, opened.plan.profile)
    runtime = open_network(loaded, scan, placement, evaluation, workers=asked.run.workers)
    certificate = certificates.get(network.role or "")
    if certificate is None:
        computed = replace(asked.run, seed=asked.training.seed)
        worst = search(Subject(runtime, placement), computed).score.value
    else:
        worst = certificate.worst_found.score
    walk, carlini, reason = _authors(opened, network, runtime, placement)
    inside = network.path.is_relative_to(asked.out)
    return blocks.GainStep(
        name=network.name,
        what=network.what,
        folder=network.path.parent.relative_to(asked.out).as_posix() if inside else None,
        sha256=sha256_of(network.path),
        certified=certificate is not None,
        clean=runtime.nominal.value,
        worst_found=worst,
        sign_walk=walk,
        carlini_wagner=carlini,
        authors_reason=reason,
    ), placement


def _authors(
    opened: OpenedRetraining, network: _Network, runtime: Runtime, placement: Placement
) -> tuple[blocks.AuthorsScore | None, blocks.AuthorsScore | None, str | None]:
    """Return the two scores of the authors, and why one of them is missing."""
    if runtime.task.is_regression:
        return None, None, _NO_CLASSES
    job = opened.session.job(opened.plan.method, opened.asked.training)
    step = evaluation_step(job, network.parameters, runtime)
    walk = _of(sign_walk(step), runtime, placement, opened.asked.run.workers)
    if opened.asked.run.effort == "quick":
        return walk, None, _QUICK
    kept = carlini_wagner_as_published(step)
    if kept is None:
        return walk, None, _NOT_REACHED
    return walk, _of(kept, runtime, placement, opened.asked.run.workers), None


def evaluation_step(job: Job, parameters: Parameters, runtime: Runtime) -> Step:
    """Return all evaluation samples as one mini-batch of a network that decides among classes.

    Args:
        job: Any job of the network.
        parameters: Values of the network that is scored.
        runtime: It, with the evaluation samples.
    """
    dataset, task, device = runtime.dataset, runtime.task, job.network.device
    labels = torch.from_numpy(np.asarray(task.labels, np.int64)).reshape(dataset.num_samples, -1)
    samples = Samples(
        {name: tensor_of(array).to(device) for name, array in dataset.inputs.items()},
        {name: tensor_of(array).to(device) for name, array in dataset.constants.items()},
        labels.to(device),
    )
    scored = replace(job, objective=Objective("classes", k=task.decision.k))
    return make_step(
        scored, parameters, samples, progress=0.0, generator=torch.Generator(), memory={}
    )


def _of(
    found: Deviated, runtime: Runtime, placement: Placement, workers: int
) -> blocks.AuthorsScore:
    weights = {
        name: (nominal + found.deviations[name]).astype(np.float32)
        for name, nominal in placement.nominal().items()
    }
    score = runtime.score(weights, threads=workers)
    return blocks.AuthorsScore(score=score.value, reached=found.reached, steps=found.steps)


def _scales(placement: Placement) -> dict[str, blocks.WeightScale]:
    found = {}
    for name, tensor in placement.tensors.items():
        size = np.abs(tensor.nominal.astype(np.float64))
        largest = float(size.max(initial=0.0))
        found[name] = blocks.WeightScale(
            largest=largest,
            box_radius=tensor.box_radius,
            mean_level=float(size.mean()) / largest if largest else 0.0,
        )
    return found


def _weights(scales: Mapping[str, Mapping[str, blocks.WeightScale]]) -> list[blocks.LayerWeights]:
    return [
        blocks.LayerWeights(
            initializer=name,
            before=before,
            control=scales.get("plain", {}).get(name),
            clip=scales.get("plain, clipped", {}).get(name),
            after=scales["method"][name],
        )
        for name, before in scales["as it is"].items()
    ]
