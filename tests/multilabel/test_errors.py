"""What a program gives for a number is a whole number, whichever library it is of."""

from __future__ import annotations

import numpy as np
import pytest

from edgepress.multilabel.errors import InputError, as_path, require_whole


@pytest.mark.parametrize("given", [1, 8, np.int64(8), np.uint8(1)])
def test_whole_numbers_are_taken(given):
    taken = require_whole("batch", given)
    assert taken == given
    assert type(taken) is int


@pytest.mark.parametrize("given", [0, np.int64(0), True, np.True_, 1.0, np.float64(1), "1", None, np.array([1])])
def test_what_is_no_whole_number_from_1_on_is_refused(given):
    with pytest.raises(InputError, match=r"batch .*: expected a whole number, at least 1"):
        require_whole("batch", given)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("", "the bundle is an empty text"),
        ("a\0b", r"the bundle is 'a\\x00b' \(embedded null byte\); expected its path"),
        ("a" * 5000, "the bundle is a text of 5,000 characters; expected its path"),
        (7, "the bundle is int; expected its path"),
    ],
)
def test_what_no_path_can_be_is_refused_in_words(given, said):
    with pytest.raises(InputError, match=said):
        as_path(given, "the bundle")


def test_a_path_that_does_not_exist_yet_is_a_path(tmp_path):
    assert as_path(f"{tmp_path}/new", "the bundle") == tmp_path / "new"
