"""Class names as phrases: words go in, numbers are refused."""

from __future__ import annotations

import pytest

from hf_smalldata.errors import UserError
from hf_smalldata.techniques.fewshot.template import filled


def test_each_name_goes_into_the_template_in_the_order_of_the_labels():
    assert filled("This is {}.", ["card_arrival", " lost  card ", "{}"]) == [
        "This is card arrival.", "This is lost card.", "This is {}."]  # fmt: skip


@pytest.mark.parametrize("template", ["This is it.", "{name}", ""])
def test_a_template_without_a_place_for_the_name_is_refused(template):
    with pytest.raises(UserError, match=r"template: expected \{\} where the class name goes"):
        filled(template, ["a", "b"])


@pytest.mark.parametrize(("labels", "found"), [(["0", "1"], "0, 1"), (["3.5", "low"], "3.5"), (["-1", "+1"], "-1, +1")])
def test_names_that_are_numbers_are_refused_with_what_to_do(labels, found):
    with pytest.raises(UserError, match="expected class names in words, found the numbers") as caught:
        filled("a {}", labels)
    assert found in str(caught.value)
    assert "write names into the label column" in str(caught.value)


def test_names_with_a_number_in_them_are_names():
    assert filled("{}", ["3d", "f 16", "1st"]) == ["3d", "f 16", "1st"]
