"""Settings of `cimrobust analyze`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from cimrobust.option import Option

#: Stages that a certificate can do without.
SKIPPABLE = ("certify", "diagnostics", "effects")
#: What may score drawn chips.
TRIALS_ON = ("processor", "device")


@dataclass(frozen=True, kw_only=True)
class AnalysisSettings:
    """What an analysis does beside the search for the worst chip."""

    trials: int | None = None
    """Chips to draw. Default: 300, 1000 or 10000 by effort."""
    trials_on: Annotated[str, Option(choices=TRIALS_ON, is_stated_by_default=False)] = "processor"
    """What scores drawn chips: onnxruntime on the processor, or the torch twin on the device of
    `device_type`, with onnxruntime for the chips that decide."""
    policy: Annotated[str | Path | None, Option(path="any", takes="PolicyLike")] = None
    """Policy (TOML) that the verdict is given against."""
    stop_early: bool = False
    """Stop drawing chips as soon as the policy's kpp requirements are decided, by a rule that holds
    whenever it stops; `trials` is then the most, by default at least ten times the fewest that can
    pass."""
    rare_below: Annotated[float | None, Option(metavar="SCORE")] = None
    """Estimate how likely a chip is that misses this score, however rare it is, by multilevel
    splitting."""
    rare_budget: int | None = None
    """Chips that each of its two repeats may evaluate. Default: 40000."""
    skip_most_probable: bool = False
    """With `rare_below`: leave out the search for the most probable such chip."""
    diagnostics: Annotated[str | None, Option(metavar="all|none|NAME,...")] = None
    """What explains the worst chip: layers, classes, transfer, tolerance_curve, fragile_inputs,
    stuck_devices, write_verify. Default: none at effort quick, all at standard and thorough."""
    safety_class: Annotated[int | None, Option(metavar="CLASS", least=0)] = None
    """Class whose recall alone gets a search of its own. Default: the policy's safety_class, if it
    has one."""
    skip: Annotated[Sequence[str], Option(metavar="STAGE", choices=SKIPPABLE)] = ()
    """Stages to leave out: certify, diagnostics, effects. The certificate says so, and a policy
    that needs one of them does not pass."""
    transfer: Annotated[
        str | Path | None, Option(metavar="DIR", path="any", takes="FolderLike")
    ] = None
    """Certificate of another network with the same layers; its witness is scored too."""
    issued: Annotated[str | None, Option(metavar="YYYY-MM-DD")] = None
    """Day of issue that the certificate states. Default: none; no clock is read, so that the same
    command gives the same bytes."""
    time: Annotated[str | None, Option(metavar="TIME", is_stated=False)] = None
    """Time that the run may take, like 90s, 30m or 2h: effort, trials, samples and passes are
    chosen to fit, `effort` at most, and printed as options that reproduce the run anywhere. What is
    given by an option of its own stays."""
    summary: Annotated[str | Path | None, Option(metavar="FILE", path="file", is_stated=False)] = (
        None
    )
    """Write the result as Markdown there too, for a pull request. A command appends the same to the
    file that the environment variable GITHUB_STEP_SUMMARY names, where it is set."""
    resume: Annotated[bool, Option(is_stated=False)] = False
    """Go on where an interrupted run of the same command stopped."""
    shards: Annotated[str | Path | None, Option(metavar="DIR", path="folder", is_stated=False)] = (
        None
    )
    """Take the trials from the shards in this folder, which runs of the same command with
    ``--shard`` have drawn, in place of drawing them."""
    cluster: Annotated[str | None, Option(metavar="WHERE", is_stated=False)] = None
    """Where chips are scored and samples certified: ``processes:N`` or ``local:N`` (Dask) on this
    machine, ``tcp://HOST:PORT`` or a scheduler file (.json) of Dask, or jobs that a batch system
    starts (.toml). Results do not depend on it. Default: the threads of this process."""
