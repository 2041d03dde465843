"""Texts are written for points between rows: each asked for in its place, of which the one nearest to it is taken."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch
from datasets import Dataset

from hf_smalldata.data.made import rng_of
from hf_smalldata.errors import UserError
from hf_smalldata.techniques.fewshot.rows import pretrained_features
from hf_smalldata.techniques.synthesis import feature_vae, text_vae
from hf_smalldata.techniques.synthesis.feature_vae import CODE, Space
from hf_smalldata.techniques.synthesis.keep import Keep, directions
from hf_smalldata.techniques.synthesis.text_vae import TextVae, nearest
from hf_smalldata.testing import TOPICS, text_rows

ANY = Keep(agreement=0, max_similarity=1)


class Echo:
    """In place of a language model: of a prompt's candidates the first is its last line, the others are other rows."""

    asked = list[str]()
    rows = [row["text"] for row in text_rows(40, seed=9)]

    def __init__(self, spec):
        pass

    def write(self, prompts, names, top_p, temperature, longest):
        Echo.asked += prompts
        for prompt, name in zip(prompts, names, strict=True):
            last, number = prompt.splitlines()[-2].partition(": ")[2], int(name.rsplit("\n", 1)[1])
            yield [last if number == 0 else Echo.rows[rng_of(0, name).integers(len(Echo.rows))]]


@pytest.fixture(autouse=True)
def assets(tmp_path, monkeypatch, causal):
    """A cache of this test's own, and no model to load."""
    monkeypatch.setattr(text_vae, "cached_assets_path", lambda *_: tmp_path)
    monkeypatch.setattr(text_vae, "MODEL", causal)
    monkeypatch.setattr(text_vae, "Writer", Echo)
    monkeypatch.setattr(Echo, "asked", [])
    monkeypatch.setattr(feature_vae, "STEPS", 80)


@pytest.fixture
def context(text, tmp_path):
    return replace(text.context(), work_dir=tmp_path)


def test_of_the_texts_of_a_point_the_nearest_that_is_no_copy_is_taken():
    cosines = np.array([0.9, 0.2, 0.5, 0.7, 0.1, 0.8])
    copies = np.array([True, False, False, True, False, True])
    assert nearest([0, 0, 0, 1, 2, 1], cosines, copies) == [2, 5, 4]  # of point 1 all are copies


def test_the_space_of_features_has_no_noise_unless_it_is_given(text, context):
    x, labels = pretrained_features(context, text.rows), np.array(text.rows["label"][:])
    space = Space.of(x, labels, seed=0)
    codes = torch.randn(3, CODE, generator=torch.Generator().manual_seed(0))
    points = space.features(codes, np.array([2, 0, 2]))
    np.testing.assert_array_equal(points, space.features(codes, np.array([2, 0, 2])))
    moved = space.features(codes, np.array([2, 0, 2]), noise=torch.ones(3, x.shape[1]))
    np.testing.assert_allclose(moved - points, space.deviation * space.scale, rtol=1e-4)


def test_each_point_is_shown_the_rows_of_its_class_that_lie_nearest(text, context):
    technique = TextVae(shots=2, tries=3, keep=ANY)
    after = technique.rows(text.rows, context)
    rows = {row["id"]: row for row in text.rows}
    made = [row for row in after if row["source"] == "text_vae"]
    assert Counter(row["label"] for row in made) == {0: 4, 1: 4, 2: 4}
    assert len(Echo.asked) == 3 * 12 * technique.candidates
    own = {topic: [row["text"] for row in text.rows if row["label"] == at] for at, topic in enumerate(TOPICS)}
    for prompt in Echo.asked:
        *lines, last = prompt.split("\n")
        topic = last.removesuffix(":")
        assert len(lines) == 2
        assert all(line.removeprefix(f"{topic}: ") in own[topic] for line in lines)
    assert all(rows[row["parent"]]["label"] == row["label"] for row in made)
    assert len(set(Echo.asked)) > 6  # points lie in different places


def test_a_text_is_the_one_of_its_candidates_that_lies_nearest_to_the_point(text, context):
    technique = TextVae(shots=2, tries=1, candidates=6, keep=ANY)
    found = technique._made(text.rows, text_vae.Forms.of(text.rows, context, {}, "text_vae"), context)
    features, labels = pretrained_features(context, text.rows), np.array(text.rows["label"][:])
    points = technique._points(features, labels, np.ones(len(labels), bool), text.rows, context)
    assert len(found["rows"]) == len(points) == len(labels)
    bank = pretrained_features(context, Dataset.from_dict({"text": Echo.rows}))
    _, towards = directions(features, np.stack([point.at for point in points]))
    _, x = directions(features, bank)
    real = set(text.rows["text"])
    for row, place in zip(found["rows"], towards, strict=True):
        assert row["text"] not in real  # the copy, which every point was offered
        assert row["cosine_to_point"] == pytest.approx(float(x[Echo.rows.index(row["text"])] @ place), abs=2e-4)
    assert found["facts"]["cosine_to_point"] > found["facts"]["cosine_of_candidates"] + 0.05
    assert found["facts"]["written"] == 6 * len(points)


def test_another_ratio_asks_only_for_what_is_missing(text, context):
    def texts(ratio: float, seed: int = 0) -> list[str]:
        keep = Keep(agreement=0, max_similarity=1, ratio=ratio, diverse=False)
        return TextVae(candidates=2, tries=1, keep=keep).rows(text.rows, replace(context, seed=seed))["text"][12:]

    first = texts(0.5)
    assert len(Echo.asked) == 2 * 6
    more = texts(1.0)
    assert len(Echo.asked) == 2 * 12
    assert set(first) <= set(more)
    assert texts(1.0) == more
    texts(0.5, seed=1)
    assert len(Echo.asked) == 2 * 18


def test_what_it_cannot_do_is_refused(text, context, monkeypatch):
    pairs = text.rows.add_column("text_pair", text.rows["text"][:])
    with pytest.raises(UserError, match=r"^text_vae: for single texts, and these rows are pairs"):
        TextVae().rows(pairs, context)
    several = replace(context, problem_type="multi_label_classification")
    with pytest.raises(UserError, match="multi_label_classification; use language_model"):
        TextVae().rows(text.rows, several)
    with pytest.raises(UserError, match="at least 4 rows of each class"):
        TextVae().rows(text.rows.select(range(9)), context)
    with pytest.raises(UserError, match=r"text_vae\.names: no class 'foot'; did you mean 'food'"):
        TextVae(names={"foot": "x"}).rows(text.rows, context)
    monkeypatch.setattr(Echo, "write", lambda self, prompts, *_: iter([[""] * len(prompts)]))
    with pytest.raises(UserError, match="none of the 96 texts that were written ends within 64 tokens; raise max_tok"):
        TextVae().rows(text.rows, context)


def test_a_model_that_is_not_there_is_told_of_the_techniques_own_setting(text, context, monkeypatch):
    monkeypatch.undo()
    with pytest.raises(UserError, match=r"techniques\.text_vae\.checkpoint"):
        TextVae(checkpoint="/no/such/folder").rows(text.rows, context)
