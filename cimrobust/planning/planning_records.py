"""What is planned of an analysis."""

from __future__ import annotations

from cimrobust.records import Count, Record, Rows, Seconds


class PlannedStage(Record):
    """What one stage is expected to take."""

    stage: str
    """Its name, as in `timings` of the certificate; `writing` is what follows them."""
    seconds: Seconds
    """Expected wall-clock seconds."""
    most_seconds: Seconds
    """The same where nothing ends early: a search that uses all its passes."""
    memory_bytes: Count | None
    """Expected memory of the process in this stage; null: the stage itself sees to what is free."""
    note: str
    """What the numbers come from, and what they leave out."""


class PlannedRun(Record):
    """What an analysis is expected to take, before it is run.

    An estimate: operation counts and about a second of measurement on this machine, at its load
    then. Measured runs lay within a factor of two of most totals; see *Plan a long run*.
    """

    model: str
    """File name of the model."""
    effort: str
    """How much is searched and drawn."""
    workers: Count
    """Threads."""
    samples: Count
    """Samples that every chip is scored on."""
    attack_samples: Count
    """Samples that the search makes chips on."""
    passes: Count
    """Forward-backward passes of the search at most."""
    expected_passes: Count
    """Passes that are expected: a search ends where nothing is correct any more."""
    trials: Count
    """Chips to draw."""
    operations_per_sample: float
    """Floating-point operations of one sample's forward run; 0: they could not be counted."""
    stages: Rows[PlannedStage]
    """What every stage is expected to take, in their order."""
    expected_seconds: Seconds
    """Sum over the stages."""
    most_seconds: Seconds
    """The same where nothing ends early."""
    memory_bytes: Count
    """Largest memory of a stage that could be told."""
    free_bytes: Count
    """Memory that this process can still take."""
    options: Rows[str]
    """Options that reproduce exactly this run anywhere."""

    def __repr__(self) -> str:
        """Say in one line what is planned and how long it takes."""
        return (
            f"<PlannedRun of {self.model}: {self.trials} chips, {self.passes} passes on"
            f" {self.attack_samples} of {self.samples} samples, about"
            f" {duration(self.expected_seconds)}, {self.memory_bytes / 1e9:.1f} GB>"
        )

    __str__ = __repr__


def duration(seconds: float) -> str:
    """Return a time as a reader wants it: seconds, minutes or hours."""
    for size, unit in ((86400, "days"), (3600, "h"), (60, "min")):
        if seconds >= 1.5 * size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.1f} s"
