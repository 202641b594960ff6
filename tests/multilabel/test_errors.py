"""What a program gives for a number is a whole number, whichever library it is of."""

from __future__ import annotations

import numpy as np
import pytest

from edgepress.multilabel.errors import InputError, require_whole


@pytest.mark.parametrize("given", [1, 8, np.int64(8), np.uint8(1)])
def test_whole_numbers_are_taken(given):
    taken = require_whole("batch", given)
    assert taken == given
    assert type(taken) is int


@pytest.mark.parametrize("given", [0, np.int64(0), True, np.True_, 1.0, np.float64(1), "1", None, np.array([1])])
def test_what_is_no_whole_number_from_1_on_is_refused(given):
    with pytest.raises(InputError, match=r"batch .*: expected a whole number, at least 1"):
        require_whole("batch", given)
