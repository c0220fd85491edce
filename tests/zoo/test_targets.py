"""Indices and names find their class; what finds none or several is refused with a way out."""

import numpy as np
import pytest

from captum_tgrad.zoo import resolve_target
from captum_tgrad.zoo.class_names import imagenet_class_names

NAMES = imagenet_class_names()
ESPRESSO = 967  # in the list of ImageNet classes
COFFEE_MUG = 504


@pytest.mark.parametrize(
    ("target", "index"),
    [
        (COFFEE_MUG, COFFEE_MUG),
        ("504", COFFEE_MUG),
        (" 504 ", COFFEE_MUG),
        ("espresso", ESPRESSO),
        ("ESPRESSO", ESPRESSO),
        ("coffee mug", COFFEE_MUG),
        ("Coffee_Mug", COFFEE_MUG),
        ("coffee  mug", COFFEE_MUG),
        (0, 0),
        (999, 999),
        (np.int64(504), COFFEE_MUG),
        # The dog and the knitwear: only the exact spelling tells them apart.
        ("Cardigan", 264),
        ("cardigan", 474),
    ],
)
def test_resolve_target_finds_the_class(target, index):
    assert resolve_target(target, NAMES) == index


@pytest.mark.parametrize("target", [1000, "1000", -1, "-1"])
def test_resolve_target_refuses_an_index_out_of_range(target):
    with pytest.raises(ValueError, match=f"class {target} not found: .* from 0 to 999"):
        resolve_target(target, NAMES)


@pytest.mark.parametrize(
    ("target", "suggestion"),
    [
        ("expresso", r"espresso \(967\)"),
        ("mug", r"coffee mug \(504\)"),
        ("Siamese", r"Siamese cat \(284\)"),
    ],
)
def test_resolve_target_names_near_matches(target, suggestion):
    with pytest.raises(
        ValueError, match=rf"class '{target}' not found: did you mean.*{suggestion}"
    ):
        resolve_target(target, NAMES)


@pytest.mark.parametrize("target", ["qqqqqq", "", "1.5"])
def test_resolve_target_says_what_serves_where_nothing_is_near(target):
    with pytest.raises(ValueError, match="pass its name or a number from 0 to 999"):
        resolve_target(target, NAMES)


def test_resolve_target_refuses_an_ambiguous_name():
    with pytest.raises(ValueError, match=r"264 \(Cardigan\), 474 \(cardigan\): pass the number"):
        resolve_target("CARDIGAN", NAMES)
    with pytest.raises(ValueError, match=r"0 \(cup\), 2 \(cup\): pass the number"):
        resolve_target("cup", ["cup", "espresso", "cup"])


@pytest.mark.parametrize("target", [True, 1.0, ["espresso"]])
def test_resolve_target_refuses_other_types(target):
    with pytest.raises(TypeError, match="target must be the index or the name of a class"):
        resolve_target(target, NAMES)
