"""The strongest cheap attack on one sample at a time: weights go to the corner that its own
gradient points to, again and again, once for every runner-up.

Beside that a descent with momentum, where it is asked for, and the chip that makes the linear bound
smallest.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from cimrobust.certify.backward import Options, lower_bound
from cimrobust.certify.bounded_network import BoundedNetwork
from cimrobust.certify.propagate import propagate
from cimrobust.engine.open import Runtime
from cimrobust.mapping.placement import Placement
from cimrobust.twin.to_torch import Twin, to_torch

Chip = dict[str, np.ndarray]


class PerInputAttack:
    """Searches the box for a chip that decides a given sample wrong."""

    def __init__(
        self,
        runtime: Runtime,
        placement: Placement,
        *,
        targets: int = 3,
        passes: int = 6,
        descents: int = 0,
        network: BoundedNetwork | None = None,
    ) -> None:
        self.runtime = runtime
        self.placement = placement
        self.targets = targets
        self.passes = passes
        self.descents = descents
        self.network = network
        self.twin: Twin = to_torch(
            runtime.deployed.model,
            weight_names=runtime.deployed.weight_names,
            outputs=[runtime.plain.output],
        )
        self.inputs = {
            name: torch.from_numpy(np.array(array))
            for name, array in runtime.dataset.inputs.items()
        }
        self.constants = {
            name: torch.from_numpy(np.array(array))
            for name, array in runtime.dataset.constants.items()
        }

    def margins(self, weights: Mapping[str, Tensor], sample: int) -> Tensor:
        """Return the margins of the right decision of a sample over all others."""
        feed = {name: tensor[sample : sample + 1] for name, tensor in self.inputs.items()}
        output = self.twin({**feed, **self.constants}, weights)[self.runtime.plain.output].reshape(
            -1
        )
        decision, label = (
            self.runtime.task.decision,
            int(self.runtime.task.labels.reshape(-1)[sample]),
        )
        if decision.read == "threshold":
            distance = output - float(decision.threshold or 0.0)
            return distance if label else -distance
        output = -output if decision.read == "argmin" else output
        return torch.cat([output[label] - output[:label], output[label] - output[label + 1 :]])

    def worst(self, sample: int, scale: float) -> tuple[float, Chip]:
        """Return the smallest margin found in a box of a size, and the chip."""
        nominal, lo, hi = self._box(scale)
        clean = self.margins(nominal, sample)
        best, best_chip = float(clean.min()), nominal
        targets = clean.argsort()[: self.targets].tolist()
        starts = [(target, nominal) for target in targets]
        if self.network is not None:
            starts += [(target, self._relaxed(sample, target, scale)) for target in targets]
        for target, weights in starts:
            for _ in range(self.passes):
                leaves = {
                    name: tensor.detach().requires_grad_() for name, tensor in weights.items()
                }
                margins = self.margins(leaves, sample)
                if float(margins.detach().min()) < best:
                    best, best_chip = float(margins.detach().min()), weights
                grads = torch.autograd.grad(
                    margins[target], list(leaves.values()), allow_unused=True
                )
                weights = {
                    name: (
                        nominal[name]
                        if grad is None
                        else torch.where(
                            grad > 0, lo[name], torch.where(grad < 0, hi[name], nominal[name])
                        )
                    )
                    for name, grad in zip(leaves, grads, strict=True)
                }
        for target in targets if self.descents and best > 0 else ():
            margin, chip = self._descended(sample, target, (nominal, lo, hi))
            if margin < best:
                best, best_chip = margin, chip
        return best, {name: tensor.detach().numpy() for name, tensor in best_chip.items()}

    def _descended(
        self, sample: int, target: int, box: tuple[dict[str, Tensor], ...]
    ) -> tuple[float, dict[str, Tensor]]:
        """Descend on one margin with momentum and smaller and smaller steps; the corner that the
        momentum points to is tried last.
        """
        nominal, lo, hi = box
        weights, best, best_chip = nominal, float("inf"), nominal
        momentum = {name: torch.zeros_like(tensor) for name, tensor in nominal.items()}
        for step in range(self.descents + 1):
            leaves = {name: tensor.detach().requires_grad_() for name, tensor in weights.items()}
            margins = self.margins(leaves, sample)
            if float(margins.detach().min()) < best:
                best, best_chip = float(margins.detach().min()), weights
            grads = torch.autograd.grad(margins[target], list(leaves.values()), allow_unused=True)
            for name, grad in zip(leaves, grads, strict=True):
                momentum[name] = 0.7 * momentum[name] + (
                    0.0 if grad is None else grad / (grad.abs().mean() + 1e-30)
                )
            # The last move goes all the way to the corner.
            share = 2.0 if step == self.descents - 1 else 0.02 + 0.5 * (1.0 - step / self.descents)
            weights = {
                name: torch.minimum(
                    torch.maximum(
                        tensor - share * (hi[name] - lo[name]) * momentum[name].sign(), lo[name]
                    ),
                    hi[name],
                )
                for name, tensor in weights.items()
            }
        return best, best_chip

    def break_scale(
        self, sample: int, first: float, *, steps: int = 7, reach: float = 8.0
    ) -> float:
        """Return the smallest box size found that breaks a sample, from a size that does not up to
        `reach` times that; within 3 % for 7 steps and a reach of 8.
        """
        low, high = first, reach * first
        if self.worst(sample, high)[0] > 0:
            return high
        for _ in range(steps):
            middle = float(np.sqrt(low * high))
            if self.worst(sample, middle)[0] > 0:
                low = middle
            else:
                high = middle
        return high

    def _relaxed(self, sample: int, target: int, scale: float) -> dict[str, Tensor]:
        """Return the chip that makes the linear bound of a margin smallest; unlike gradients,
        bounds see behind units that are switched off.
        """
        assert self.network is not None
        network, plan = self.network, self.network.plan
        inputs = {name: tensor[sample : sample + 1] for name, tensor in network.inputs.items()}
        state = propagate(plan, inputs, network.constants, network.weights(scale), effort=0.0)
        label = torch.from_numpy(
            np.ascontiguousarray(network.task.labels.reshape(-1)[sample : sample + 1])
        )
        form, _offset = network.reading.forms(label, state.interval(plan.tensor).lo.shape)
        forms: dict[str, Tensor] = {}
        with torch.no_grad():
            lower_bound(
                state, plan.tensor, form[target : target + 1], options=Options(forms_at=forms)
            )
        nominal, lo, hi = self._box(scale)
        for step in plan.steps:
            if (
                step.kind != "active"
                or step.node.op not in ("Conv", "Gemm", "MatMul")
                or step.output not in forms
            ):
                continue
            name = step.node.inputs[1]
            if name not in nominal:
                continue
            leaf = nominal[name].double().requires_grad_()
            data = state.interval(step.node.inputs[0]).middle
            with torch.enable_grad():
                made = step.step.kernel(data, leaf)
                (grad,) = torch.autograd.grad((made * forms[step.output][0]).sum(), leaf)
            nominal[name] = torch.where(
                grad > 0, lo[name], torch.where(grad < 0, hi[name], nominal[name])
            )
        return nominal

    def _box(self, scale: float) -> tuple[dict[str, Tensor], dict[str, Tensor], dict[str, Tensor]]:
        return tuple(  # type: ignore[return-value]
            {
                name: torch.from_numpy(corner(tensor.nominal, scale, end(tensor)))
                for name, tensor in self.placement.tensors.items()
            }
            for end in (
                lambda tensor: np.zeros_like(tensor.lo),
                lambda tensor: tensor.lo,
                lambda tensor: tensor.hi,
            )
        )


def corner(nominal: np.ndarray, scale: float, deviation: np.ndarray) -> np.ndarray:
    """Return the weights of a chip, float32."""
    return np.ascontiguousarray(nominal + np.float32(scale) * deviation, dtype=np.float32)
