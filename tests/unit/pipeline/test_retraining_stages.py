"""What a re-training checks and decides before it loads anything."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from cimrobust.device.intervals import tolerance_fraction
from cimrobust.errors import UsageError
from cimrobust.pipeline.retrain_request import RetrainRequest
from cimrobust.pipeline.retraining_stages import plan, planned_diagnostics
from cimrobust.run import Run
from cimrobust.settings.command_settings import RetrainSettings
from cimrobust.settings.subject_settings import SubjectSettings
from cimrobust.settings.training_settings import TrainingSettings

REQUEST = RetrainRequest(
    subject=SubjectSettings("no.onnx", "no.toml", tolerance=0.01),
    settings=RetrainSettings(method="noise", knobs={"sigma": 0.2}),
    training=TrainingSettings(),
    run=Run(effort="quick"),
    out=Path("out"),
)


def test_plan_has_the_method_and_devices_that_were_asked_for():
    planned = plan(REQUEST)
    assert (planned.method.name, planned.method.knobs["sigma"]) == ("noise", 0.2)
    assert tolerance_fraction(planned.profile) == pytest.approx(0.01)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"settings": RetrainSettings(diagnostics="layers,magic")},
            "diagnostics must be all, none or some of",
        ),
        ({"settings": RetrainSettings(method="magic")}, "method must be one of"),
        ({"training": TrainingSettings(epochs=0)}, "epochs"),
    ],
)
def test_wrong_requests_end_before_anything_is_trained(changes, message):
    with pytest.raises(UsageError, match=message):
        plan(replace(REQUEST, **changes))


@pytest.mark.parametrize(
    ("effort", "asked", "expected"),
    [
        ("quick", None, "layers,tolerance_curve"),
        ("quick", "none", "none"),
        ("standard", None, "layers,tolerance_curve"),
        ("thorough", None, None),
        ("thorough", "classes", "classes"),
    ],
)
def test_certificates_have_what_the_report_sets_side_by_side(effort, asked, expected):
    request = replace(REQUEST, run=Run(effort=effort), settings=RetrainSettings(diagnostics=asked))
    assert planned_diagnostics(request) == expected
