"""What a method of training is given and gives back."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float, Float32
from torch import Tensor

from cimrobust.errors import UsageError
from cimrobust.training.taught_loss import taught_loss
from cimrobust.training.training_loss import Objective
from cimrobust.training.weights_on_devices import Chip

if TYPE_CHECKING:
    from cimrobust.training.taught_loss import Taught
    from cimrobust.training.trained_network import Samples, TrainingNetwork


#: Deviations of stored weights by initializer.
Deviation = Mapping[str, Float[Tensor, "..."]]


@dataclass
class Step:
    """One mini-batch.

    Attributes:
        network: The network.
        objective: Its loss.
        samples: The mini-batch.
        chips: Stored weights on their devices, quantised from the current values; gradients flow
            through them.
        digital: Everything else that the network takes.
        generator: Random numbers of this step alone.
        progress: Share of the training that is over, in [0, 1).
        memory: What a method keeps from step to step; part of a checkpoint.
        draw: Draws a chip from the distribution of the profile, by its number.
        bound_share: Share of the interval bound in the loss, for methods that take one where it is
            tight.
        held: What is left of the method's own loss beside the clean one, see
            `epoch_choice.held_share`.
        taught: What a teacher says of the mini-batch, for methods that have one; None: nothing.
    """

    network: TrainingNetwork
    objective: Objective
    samples: Samples
    chips: Mapping[str, Chip]
    digital: Mapping[str, Float[Tensor, "..."]]
    generator: torch.Generator
    progress: float
    memory: dict[str, Float[Tensor, "..."]]
    draw: Callable[[int], dict[str, Float32[Tensor, "..."]]]
    bound_share: float = 0.0
    held: float = 1.0
    taught: Taught | None = None

    def logits(self, deviation: Deviation | None = None) -> Float[Tensor, "decisions classes"]:
        """Return the logits of the mini-batch on a chip with a deviation; None: without."""
        weights = {
            name: chip.nominal if deviation is None else chip.nominal + deviation[name]
            for name, chip in self.chips.items()
        }
        return self.network.logits({**self.digital, **weights}, self.samples)

    def loss(self, deviation: Deviation | None = None) -> Float[Tensor, ""]:
        """Return the mean loss of the mini-batch on a chip with a deviation."""
        return self.loss_of(self.logits(deviation))

    def loss_of(self, logits: Float[Tensor, "decisions classes"]) -> Float[Tensor, ""]:
        """Return the mean loss of logits of the mini-batch, a part of it the teacher's if any."""
        if self.taught is None:
            return self.objective.loss(logits, self.samples.targets)
        return taught_loss(self.objective, logits, self.samples.targets, self.taught)

    def normal(self, like: Float[Tensor, "*shape"]) -> Float32[Tensor, "*shape"]:
        """Return standard normal numbers in the shape of a tensor.

        Drawn on the CPU, so that every device sees the same.
        """
        return torch.randn(like.shape, generator=self.generator).to(like.device)

    def uniform(self, like: Float[Tensor, "*shape"]) -> Float32[Tensor, "*shape"]:
        """Return uniform numbers in [0, 1) in the shape of a tensor."""
        return torch.rand(like.shape, generator=self.generator).to(like.device)

    def drawn(self) -> dict[str, Float32[Tensor, "..."]]:
        """Return the deviation of a chip drawn from the distribution of the profile."""
        return self.draw(int(torch.randint(2**31, (1,), generator=self.generator)))

    def fixed(self) -> Step:
        """Return the same step with weights and box cut off from gradients, for attacks."""
        chips = {
            name: Chip(
                chip.nominal.detach(),
                chip.lo.detach(),
                chip.hi.detach(),
                chip.reach.detach(),
                chip.is_centred,
            )
            for name, chip in self.chips.items()
        }
        digital = {name: tensor.detach() for name, tensor in self.digital.items()}
        return replace(self, chips=chips, digital=digital)


@dataclass(frozen=True)
class Knob:
    """One setting of a method.

    Attributes:
        default: Its default.
        low: Smallest value that a search for hyper-parameters tries.
        high: Largest.
        is_log: Tried on a logarithmic scale.
        what: One sentence.
    """

    default: float
    low: float
    high: float
    is_log: bool
    what: str


@dataclass(frozen=True)
class EarlyStep:
    """A step of the optimiser before that of the method's own loss, in the same mini-batch.

    Attributes:
        loss: What it descends on.
        normalised: Every stored tensor is divided by its largest weight meanwhile, so the step is
            one of the weights in that unit.
        discarded: Stored weights are put back afterwards; biases and the moments of the optimiser
            keep the step.
    """

    loss: Callable[[Step], Float[Tensor, ""]]
    normalised: bool = False
    discarded: bool = False


@dataclass(frozen=True)
class SigmaSearch:
    """A search for the scale of the noise while the network is trained, see `sigma_search`.

    Attributes:
        low: Smallest scale, in units of max|W|.
        high: Largest.
        quantile: Which quantile of the drawn chips' scores the copies are compared by.
        runs: Chips drawn for it.
        at: The method at one scale.
    """

    low: float
    high: float
    quantile: float
    runs: int
    at: Callable[[float], Method]


