"""Made rows stand behind real ones and say who made them."""

from __future__ import annotations

import numpy as np

from hf_smalldata.data.made import Kin, real, rng_of, with_made


def test_made_rows_say_who_made_them_and_of_which_row(text):
    rows = text.rows
    made = [{"text": f"variant {at}", "label": rows[0]["label"], "parent": rows[0]["id"]} for at in range(2)]
    after = with_made(rows, made, "eda")
    assert after["id"][:] == [*rows["id"], *(f"eda:{at}:{rows[0]['id']}" for at in range(2))]
    assert after["source"][:] == [None] * len(rows) + ["eda"] * 2
    assert after["parent"][:] == [None] * len(rows) + [rows[0]["id"]] * 2
    assert after["text"][-2:] == ["variant 0", "variant 1"]
    assert after.features["label"] == rows.features["label"]


def test_rows_of_a_second_technique_join_and_real_rows_stay_apart(text):
    variant = {"text": "a variant", "label": 0, "parent": text.rows[0]["id"]}
    after = with_made(with_made(text.rows, [variant], "eda"), [variant], "char_noise")
    assert after["source"][-2:] == ["eda", "char_noise"]
    assert real(after)["id"][:] == text.rows["id"][:]
    assert real(text.rows) is text.rows


def test_images_are_made_rows_too(image):
    picture = image.rows[0]["image"].rotate(90)
    after = with_made(image.rows, [{"image": picture, "label": 1, "parent": image.rows[0]["id"]}], "turned")
    np.testing.assert_array_equal(np.asarray(after[-1]["image"]), np.asarray(picture))


def test_random_numbers_of_a_row_depend_on_seed_row_and_epoch_alone():
    first = rng_of(0, "a", 1).random()
    assert rng_of(0, "a", 1).random() == first
    assert len({first, rng_of(1, "a", 1).random(), rng_of(0, "b", 1).random(), rng_of(0, "a", 2).random()}) == 4


def test_variants_follow_their_real_row_and_what_has_none_stands_alone(text):
    rows = text.rows
    made = [{"text": "a", "label": 0, "parent": rows[2]["id"]}, {"text": "b", "label": 0}]
    kin = Kin.of(with_made(rows, made, "eda"))
    count = len(rows)
    assert kin.leader.tolist() == [*range(count), 2, count + 1]
    assert kin.real.tolist() == [True] * count + [False] * 2
    assert Kin.of(rows).leader.tolist() == list(range(count))
    assert Kin.of(rows).real.all()
