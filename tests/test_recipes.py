"""The recipes that come with the package: each can be read, says what it is, and finds its rows."""

from __future__ import annotations

import pytest

from hf_smalldata import pipeline
from hf_smalldata.catalogue import recipe_files
from hf_smalldata.data.bundled import BUNDLED_DATA
from hf_smalldata.data.load import load
from hf_smalldata.data.sample import split
from hf_smalldata.recipe import Recipe
from hf_smalldata.tasks import get_task

FILES = recipe_files()
BUNDLED = {name: file for name, file in FILES.items() if Recipe.read(file).data.name in BUNDLED_DATA}


def test_there_are_recipes_and_some_need_no_network():
    assert len(FILES) >= 3
    assert BUNDLED


@pytest.mark.parametrize("name", FILES)
def test_a_recipe_begins_with_a_comment_that_says_what_it_is(name):
    first = FILES[name].read_text(encoding="utf-8").splitlines()[0]
    assert first.startswith("# ")
    assert len(first) > 20
    assert len(first) <= 120


@pytest.mark.parametrize("name", FILES)
def test_a_recipe_is_valid_and_survives_being_spelled_out(name, tmp_path):
    recipe = Recipe.read(FILES[name])
    (tmp_path / "spelled_out.yaml").write_text(recipe.to_yaml(), encoding="utf-8")
    assert Recipe.read(tmp_path / "spelled_out.yaml") == recipe


@pytest.mark.parametrize("name", BUNDLED)
def test_a_bundled_recipe_finds_its_rows_and_can_draw_for_every_seed(name):
    recipe = Recipe.read(BUNDLED[name])
    data = split(load(recipe.data, get_task(recipe.task).kind), recipe.data)  # its model may be on the Hub
    assert len(data.labels) >= 2
    assert len(pipeline.test_rows(data)) > 0
    for seed in recipe.seeds:
        drawn = pipeline.draw_for(data, recipe.data, seed)
        assert set(drawn["label"]) == set(range(len(data.labels)))
        assert not set(drawn["id"]) & set(pipeline.test_rows(data)["id"])
    if recipe.model.name.startswith("bundled/"):
        get_task(recipe.task).load_processor(recipe.model)  # the model is there as well
