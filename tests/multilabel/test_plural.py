"""Numbers with their nouns."""

from __future__ import annotations

import pytest

from edgepress.multilabel.plural import plural


@pytest.mark.parametrize(
    ("number", "nouns", "said"),
    [
        (0, ("picture",), "0 pictures"),
        (1, ("picture",), "1 picture"),
        (2, ("picture",), "2 pictures"),
        (1, ("process", "processes"), "1 process"),
        (3, ("process", "processes"), "3 processes"),
        (1, ("picture has", "pictures have"), "1 picture has"),
    ],
)
def test_a_number_and_its_noun_agree(number, nouns, said):
    assert plural(number, *nouns) == said
