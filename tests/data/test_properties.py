"""What holds of every label set, however it is cut: nothing is in two places or lost, and the seed decides alone."""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import replace
from itertools import chain

import numpy as np
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from hf_smalldata.data.folds import folds
from hf_smalldata.data.load import Splits, load
from hf_smalldata.data.sample import draw, split
from hf_smalldata.data.spec import DataSpec
from hf_smalldata.errors import UserError
from hf_smalldata.evaluation.comparison import holm
from hf_smalldata.recipe import Recipe

MANY = int(os.environ.get("HF_SMALLDATA_FUZZ", "0"))
many = settings(
    max_examples=MANY or 40, derandomize=not MANY, database=None, deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)  # fmt: skip

counts = st.lists(st.integers(1, 12), min_size=2, max_size=5)  # rows of each class
seeds = st.integers(0, 2**31 - 1)


def rows_of(sizes: list[int], groups: list[int] | None = None) -> Splits:
    """Rows of classes of these sizes; row i is of group `groups[i]`, over and over."""
    labels = [f"class {at}" for at, size in enumerate(sizes) for _ in range(size)]
    texts = [f"{'abcdefghijklmnop'[at % 16] * (at + 3)} {at * 7919}" for at in range(len(labels))]
    columns = {} if groups is None else {"group": [f"g{groups[at % len(groups)]}" for at in range(len(labels))]}
    asked = DataSpec(name="rows", keep_together="equal", group=None if groups is None else "group")
    return load(asked, "text", objects={"text": texts, "label": labels, **columns})


def ids(rows) -> list[str]:
    return [] if rows is None else rows["id"][:]


def spec(groups=None, **more) -> DataSpec:
    return DataSpec(name="rows", keep_together="equal", group=None if groups is None else "group", **more)


def shuffled(splits: Splits, seed: int) -> Splits:
    order = np.random.default_rng(seed).permutation(len(splits.train)).tolist()
    return replace(splits, train=splits.train.select(order))


@many
@given(
    counts,
    st.floats(0.05, 0.6),
    st.floats(0, 0.5),
    seeds,
    st.lists(st.integers(0, 5), min_size=3, max_size=9) | st.none(),
)
def test_each_row_is_in_one_split_and_groups_are_whole(sizes, test_share, validation_share, seed, groups):
    whole = rows_of(sizes, groups)
    asked = spec(groups, test_fraction=test_share, validation_fraction=validation_share, split_seed=seed)
    try:
        cut = split(whole, asked)
    except UserError:
        assume(False)
    parts = [ids(part) for part in (cut.train, cut.validation, cut.test)]
    assert sorted(chain(*parts)) == sorted(ids(whole.train))
    assert set(cut.train["label"]) == set(whole.train["label"])  # every class is learnt
    if groups is not None:
        inside = [set(part["group"]) if part is not None else set() for part in (cut.train, cut.validation, cut.test)]
        assert sum(map(len, inside)) == len(set.union(*inside))
    again = split(shuffled(whole, seed), asked)
    assert [set(ids(part)) for part in (again.train, again.validation, again.test)] == [set(part) for part in parts]


@many
@given(counts, st.integers(1, 12), st.integers(1, 12), seeds)
def test_draws_have_as_many_rows_of_each_class_as_asked_and_are_nested(sizes, one, other, seed):
    whole = rows_of(sizes)
    few, more = sorted((one, other))
    assume(more <= min(sizes))
    drawn = [draw(rows.train, spec(labels_per_class=budget), whole.labels, whole.problem_type, seed)
             for budget, rows in ((few, whole), (more, whole), (few, shuffled(whole, seed)))]  # fmt: skip
    assert set(Counter(drawn[0]["label"]).values()) == {few}
    assert set(ids(drawn[0])) <= set(ids(drawn[1])) <= set(ids(whole.train))
    assert set(ids(drawn[2])) == set(ids(drawn[0]))


@many
@given(counts, st.floats(0.01, 1), st.floats(0.01, 1), seeds)
def test_shares_are_nested_and_hold_every_class(sizes, one, other, seed):
    whole = rows_of(sizes)
    few, more = (draw(whole.train, spec(fraction=share), whole.labels, whole.problem_type, seed)
                 for share in sorted((one, other)))  # fmt: skip
    assert set(ids(few)) <= set(ids(more))
    assert set(few["label"]) == set(whole.train["label"])


@many
@given(st.lists(st.integers(2, 12), min_size=2, max_size=5), st.integers(2, 5), st.integers(0, 3), seeds)
def test_each_row_is_tested_once_by_a_fold_that_did_not_learn_it(sizes, count, repeat, seed):
    whole = rows_of(sizes)
    assume(count <= min(sizes))
    cut = folds(whole, count, repeat, seed, "equal")
    assert len(cut) == count
    assert sorted(chain(*(ids(each.test) for each in cut))) == sorted(ids(whole.train))
    assert all(sorted(ids(each.train) + ids(each.test)) == sorted(ids(whole.train)) for each in cut)
    assert max(len(each.test) for each in cut) - min(len(each.test) for each in cut) <= 1
    for label, size in enumerate(sizes):
        tested = [each.test["label"][:].count(label) for each in cut]
        assert min(tested) >= size // count
        assert max(tested) <= -(-size // count)


@many
@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_corrected_p_values_are_no_smaller_and_in_the_same_order(p_values):
    corrected = holm(p_values)
    assert all(0 <= p <= q <= 1 for p, q in zip(p_values, corrected, strict=True))
    order = np.argsort(p_values, kind="stable")
    assert np.all(np.diff(np.asarray(corrected)[order]) >= 0)


TECHNIQUES = [
    "freeze", "lora", {"lora": {"rank": 4}}, {"eda": {"n_aug": 2}}, "rdrop", {"label_smoothing": {"epsilon": 0.2}},
    "pooling", "contrastive", "logistic_head", {"ema": {"decay": 0.9}},
]  # fmt: skip


def name_of(technique) -> str:
    return technique if isinstance(technique, str) else next(iter(technique))


recipes = st.fixed_dictionaries(
    {
        "task": st.just("text-classification"),
        "data": st.fixed_dictionaries(
            {"name": st.just("rows.csv")},
            optional={
                "labels_per_class": st.integers(1, 100),
                "test_fraction": st.floats(0.05, 0.9),
                "class_weights": st.sampled_from(["none", "auto"]),
            },
        ),
        "model": st.fixed_dictionaries({"name": st.just("encoder")}, optional={"max_length": st.integers(8, 512)}),
    },
    optional={
        "techniques": st.lists(st.sampled_from(TECHNIQUES), max_size=4, unique_by=name_of),
        "train": st.fixed_dictionaries(
            {}, optional={"learning_rate": st.floats(1e-6, 1), "num_train_epochs": st.integers(0, 50)}
        ),
        "seeds": st.lists(seeds, min_size=1, max_size=5, unique=True),
    },
)


@many
@given(recipes)
def test_a_recipe_says_the_same_when_it_is_written_and_read_again(content):
    recipe = Recipe.parse(content)
    assert Recipe.parse(recipe.as_dict()) == recipe
    assert [each.name for each in recipe.techniques] == [name_of(each) for each in content.get("techniques", ())]
