"""The data description file.

Which arrays go into which graph inputs, after which steps, and how the output is judged.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from cimrobust.data.decision import Decision, LabelReading, Read
from cimrobust.data.user_code import is_function
from cimrobust.settings_file import read_settings

Number = int | float
Values = Number | list[Number]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)


class Step(_Strict):
    """One preprocessing step; which of the keys it needs depends on `op`."""

    op: Literal[
        "subtract",
        "multiply",
        "divide",
        "transpose",
        "reshape",
        "resize",
        "crop",
        "grey",
        "colour",
    ]
    """What to do. `resize`, `crop`, `grey` and `colour` work on images that are unpacked, and come
    first: `grey` weighs red, green and blue by 0.299, 0.587 and 0.114, `colour` gives grey images
    three equal channels."""
    value: Values | None = None
    """For `subtract`, `multiply` and `divide`: a number, or one for each entry of the last axis."""
    perm: list[int] | None = None
    """For `transpose`: order of the axes, sample axis 0 first."""
    shape: list[int] | None = None
    """For `reshape`: shape of a sample, without the sample axis; one -1 takes what is left."""
    size: (
        Annotated[list[Annotated[int, Field(ge=1, le=16384)]], Field(min_length=2, max_length=2)]
        | None
    ) = None
    """For `resize` and `crop`: height and width in pixels."""

    @model_validator(mode="after")
    def _complete(self) -> Step:
        needed = {"transpose": "perm", "reshape": "shape", "resize": "size", "crop": "size"}.get(
            self.op, "value"
        )
        given = [
            key for key in ("value", "perm", "shape", "size") if getattr(self, key) is not None
        ]
        if self.op in ("grey", "colour"):
            if given:
                raise ValueError(f"step '{self.op}' takes no other key, got {', '.join(given)}")
            return self
        if given != [needed]:
            raise ValueError(
                f"step '{self.op}' takes '{needed}' and nothing else, got"
                f" {', '.join(given) or 'nothing'}"
            )
        if self.op == "divide" and 0 in (
            self.value if isinstance(self.value, list) else [self.value]
        ):
            raise ValueError("step 'divide' must not divide by 0")
        return self

    def to_dict(self) -> dict[str, Any]:
        """Return the step as it is written in a file."""
        return self.model_dump(exclude_none=True)


class Input(_Strict):
    """What one graph input gets."""

    name: Annotated[str, Field(min_length=1)] | None = None
    """Graph input. May be left out where the graph has one."""
    array: str | None = None
    """Array of the file: of Parquet a column, of shards what follows the key of a sample. Left out:
    `x`; of ONNX test data, the name of the input. Images and CSV columns are `x`."""
    value: Number | list[Any] | None = None
    """The same array in every run, in place of `array` and `steps`."""
    dtype: Literal[
        "float16",
        "float32",
        "float64",
        "int8",
        "int16",
        "int32",
        "int64",
        "uint8",
        "uint16",
        "uint32",
        "uint64",
        "bool",
    ] = "float32"
    """Element type that is fed. A value that it cannot hold is an error."""
    steps: list[Step] = []
    """Preprocessing, in order, on an array whose first axis counts samples."""

    @model_validator(mode="after")
    def _one_source(self) -> Input:
        if self.value is not None and (self.array is not None or self.steps):
            raise ValueError("an input takes 'value', or 'array' and 'steps', not both")
        return self


class Label(_Strict):
    """Where the labels are, and how they are coded."""

    array: str | None = None
    """Array of the labels. Without a table [label]: `y`. Exactly one of `array` and `self`."""
    self_: Annotated[bool, Field(alias="self")] = False
    """The model's own decisions without deviation are the labels: scores count unchanged
    decisions."""
    classes: Annotated[list[int | str], Field(min_length=2)] | None = None
    """Label of every class in the order of the scores of the network; of images the names of the
    sub-folders."""
    first: int | None = None
    """Label of the first class: 1 where labels count from 1. Left out: 0, and refused where 1 fits
    far better."""
    ignore: int | list[int] | None = None
    """Label, or labels, that count nowhere: -100 for padding, 255 for pixels without a class."""

    @model_validator(mode="after")
    def _one_source(self) -> Label:
        if self.self_ == (self.array is not None):
            raise ValueError("a label takes 'array', or 'self = true', and exactly one of them")
        if self.self_ and (self.first is not None or self.ignore is not None):
            raise ValueError(
                "'first' and 'ignore' are about labels of an 'array'; with 'self = true' there are"
                " none"
            )
        if self.classes is not None and self.first is not None:
            raise ValueError("labels are listed by 'classes' or counted from 'first', not both")
        if self.classes is not None and len(set(self.classes)) < len(self.classes):
            raise ValueError("'classes' must list every class once")
        return self

    def to_reading(self) -> LabelReading:
        """Return how labels are coded."""
        ignore = (
            []
            if self.ignore is None
            else self.ignore
            if isinstance(self.ignore, list)
            else [self.ignore]
        )
        return LabelReading(
            classes=None if self.classes is None else tuple(self.classes),
            first=self.first,
            ignore=tuple(ignore),
        )


class DecisionTable(_Strict):
    """How the output is read."""

    output: str | None = None
    """Graph output. Left out: the first, or the scores beside it where the first holds labels."""
    read: Read = "argmax"
    """How a decision is read from the output."""
    metric: Literal["accuracy", "rmse", "mae", "mse", "max_error"] | None = None
    """What is scored. Left out: `accuracy`, and `rmse` where `read = "value"`."""
    value: Number | Annotated[list[Number], Field(min_length=1)] | None = None
    """For `threshold`: the decision is 1 where the output is greater; a list has one for each
    label."""
    axis: int | None = None
    """Class axis of the output, the sample axis counted as 0. Left out: found from shapes, or
    asked for."""
    k: Annotated[int, Field(ge=1)] | None = None
    """For `topk`: the label has to be among the k highest scores."""

    @model_validator(mode="after")
    def _fitting(self) -> DecisionTable:
        if (self.read == "threshold") != (self.value is not None):
            raise ValueError("read = \"threshold\" needs 'value', and nothing else takes one")
        if (self.read == "topk") != (self.k is not None):
            raise ValueError("read = \"topk\" needs 'k', and nothing else takes one")
        if self.axis is not None and (
            self.read in ("label", "value")
            or (self.read == "threshold" and not isinstance(self.value, list))
        ):
            raise ValueError(
                "'axis' is that of the classes, or of several thresholds; nothing else takes one"
            )
        if self.metric is not None and (self.read == "value") == (self.metric == "accuracy"):
            raise ValueError(
                f"metric '{self.metric}' does not fit read = \"{self.read}\"; decisions take"
                " accuracy, values an error metric"
            )
        return self

    def to_decision(self) -> Decision:
        """Return the decision, the metric filled in."""
        metric = self.metric or ("rmse" if self.read == "value" else "accuracy")
        threshold: float | tuple[float, ...] | None = None
        if self.value is not None:
            threshold = (
                tuple(map(float, self.value)) if isinstance(self.value, list) else float(self.value)
            )
        return Decision(
            output=self.output,
            read=self.read,
            metric=metric,
            threshold=threshold,
            axis=self.axis,
            k=self.k or 1,
        )


class Description(_Strict):
    """A data description file."""

    format: Literal[1] = Field(alias="schema")
    """Format of the description."""
    file: Annotated[str, Field(min_length=1)]
    """Data, relative to the description: `.npz`, `.csv`, `.parquet`, `.arrow`, `.feather`, a `.tar`
    shard or a folder of them, a folder of images or of ONNX test data, or `module:function`."""
    train_file: Annotated[str, Field(min_length=1)] | None = None
    """The same for re-training and for the ranges of converters."""
    input: list[Input] = [Input()]
    """One table [[input]] for each graph input."""
    label: Label = Label(array="y")
    """Where the labels are, and how they are coded."""
    decision: DecisionTable = DecisionTable()
    """How the output is read and scored."""

    @model_validator(mode="after")
    def _labels_fit(self) -> Description:
        coded = [
            key for key in ("classes", "first", "ignore") if getattr(self.label, key) is not None
        ]
        if self.decision.read == "value" and coded:
            raise ValueError(
                f'[label] {", ".join(coded)} is about classes; read = "value" has targets'
            )
        if self.decision.read == "label" and self.label.first is not None:
            raise ValueError(
                '[label] first does not apply to read = "label", where output and labels are the'
                " same numbers; list 'classes'"
            )
        return self


def read_description(path: Path) -> Description:
    """Read a data description; raises UsageError with every wrong key."""
    return read_settings(path, Description, what="data description")


def names_training_data(data: str | Path) -> bool:
    """Tell whether data is a description that names a train_file which is there.

    Raises UsageError as `read_description`.
    """
    path = Path(data)
    if path.suffix != ".toml":
        return False
    train_file = read_description(path).train_file
    return train_file is not None and (
        is_function(train_file) or (path.parent / train_file).exists()
    )
