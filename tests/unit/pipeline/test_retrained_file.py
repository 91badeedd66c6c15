"""The file of a re-trained network is compared with what is made of it at several sizes, and goes
where it is found wrong.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from cimrobust.engine.other_sizes import SizesCheck, check_sizes
from cimrobust.errors import SelfCheckError
from cimrobust.pipeline import retrained_file
from cimrobust.progress import NullProgress
from cimrobust.training.loop import Trained, train
from cimrobust.training.methods.method_catalogue import recipe_of
from cimrobust.training.session import Session
from tests.unit.training.conftest import Opener, opened, quick

__all__ = ["opened"]


@pytest.fixture
def session(opened: Opener) -> Session:
    """A small network with a free number of samples."""
    return opened()


@pytest.fixture
def trained(session: Session) -> Trained:
    """It, trained for a moment."""
    return train(
        session.job(recipe_of("plain").method(), quick()),
        session.parameters,
        progress=NullProgress(),
    )


def test_it_is_compared_at_several_sizes(
    session: Session, trained: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[SizesCheck] = []

    def recorded(*arguments: object, **options: object) -> SizesCheck:
        seen.append(check_sizes(*arguments, **options))  # type: ignore[arg-type]
        return seen[-1]

    monkeypatch.setattr(retrained_file, "check_sizes", recorded)
    retrained_file.export(session, trained.parameters, tmp_path / "model.onnx", must_change=True)
    assert {shapes["x"][0] for shapes in seen[0].ran} >= {1, 2, 3}
    assert seen[0].max_difference < 1e-5


def test_a_file_that_is_found_wrong_goes(
    session: Session, trained: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def wrong(*_arguments: object, **_options: object) -> SizesCheck:
        raise SelfCheckError("outputs differ")

    monkeypatch.setattr(retrained_file, "check_sizes", wrong)
    with pytest.raises(SelfCheckError, match="outputs differ"):
        retrained_file.export(
            session, trained.parameters, tmp_path / "model.onnx", must_change=True
        )
    assert not (tmp_path / "model.onnx").exists()
