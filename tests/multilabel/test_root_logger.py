"""What a library does to the root logger is taken back."""

from __future__ import annotations

import logging

import pytest

from edgepress.multilabel.root_logger import own_root_logger


@pytest.mark.parametrize("fails", [False, True])
def test_level_filters_and_handlers_are_as_before_however_it_ends(fails):
    root = logging.getLogger()
    before = root.level, root.filters[:], root.handlers[:]
    try:
        with own_root_logger():
            root.setLevel(logging.CRITICAL)
            root.addFilter(lambda record: False)
            root.handlers[:] = [logging.NullHandler()]
            if fails:
                raise KeyError("a library's own error")
    except KeyError:
        assert fails
    assert (root.level, root.filters, root.handlers) == before
