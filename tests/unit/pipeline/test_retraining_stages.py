"""What a re-training checks and decides before it loads anything."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from cimrobust.device.intervals import tolerance_fraction
from cimrobust.errors import UsageError
from cimrobust.pipeline.retraining_stages import Request, plan, planned_diagnostics
from cimrobust.training.training_settings import TrainingSettings

REQUEST = Request(
    model=Path("no.onnx"),
    data="no.toml",
    out=Path("out"),
    train_data=None,
    device="rram-write-verify-3pct",
    tolerance=0.01,
    method="noise",
    knobs={"sigma": 0.2},
    settings=TrainingSettings(),
    freeze=(),
    drop_overlap=False,
    control=True,
    tuning_epochs=0,
    equivalent=True,
    effort="quick",
    trials=None,
    diagnostics=None,
    workers=1,
    limit=None,
    resume=False,
)


def test_plan_has_the_method_and_devices_that_were_asked_for():
    planned = plan(REQUEST)
    assert (planned.method.name, planned.method.knobs["sigma"]) == ("noise", 0.2)
    assert tolerance_fraction(planned.profile) == pytest.approx(0.01)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"effort": "lazy"}, "effort must be one of quick"),
        ({"diagnostics": "layers,magic"}, "diagnostics must be all, none or some of"),
        ({"method": "magic"}, "method must be one of"),
        ({"settings": TrainingSettings(epochs=0)}, "epochs"),
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
    assert planned_diagnostics(replace(REQUEST, effort=effort, diagnostics=asked)) == expected
