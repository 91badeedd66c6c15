"""Trials divided over runs that know nothing of each other, and put together again.

A shard is a folder: its trials, as a checkpoint holds them, and a manifest that is written when all
of them are there. Trial t is a function of the seed and t, so the trials of all shards are those
that one run draws.
"""

from __future__ import annotations

import hashlib
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import ValidationError

from cimrobust.errors import InputRefusedError, UsageError
from cimrobust.files import write_whole
from cimrobust.input_file import FileKind, printable, read_input
from cimrobust.json_file import parse_json
from cimrobust.montecarlo.shard_records import ShardManifest
from cimrobust.montecarlo.trial_checkpoint import MAX_BYTES, trials_in
from cimrobust.montecarlo.trial_identity import TrialIdentity, identity_of
from cimrobust.montecarlo.trials import check_trials, trials_done

if TYPE_CHECKING:
    from cimrobust.cluster.executor import Executor
    from cimrobust.data.decision import Score
    from cimrobust.engine.subject import Subject
    from cimrobust.run import Run

FORMAT = "cimrobust shard 1"
MANIFEST, TRIALS = "shard.json", "trials"
_AGAIN = "draw the shard again"
_SHOWN = 20


@dataclass(frozen=True)
class Shard:
    """One share of the trials of a run.

    Attributes:
        number: Which one, from 1.
        of: How many there are.
    """

    number: int
    of: int

    @classmethod
    def parse(cls, text: str) -> Shard:
        """Read ``I/N``.

        Raises:
            UsageError: It reads otherwise, or I is not from 1 to N.
        """
        found = re.fullmatch(r"(\d{1,8})/(\d{1,8})", text.strip(), re.ASCII)
        shard = cls(int(found[1]), int(found[2])) if found else None
        if shard is None or not 1 <= shard.number <= shard.of:
            raise UsageError(
                f"shard must be I/N with I from 1 to N, got '{printable(text)[:40]}' (--shard);"
                " give e.g. 3/10 for the third of ten"
            )
        return shard

    @property
    def folder(self) -> str:
        """Name of its folder."""
        return f"shard-{self.number}-of-{self.of}"

    def trials(self, num_trials: int) -> range:
        """Return its trials of a run; shares differ by one trial at most.

        Raises:
            UsageError: There are fewer trials than shards.
        """
        if self.of > num_trials:
            raise UsageError(
                f"number of shards must be at most the number of trials, got {self.of} shards of"
                f" {num_trials} trials (--shard); use fewer shards"
            )
        return range((self.number - 1) * num_trials // self.of, self.number * num_trials // self.of)


def draw_share(
    subject: Subject,
    run: Run,
    shard: Shard,
    *,
    num_trials: int,
    folder: Path,
    executor: Executor | None = None,
) -> ShardManifest:
    """Draw and score the chips of one shard, and write its folder.

    Args:
        subject: The network with its data, and the devices that are drawn.
        run: How to compute.
        shard: Which share.
        num_trials: Trials of the whole run.
        folder: Folder of the shard, which exists; trials in it that are of the same run are kept.
        executor: Where chips are scored; None: in the threads of this process.

    Raises:
        UsageError: A setting makes no sense, or the folder cannot be written.
    """
    check_trials(num_trials, run)
    trials = shard.trials(num_trials)
    (folder / MANIFEST).unlink(missing_ok=True)
    for _ in trials_done(subject, run, trials, checkpoint=folder / TRIALS, executor=executor):
        pass
    content = (folder / TRIALS).read_bytes()
    manifest = ShardManifest(
        format=FORMAT,
        shard=shard.number,
        of=shard.of,
        trials=num_trials,
        identity=dict(identity_of(subject.runtime, subject.placement, run.seed).parts),
        trials_sha256=hashlib.sha256(content).hexdigest(),
    )
    write_whole(folder / MANIFEST, f"{manifest.model_dump_json(indent=2)}\n".encode())
    return manifest


@dataclass(frozen=True)
class Shards:
    """All shards of one run, their trials not yet read.

    Attributes:
        folder: Folder that holds theirs.
        found: Folder and manifest of every shard, in their order.
    """

    folder: Path
    found: tuple[tuple[Path, ShardManifest], ...]

    def scores(self, identity: TrialIdentity) -> dict[int, Score]:
        """Return the score of every trial.

        Args:
            identity: What the trials of this run depend on.

        Raises:
            UsageError: A shard is of another run; says in what they differ.
            InputRefusedError: Trials of a shard are missing, or its file is damaged.
        """
        for path, manifest in self.found:
            _check_identity(path, manifest, identity)
        scores: dict[int, Score] = {}
        for path, manifest in self.found:
            scores.update(_scores(path, manifest, identity))
        return scores


def find_shards(folder: Path, num_trials: int) -> Shards:
    """Find the shards of a run in one folder.

    Raises:
        UsageError: There are none, some are missing or twice there, or they are of other numbers of
            trials or shards.
        InputRefusedError: A manifest is damaged.
    """
    try:
        paths = sorted(path for path in folder.iterdir() if path.name.startswith("shard-"))
    except OSError as err:
        raise UsageError(
            f"folder of shards must be readable, got {err.strerror} ({folder}, --shards); give the"
            " folder that was --out of the runs with --shard"
        ) from err
    done = [path for path in paths if (path / MANIFEST).exists()]
    if not done:
        raise UsageError(
            f"folder of shards must hold finished ones, got none ({folder}, --shards); give the"
            " folder that was --out of the runs with --shard, and wait until they end"
        )
    found = [(path, _manifest(path / MANIFEST)) for path in done]
    _check_numbers(folder, found, num_trials)
    return Shards(folder, tuple(sorted(found, key=lambda entry: entry[1].shard)))


def _check_numbers(
    folder: Path, found: Iterable[tuple[Path, ShardManifest]], num_trials: int
) -> None:
    """Raise UsageError unless every trial of a run is in exactly one shard."""
    places: dict[int, list[str]] = defaultdict(list)
    divisions = set()
    for path, manifest in found:
        places[manifest.shard].append(path.name)
        divisions.add((manifest.of, manifest.trials))
    if len(divisions) > 1:
        some = ", ".join(f"{of} shards of {trials} trials" for of, trials in sorted(divisions))
        raise UsageError(
            f"shards must be of one division of one run, got {some} ({folder}, --shards); their"
            " trials overlap: keep one division in the folder"
        )
    of, trials = divisions.pop()
    if trials != num_trials:
        raise UsageError(
            f"shards must hold the trials of this run, got {trials} trials where this run has"
            f" {num_trials} ({folder}, --shards); give the same --trials, --effort and --policy"
        )
    twice = [names for names in places.values() if len(names) > 1]
    if twice:
        raise UsageError(
            f"every shard must be there once, got {' and '.join(sorted(twice[0]))} with the same"
            f" trials ({folder}, --shards); remove one of them"
        )
    missing = [number for number in range(1, of + 1) if number not in places]
    if missing:
        some = ", ".join(f"{number}/{of}" for number in missing[:_SHOWN])
        more = f" and {len(missing) - _SHOWN} more" if len(missing) > _SHOWN else ""
        raise UsageError(
            f"all {of} shards must be there and finished, got none of {some}{more} ({folder},"
            " --shards); run the same command with --shard for each of them, and --resume where"
            " one was interrupted"
        )


def _check_identity(path: Path, manifest: ShardManifest, identity: TrialIdentity) -> None:
    """Raise UsageError where a shard is of another run."""
    differing = identity.differences(manifest.identity)
    if differing:
        raise UsageError(
            f"shard must be of this run, got one that differs in {' and '.join(differing)} ({path},"
            f" --shards); {', '.join(identity.remedies(manifest.identity))}"
        )


def _scores(path: Path, manifest: ShardManifest, identity: TrialIdentity) -> Mapping[int, Score]:
    """Return the scores of one shard."""
    file = path / TRIALS
    content = read_input(
        file, FileKind("trials of a shard", MAX_BYTES, missing=InputRefusedError, hint=_AGAIN)
    )
    digest = hashlib.sha256(content).hexdigest()
    if digest != manifest.trials_sha256:
        raise InputRefusedError(
            f"trials of a shard must have the digest of its manifest, got {digest[:12]} instead of"
            f" {manifest.trials_sha256[:12]} ({file}); the file is damaged: {_AGAIN}"
        )
    scores = trials_in(content, file, identity.digest)
    wanted = Shard(manifest.shard, manifest.of).trials(manifest.trials)
    missing = [trial for trial in wanted if trial not in scores]
    if missing:
        raise InputRefusedError(
            f"shard must hold trials {wanted.start} to {wanted.stop - 1}, got {len(missing)} of"
            f" them missing, the first {missing[0]} ({file}); {_AGAIN}"
        )
    return {trial: scores[trial] for trial in wanted}


def _manifest(path: Path) -> ShardManifest:
    """Read a manifest."""
    content = read_input(
        path, FileKind("manifest of a shard", 2**20, missing=InputRefusedError, hint=_AGAIN)
    )
    try:
        manifest = ShardManifest.model_validate(parse_json(content))
        if manifest.format != FORMAT or manifest.shard > manifest.of:
            raise ValueError(f"format '{manifest.format}', shard {manifest.shard}/{manifest.of}")
        return manifest
    except (ValidationError, ValueError) as err:
        raise InputRefusedError(
            f"manifest of a shard must be in the format '{FORMAT}', got: {printable(err)[:200]}"
            f" ({path}); {_AGAIN}"
        ) from err
