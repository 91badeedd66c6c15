"""`cimrobust retrain`: a robust network out of a fragile one, with certificates of both."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cimrobust.cli.command_help import ExampleCommand
from cimrobust.cli.options import (
    allow_code_option,
    data_option,
    json_option,
    model_argument,
    out_folder_option,
    progress_option,
)
from cimrobust.cli.setting_options import setting_options
from cimrobust.cli.show_page import open_option
from cimrobust.settings.commands import RETRAIN

if TYPE_CHECKING:
    from cimrobust.certificate.models.retrained import Outcome, Retraining


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
@data_option("Evaluation data, as for `cimrobust analyze`; nothing is chosen by it.")
@out_folder_option("Folder for the network and the certificates.")
@setting_options(RETRAIN)
@allow_code_option
@open_option("retrain.html")
@progress_option
@json_option
def command(model: Path, as_json: bool, out: Path, **settings: Any) -> None:
    """Train MODEL so that it withstands the tolerance of its devices.

    Writes model.onnx (the same graph with new initializers), before/, after/ and control/
    (certificates), training.parquet, retrain.json and retrain.html under --out.
    """
    from cimrobust.cli.shown_progress import shown_progress
    from cimrobust.pipeline.retraining import retrain

    with shown_progress() as progress:
        made = retrain(model, out=out, progress=progress, **settings)
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
    click.echo(f"{'epoch kept':<22}{made.record.training.best_epoch} of {settings['epochs']}")
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
