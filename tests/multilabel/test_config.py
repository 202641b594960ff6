"""Config: frozen, and every mistake told in one line with what would have been right."""

from __future__ import annotations

from typing import Literal

import pytest
from pydantic import Field, ValidationError

from edgepress.multilabel.config import FLAGS, Config
from edgepress.multilabel.errors import InputError


class Optimizer(Config):
    lr: float = Field(default=0.1, gt=0)
    name: Literal["adam", "sgd"] = "adam"


class Training(Config):
    epochs: int
    """How often every picture is seen."""
    optimizer: Optimizer = Optimizer()
    stops: tuple[int, ...] = ()
    name: str = "mine"


def test_values_are_read_nested_and_frozen():
    config = Training.parse({"epochs": 3, "optimizer": {"lr": 0.5}}, "recipe.yaml")
    assert config == Training(epochs=3, optimizer=Optimizer(lr=0.5))
    with pytest.raises(ValidationError, match="frozen"):
        config.epochs = 4
    assert Training.model_fields["epochs"].description == "How often every picture is seen."


@pytest.mark.parametrize(
    ("values", "said"),
    [
        (
            {"epochs": 3, "epoch": 3},
            "unknown key 'epoch'; did you mean 'epochs'?; valid keys: epochs, optimizer, stops, name",
        ),
        ({"epochs": 3, "optimizer": {"rate": 1}}, "unknown key 'optimizer.rate'; valid keys: lr, name"),
        ({"epochs": 3, "optimizer": {"lr": 0}}, "optimizer.lr is 0: input should be greater than 0"),
        ({"epochs": 3, "optimizer": {"name": "adan"}}, "optimizer.name is 'adan': input should be 'adam' or 'sgd'"),
        ({"epochs": True}, "epochs is True: expected a number"),
        ({"epochs": 3, "optimizer": {"lr": True}}, "optimizer.lr is True: expected a number"),
        ({"epochs": 3, "optimizer": {"lr": float("inf")}}, "optimizer.lr is inf: input should be a finite number"),
        ({"epochs": 3, "name": ""}, "name is '': expected a value, and no empty text"),
        ({"epochs": "three"}, "epochs is 'three': input should be a valid integer"),
        ({"epochs": 3, "stops": "2"}, "stops is '2': expected a list, such as [first, second]"),
        ({"epochs": 3, "optimizer": "adam"}, "optimizer is 'adam': expected settings below it, a line each"),
        ({"epochs": 3, "optimizer_lr": 1}, "settings of optimizer are written below it, as in optimizer: {lr: ...};"),
        ({"epochs": 3, "optimizer-nam": 1}, "as in optimizer: {<key>: ...}; did you mean 'name'?; valid"),
        ({"epochs": 3, "--epochs": 3}, "unknown key '--epochs'; did you mean 'epochs'?"),
        ({}, "epochs"),
        (None, "None"),
        ({"epochs": 3, "optimizer": 5}, "optimizer is 5"),
    ],
)
def test_a_mistake_is_told_in_one_line_with_its_place(values, said):
    with pytest.raises(InputError) as caught:
        Training.parse(values, "recipe.yaml")
    message = str(caught.value)
    assert message.startswith("recipe.yaml: ")
    assert said in message
    assert "\n" not in message


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"epochs": 3, "optimizer": {"lr": 0}}, "--optimizer-lr 0: input should be greater than 0"),
        ({"epochs": ["a", "b c"]}, "--epochs 'a,b c': input should be a valid integer"),
        ({"epochs": 3, "optimizer": {"name": "adan"}}, "--optimizer-name adan: input should be 'adam' or 'sgd'"),
    ],
)
def test_a_mistake_of_a_flag_names_the_flag(values, said):
    with pytest.raises(InputError) as caught:
        Training.parse(values, FLAGS)
    assert str(caught.value).startswith(said)
    with pytest.raises(InputError) as caught:
        Training.parse(values, "recipe.yaml", values)
    assert str(caught.value).startswith(said)
