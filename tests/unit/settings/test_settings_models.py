"""Settings are written once: what follows from a field of a model."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from typing import Annotated, get_type_hints

import click
import pytest

import cimrobust
from cimrobust.cli.main import group
from cimrobust.cli.setting_options import setting_options
from cimrobust.errors import UsageError
from cimrobust.option import Option
from cimrobust.pipeline.stated_settings import restored, state
from cimrobust.run import Run, available_processors
from cimrobust.settings import typed_options
from cimrobust.settings.analysis_settings import AnalysisSettings
from cimrobust.settings.command_settings import RareSettings
from cimrobust.settings.commands import ANALYZE, COMMANDS, RETRAIN, Command
from cimrobust.settings.described_settings import described
from cimrobust.settings.gathered import gather
from cimrobust.settings.training_settings import TrainingSettings


@dataclass(frozen=True, kw_only=True)
class NewSettings:
    """A model with settings that no list elsewhere knows of."""

    brand_new: Annotated[int | None, Option(metavar="N", least=2)] = None
    """What is new; see `brand_name`."""
    brand_name: str = "none"
    """Its name."""


NEW = Command(name="new", parts=(NewSettings, Run))
PARTS = sorted(
    {part for command in COMMANDS.values() for part in command.parts},
    key=lambda part: part.__name__,
)


@pytest.mark.parametrize("model", PARTS)
def test_every_field_has_a_docstring_that_is_a_sentence(model):
    texts = [setting.text for setting in described(model)]
    assert texts
    assert all(text[0].isupper() and text.endswith(".") for text in texts)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_setting_is_an_option_a_keyword_and_a_type(name):
    command = COMMANDS[name]
    options = {
        parameter.name
        for parameter in group.get_command(click.Context(group), name).params
        if isinstance(parameter, click.Option)
    }
    function = getattr(cimrobust, name)
    typed = get_type_hints(getattr(typed_options, f"{name.capitalize()}Options"))
    for setting in command.settings.values():
        assert setting.name in options or not setting.option.is_option
        assert inspect.signature(function).parameters[setting.name].default == setting.default
        assert f"    {setting.name}: " in function.__doc__
        assert setting.name in typed


@pytest.mark.parametrize("name", COMMANDS)
def test_functions_name_at_most_eight_settings_themselves(name):
    function = getattr(cimrobust, name)
    named = set(inspect.signature(function).parameters) - set(COMMANDS[name].settings)
    assert len(named) <= 8


def test_a_new_field_is_an_option_with_type_help_and_range():
    command = click.command("new")(setting_options(NEW)(lambda **given: None))
    made = {option.name: option for option in command.params}
    new = made["brand_new"]
    assert (new.opts, new.metavar, new.type.min) == (["--brand-new"], "N", 2)
    assert new.help == "What is new; see --brand-name."
    assert made["brand_name"].default == "none"
    assert "progress" not in made


def test_a_new_field_is_stated_and_read_back():
    rows = state(NEW, (NewSettings(brand_new=3), Run(effort="quick")))
    assert [(row.key, row.value) for row in rows if not row.is_default] == [
        ("brand-new", 3),
        ("effort", "quick"),
    ]
    assert {row.key for row in rows} == {"brand-new", "brand-name", "seed", "effort", "device-type"}
    assert restored(NEW, rows) == {
        "brand_new": 3,
        "brand_name": "none",
        "seed": 0,
        "effort": "quick",
        "device_type": "cpu",
    }


def test_a_new_field_is_checked():
    with pytest.raises(UsageError, match=r"brand-new must be at least 2, got 1 \(--brand-new\)"):
        gather(NEW, None, None, {"brand_new": 1})
    with pytest.raises(UsageError, match=r"brand-new must be a whole number, got 2\.5"):
        gather(NEW, None, None, {"brand_new": 2.5})


def test_a_text_is_no_sequence_of_texts():
    with pytest.raises(UsageError, match=r"digital must be a sequence of texts, got the text 'fc'"):
        gather(ANALYZE, None, None, {"digital": "fc"})


def test_keywords_come_before_a_run_before_settings_before_defaults():
    settings = {"seed": 1, "limit": 1, "trials": 1}
    given = gather(ANALYZE, settings, Run(seed=2, workers=3), {"limit": 4})
    assert (given.values["seed"], given.values["limit"], given.values["trials"]) == (2, 4, 1)
    assert given.run().workers == 3
    assert given.run().effort == "standard"


def test_settings_may_be_a_model():
    given = gather(ANALYZE, AnalysisSettings(trials=7), None, {"seed": 5})
    assert given.part(AnalysisSettings) == AnalysisSettings(trials=7)
    assert given.run().seed == 5
    assert given.run().workers == available_processors()


def test_the_seed_of_a_training_is_not_lost_where_a_run_says_nothing_of_it():
    given = gather(RETRAIN, TrainingSettings(seed=3, epochs=2), Run(workers=2), {})
    assert (given.run().seed, given.part(TrainingSettings).seed) == (3, 3)
    assert gather(RETRAIN, TrainingSettings(seed=3), Run(seed=4), {}).run().seed == 4


@pytest.mark.parametrize("given", [{"settings": {"trails": 5}}, {"trails": 5}])
def test_an_unknown_keyword_is_an_error_that_names_the_nearest(given):
    with pytest.raises(UsageError, match=r"got 'trails' \(cimrobust.analyze\).*'trials'"):
        cimrobust.analyze("model.onnx", data="data.toml", out="out", **given)


def test_settings_of_another_command_are_refused():
    with pytest.raises(UsageError, match=r"settings must be .*AnalysisSettings.*got RareSettings"):
        cimrobust.analyze("model.onnx", data="data.toml", out="out", settings=RareSettings())
