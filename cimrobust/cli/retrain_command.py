"""`cimrobust retrain`: a robust network out of a fragile one, with certificates of both."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cimrobust.cli.command_help import ExampleCommand
from cimrobust.cli.options import (
    NUMBER,
    allow_code_option,
    count,
    device_option,
    digital_option,
    json_option,
    model_argument,
    run_options,
    time_limit_option,
    tolerance_option,
)
from cimrobust.errors import UsageError

if TYPE_CHECKING:
    from cimrobust.certificate.models.retrained import Outcome, Retraining


def _knobs(texts: tuple[str, ...]) -> dict[str, float | str]:
    """Return settings given as name=number; the version is a word."""
    values: dict[str, float | str] = {}
    for text in texts:
        name, _, number = text.partition("=")
        if name.strip() == "version" and number.strip():
            values["version"] = number.strip()
            continue
        try:
            values[name.strip()] = float(number)
        except ValueError as err:
            raise UsageError(
                f"setting of a method must be name=number, got '{text}' (--set); write e.g. --set"
                " sigma=0.05"
            ) from err
    return values


@click.command(
    "retrain",
    cls=ExampleCommand,
    examples=(
        "cimrobust retrain model.onnx --data data.toml --epochs 30 --out hardened",
        (
            "cimrobust retrain model.onnx --data data.toml --method ibp --clean-loss 0.1 --out"
            " hardened"
        ),
    ),
)
@model_argument
@click.option(
    "--data",
    required=True,
    metavar="DATA",
    help="Evaluation data, as for `cimrobust analyze`; nothing is chosen by it.",
)
@click.option(
    "--train",
    "train_data",
    metavar="DATA",
    help=(
        "Training data, as --data; arrays without a description are read by that of --data."
        " Default: the train_file that --data names."
    ),
)
@device_option
@tolerance_option
@digital_option
@click.option(
    "--out",
    required=True,
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder for the network and the certificates.",
)
@click.option(
    "--method",
    default="cimrobust",
    show_default=True,
    help=(
        "Way of training: cimrobust, a-trice, trice, trice-search, a-trice-chained,"
        " a-trice-projected, adversarial, awp, ibp, ibp-a-trice, noise, device-noise, clip or plain."
    ),
)
@click.option(
    "--set",
    "knobs",
    multiple=True,
    metavar="NAME=NUMBER",
    help=(
        "Setting of the method; may be given several times. Every method has range and clipping;"
        " a-trice has version=v1, v2, v3, v4 or v4-as-published."
    ),
)
@click.option(
    "--tune",
    "tuning_epochs",
    type=count("tune", least=0),
    default=0,
    show_default=True,
    metavar="EPOCHS",
    help=(
        "Epochs that a search for the settings of the method may take first; needs the extra"
        " 'retrain'."
    ),
)
@click.option(
    "--epochs", type=count("epochs"), default=30, show_default=True, help="Epochs at most."
)
@click.option(
    "--batch", type=count("batch"), default=64, show_default=True, help="Samples of a mini-batch."
)
@click.option(
    "--learning-rate",
    type=NUMBER,
    help=(
        "Of the first step; falls to 0 along a half cosine. Default: the largest of 2e-3, 1e-3,"
        " 5e-4, 2.5e-4 and 1.25e-4 at which the first steps of plain training keep within"
        " --clean-loss and one standard error."
    ),
)
@click.option(
    "--optimiser", type=click.Choice(["adamw", "sgd"]), default="adamw", show_default=True
)
@click.option("--weight-decay", type=NUMBER, default=0.0, show_default=True)
@click.option(
    "--clean-loss",
    type=NUMBER,
    default=0.01,
    show_default=True,
    help=(
        "Clean accuracy on the validation split that may be lost; of a regression, share of its"
        " error that may be added."
    ),
)
@click.option(
    "--patience",
    type=count("patience"),
    help="Epochs without a better one after which training stops. Default: half of --epochs.",
)
@click.option(
    "--search-passes",
    type=count("search-passes"),
    default=15,
    show_default=True,
    help="Passes of the search after every epoch.",
)
@click.option(
    "--draws",
    type=count("draws", least=0),
    default=20,
    show_default=True,
    help="Chips drawn after every epoch.",
)
@click.option(
    "--update-norms",
    is_flag=True,
    help="Train batch normalisations too; their statistics follow the data.",
)
@click.option(
    "--freeze",
    multiple=True,
    metavar="NAME",
    help="Initializer to leave as it is; may be given several times.",
)
@click.option(
    "--drop-overlap",
    is_flag=True,
    help="Leave training samples out that are evaluated, in place of an error.",
)
@click.option(
    "--control/--no-control",
    default=True,
    show_default=True,
    help="Train and certify plain fine-tuning with the same budget.",
)
@click.option(
    "--equivalent/--no-equivalent",
    default=True,
    show_default=True,
    help="Search for the write-verify tolerance that would buy the same gain.",
)
@click.option(
    "--diagnostics",
    metavar="all|none|NAME,...",
    help=(
        "Diagnostics of every certificate, as for `cimrobust analyze`. Default:"
        " layers,tolerance_curve, at effort thorough all."
    ),
)
@click.option(
    "--device-type",
    type=click.Choice(["cpu", "cuda"]),
    default="cpu",
    show_default=True,
    help="Where to train.",
)
@run_options
@time_limit_option
@allow_code_option
@json_option
def command(model: Path, as_json: bool, out: Path, knobs: tuple[str, ...], **options: Any) -> None:
    """Train MODEL so that it withstands the tolerance of its devices.

    Writes model.onnx (the same graph with new initializers), before/, after/ and control/
    (certificates), training.parquet, retrain.json and retrain.html under --out.
    """
    from cimrobust.cli.progress_bars import TerminalProgress
    from cimrobust.pipeline.retraining import retrain
    from cimrobust.training.training_settings import TrainingSettings

    settings = TrainingSettings(
        **{
            name: options.pop(name)
            for name in TrainingSettings.__dataclass_fields__
            if name in options
        }
    )
    with TerminalProgress() as progress:
        made = retrain(
            model, out=out, knobs=_knobs(knobs), settings=settings, progress=progress, **options
        )
    summary, equivalent = _summary(made.record, out), made.record.equivalent
    if as_json:
        click.echo(json.dumps(summary, indent=2))
        return
    for name in ("before", "control", "after"):
        outcome = summary[name]
        if outcome is not None:
            shown = ", ".join(
                f"{key} {'none' if value is None else f'{value:.4f}'}"
                for key, value in outcome.items()
            )
            click.echo(f"{name:<22}{shown}")
    if equivalent is not None and equivalent.tolerance is not None:
        click.echo(
            f"{'same by write-verify':<22}{100 * equivalent.tolerance:.3g} % in place of"
            f" {100 * made.record.tolerance:.3g} %"
        )
    click.echo(f"{'epoch kept':<22}{made.record.training.best_epoch} of {settings.epochs}")
    click.echo(f"{'model':<22}{summary['model']}")
    click.echo(f"{'report':<22}{summary['html']}")


def _summary(record: Retraining, out: Path) -> dict[str, Any]:
    keys = {"clean", "quantised", "mean", "worst_found", "certified"}

    def part(outcome: Outcome | None) -> dict[str, Any] | None:
        return None if outcome is None else outcome.model_dump(include=keys)

    return {
        "method": record.training.method,
        "before": part(record.before),
        "control": part(record.control_outcome),
        "after": part(record.after),
        "model": f"{out}/model.onnx",
        "html": f"{out}/retrain.html",
    }
