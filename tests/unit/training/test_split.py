"""Splits: nothing that is evaluated is trained on, and no sample is both trained on and validated
with.
"""

from __future__ import annotations

import numpy as np
import pytest

from cimrobust.errors import UsageError
from cimrobust.training.split import split_samples
from tests.unit.training.conftest import clusters, dataset


def test_parts_are_disjoint_and_complete():
    own, other = dataset(*clusters(200, 1)), dataset(*clusters(50, 2))
    split = split_samples(own, other, seed=0)
    assert len(split.validation) == 40
    assert sorted([*split.training, *split.validation]) == list(range(200))


def test_equal_samples_stay_on_one_side():
    x, y = clusters(100, 1)
    twice = dataset(np.concatenate([x, x]), np.concatenate([y, y]))
    split = split_samples(twice, dataset(*clusters(50, 2)), seed=0)
    assert not {index % 100 for index in split.training} & {
        index % 100 for index in split.validation
    }


def test_overlap_with_evaluation_data_is_an_error_that_counts_and_lists():
    x, y = clusters(100, 1)
    other_x, other_y = clusters(50, 2)
    other_x[7], other_x[9] = x[3], x[60]
    with pytest.raises(
        UsageError,
        match=(
            r"share no sample, got 2 of 100 .*training index = evaluation index: 3 = 7, 60 = 9;"
            r" .*--drop-overlap"
        ),
    ):
        split_samples(dataset(x, y), dataset(other_x, other_y), seed=0)
    split = split_samples(dataset(x, y), dataset(other_x, other_y), seed=0, drop_overlap=True)
    assert split.dropped.tolist() == [3, 60]
    assert not {3, 60} & {*split.training, *split.validation}


def test_samples_of_one_content_cannot_be_split():
    x, y = clusters(1, 1)
    alike = dataset(np.repeat(x[:1], 9, axis=0), np.repeat(y[:1], 9))
    with pytest.raises(
        UsageError,
        match="must have samples of different content to train and to validate on, got 9",
    ):
        split_samples(alike, dataset(*clusters(50, 2)), seed=0)


def test_split_depends_on_the_seed_alone():
    own, other = dataset(*clusters(200, 1)), dataset(*clusters(50, 2))
    first, again, changed = (split_samples(own, other, seed=seed) for seed in (0, 0, 1))
    assert first.digest == again.digest != changed.digest