@dataclass(frozen=True)
class Method:
    """One way of training.

    Attributes:
        name: Name on the command line.
        what: One sentence.
        loss: Loss of a mini-batch; its gradient is what the optimiser follows.
        knobs: Its settings and their values.
        averaging: Decay of the running mean of the weights that is kept in place of the last
            weights; 0: none.
        weight_range: Largest weight of a tensor in its standard deviations, the others are clipped;
            shrinks the box. None: not limited.
        clipping_loss: Clean accuracy that clipping may cost before training (of a regression, share
            by which the error may grow); `weight_range` is widened until it does not cost more.
        bound_share: Share of the interval bound in the loss, where it is tight.
        tight: Most that the bound of the loss may be, in attacked losses, to count as tight; of the
            network before training.
        hold: Factor of the method's own loss after an epoch that lost too much clean accuracy, see
            `epoch_choice.held_share`; 1: none.
        taught_share: Share of the loss that follows the network before training where that is
            right, see `network_teacher`; 0: none. Only decisions with labels are taught.
        temperature: What scores are divided by where it does.
        proves: Epochs are chosen by what the interval bound proves, before the attacked score.
        ready: Share of the training from which the box has its full size; epochs before are kept
            only if none after is within the clean loss.
        version: Which of several published forms it is; None: there is one.
        early: A step of the optimiser before that of `loss`; None: none.
        deployed_mean: Mean of the noise that is added to every stored weight when the network is
            scored or written, in units of max|W|.
        search: How the scale of the noise is searched for; None: it is given.
        needs_classes: It has no meaning for a regression.
    """

    name: str
    what: str
    loss: Callable[[Step], Float[Tensor, ""]]
    knobs: Mapping[str, float] = field(default_factory=dict)
    averaging: float = 0.0
    weight_range: float | None = None
    clipping_loss: float = 0.05
    bound_share: float = 0.0
    tight: float = 0.0
    hold: float = 1.0
    taught_share: float = 0.0
    temperature: float = 1.0
    proves: bool = False
    ready: float = 0.0
    version: str | None = None
    early: EarlyStep | None = None
    deployed_mean: float = 0.0
    search: SigmaSearch | None = None
    needs_classes: bool = False


#: Settings of every method: clipping shrinks the box whatever the loss is.
RANGE = Knob(
    0.0,
    1.2,
    3.0,
    False,
    "largest weight in standard deviations of its tensor, the others are clipped; 0: not limited",
)
CLIPPING = Knob(
    0.05,
    0.0,
    0.1,
    False,
    "clean accuracy that clipping may cost before training; the range is widened until it costs no"
    " more",
)
_SHARED = {"range": RANGE, "clipping": CLIPPING}


@dataclass(frozen=True)
class Recipe:
    """How a method is made from its settings.

    Attributes:
        name: Name on the command line.
        what: One sentence.
        knobs: Its own settings; a search for settings tries these.
        make: Makes the method from the values of all settings.
        versions: Makers by the name of the version, in place of `make`, the default first; empty:
            there is one form.
    """

    name: str
    what: str
    knobs: Mapping[str, Knob]
    make: Callable[[Mapping[str, float]], Method]
    versions: Mapping[str, Callable[[Mapping[str, float]], Method]] = field(default_factory=dict)

    @property
    def all_knobs(self) -> dict[str, Knob]:
        """Its own settings, and those that every method has."""
        return {**_SHARED, **self.knobs}

    def method(self, values: Mapping[str, float | str] | None = None) -> Method:
        """Return the method with some settings changed.

        Args:
            values: Numbers by setting; ``version`` is a word.

        Raises:
            UsageError: It has no such setting or version, or a value is not a finite number.
        """
        given = dict(values or {})
        version, make = self._maker(given)
        known = self.all_knobs
        unknown = sorted(set(given) - set(known))
        if unknown:
            listed = sorted({*known, *(["version"] if self.versions else [])})
            raise UsageError(
                f"settings of method {self.name} must be among {listed}, got {unknown} (--set); see"
                " docs/how-to/retraining.md"
            )
        numbers = {name: knob.default for name, knob in known.items()}
        for name, value in given.items():
            numbers[name] = _number(name, value)
        method = make(numbers)
        return replace(
            method,
            version=version,
            weight_range=numbers["range"] or None,
            clipping_loss=numbers["clipping"],
        )

    def _maker(
        self, given: dict[str, float | str]
    ) -> tuple[str | None, Callable[[Mapping[str, float]], Method]]:
        """Return the version asked for, taken out of the settings, and what makes it."""
        if not self.versions:
            return None, self.make
        version = str(given.pop("version", next(iter(self.versions)))).lower()
        if version not in self.versions:
            raise UsageError(
                f"version of method {self.name} must be one of {', '.join(self.versions)}, got"
                f" '{version}' (--set version=...); choose one of them"
            )
        return version, self.versions[version]


def _number(name: str, value: float | str) -> float:
    if isinstance(value, str) or not math.isfinite(value):
        raise UsageError(
            f"setting '{name}' of a method must be a finite number, got {value!r} (--set); write"
            " e.g. --set sigma=0.05"
        )
    return float(value)
