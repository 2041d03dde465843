"""Contrastive: batches are balanced, classes move apart, what is frozen stays, and bad rows are refused."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn.functional import normalize

from hf_smalldata.errors import UserError
from hf_smalldata.nn.contrast import cosine_similarity
from hf_smalldata.techniques.fewshot import contrastive
from hf_smalldata.techniques.fewshot.contrastive import Contrastive, balanced_batches, epochs_for, padded_size, pieces
from hf_smalldata.techniques.fewshot.rows import features_of
from hf_smalldata.techniques.regularise.dropout import Dropout
from hf_smalldata.techniques.transfer.freeze import Freeze


def epoch(labels: list[int], size: int) -> list[list[int]]:
    return next(balanced_batches(np.asarray(labels), size, np.random.default_rng(0)))


def test_each_row_comes_once_an_epoch_and_batches_hold_every_class():
    labels = [at % 4 for at in range(64)]
    batches = epoch(labels, 16)
    assert sorted(at for batch in batches for at in batch) == list(range(64))
    assert [np.bincount([labels[at] for at in batch]).tolist() for batch in batches] == [[4, 4, 4, 4]] * 4


def test_more_classes_than_a_batch_holds_come_in_pairs():
    labels = [at % 20 for at in range(100)]
    for batch in epoch(labels, 16):
        counts = np.bincount([labels[at] for at in batch])
        assert counts[counts > 0].min() >= 2
        assert len(batch) <= 24


@pytest.mark.parametrize(("classes", "each", "epochs"), [(6, 8, 7), (2, 64, 4), (6, 64, 12), (77, 64, 16)])
def test_epochs_follow_rows_a_class_and_classes(classes, each, epochs):
    assert epochs_for(np.arange(classes).repeat(each)) == epochs


def test_one_large_class_makes_no_more_epochs():
    labels = np.arange(3).repeat(8)
    assert epochs_for(np.append(labels, [0] * 500)) == epochs_for(labels)


def test_a_class_of_one_row_comes_as_two_views():
    batches = epoch([0, 0, 0, 0, 1, 2, 2], 8)
    assert sorted(at for batch in batches for at in batch) == [0, 1, 2, 3, 4, 4, 5, 6]


def test_parts_of_a_batch_hold_rows_of_like_length():
    lengths = [10, 64, 60, 9, 7, 30, 47]
    assert pieces([0, 1, 2, 3, 4, 5, 6], lengths) == [[1, 2, 6], [5], [0, 3, 4]]


def test_parts_hold_no_more_than_a_budget_of_tokens():
    parts = pieces(list(range(40)), [100.0] * 40)
    assert [len(part) for part in parts] == [10, 10, 10, 10]
    assert padded_size(parts, [100.0] * 40) == 4000


def test_a_batch_that_is_computed_in_parts_and_again_teaches_the_same(text, monkeypatch):
    def learnt() -> torch.Tensor:
        model = Dropout(hidden=0.0, attention=0.0).model(text.network(), text.context())
        Contrastive(epochs=3, learning_rate=1e-3, stop_below=0.0).model(model, text.context())
        return features_of(model, text.context())[0]

    monkeypatch.setattr("hf_smalldata.techniques.fewshot.contrastive.bfloat16_pays", lambda _: False)
    whole = learnt()
    monkeypatch.setattr("hf_smalldata.techniques.fewshot.contrastive.MOST_TOKENS", 40)
    torch.testing.assert_close(learnt(), whole, rtol=1e-3, atol=1e-3)


def gap(model, kit) -> float:
    """How much more alike rows of one class are than rows of two: difference of mean cosines."""
    z, _ = features_of(model, kit.context())
    cosine, labels = normalize(z, dim=1) @ normalize(z, dim=1).T, torch.tensor(kit.rows["label"][:])
    same, other = labels[:, None] == labels[None, :], ~torch.eye(len(z), dtype=torch.bool)
    return float(cosine[same & other].mean() - cosine[~same].mean())


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"loss": "supcon"},
        *(
            pytest.param(each, marks=pytest.mark.slow)
            for each in ({"loss": "cosine"}, {"hardness": 1.0}, {"batch_size": 6})
        ),
    ],
    ids=str,
)
def test_classes_come_apart(options, text):
    model = text.network()
    before = gap(model, text)
    learnt = Contrastive(epochs=60, learning_rate=3e-3, **options).model(model, text.context())
    assert gap(learnt, text) > before + 0.2


@pytest.mark.parametrize("name", ["image", "audio", "sequence"])
def test_every_modality_learns(name, request):
    def loss(model) -> float:
        z, _ = features_of(model, kit.context())
        return float(cosine_similarity(z, torch.tensor(kit.rows["label"][:])))

    kit = request.getfixturevalue(name)
    model = kit.network()
    before = loss(model)
    assert loss(Contrastive(epochs=60, learning_rate=1e-3).model(model, kit.context())) < 0.9 * before


def test_token_vectors_head_and_frozen_blocks_stay(text):
    model = Freeze(blocks=1).model(text.network(), text.context())
    model.get_input_embeddings().weight.requires_grad_(True)
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    model = Contrastive(epochs=2).model(model, text.context())
    moved = {name for name, parameter in model.named_parameters() if not torch.equal(parameter, before[name])}
    assert any(name.startswith("bert.encoder.layer.1.") for name in moved)
    assert not any(name.startswith(("bert.embeddings", "bert.encoder.layer.0.", "classifier")) for name in moved)
    assert model.get_input_embeddings().weight.requires_grad


def test_frozen_blocks_are_run_once_a_row_and_the_result_is_the_same(text, monkeypatch):
    def learnt(epochs: int) -> torch.Tensor:
        model = Freeze(blocks=1).model(text.network(), text.context())
        calls = []
        model.bert.encoder.layer[0].attention.register_forward_hook(lambda *_: calls.append(1))
        torch.manual_seed(3)
        Contrastive(epochs=epochs, stop_below=0.0).model(model, text.context())
        counts.append(len(calls))
        return features_of(model, text.context())[0]

    monkeypatch.setattr("hf_smalldata.techniques.fewshot.contrastive.bfloat16_pays", lambda _: False)
    counts: list[int] = []
    learnt(2)
    cached = learnt(8)
    monkeypatch.setattr("hf_smalldata.training.prefix_cache.find_cut", lambda *_: None)
    torch.testing.assert_close(cached, learnt(8), rtol=1e-3, atol=1e-3)
    assert counts[0] == counts[1]


def test_it_stops_when_all_classes_are_told_apart(text, caplog):
    with caplog.at_level("INFO"):
        Contrastive(epochs=500, learning_rate=2e-3, stop_below=0.1).model(text.network(), text.context())
    assert "stopped early" in caplog.text


def test_a_template_adds_a_row_for_each_class_name(text):
    rows = Contrastive(template="This text is about {}")._rows(text.context())
    assert rows["text"][len(text.rows) :] == [f"This text is about {name}" for name in text.labels]
    assert rows["label"][len(text.rows) :] == [0, 1, 2]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"problem_type": "multi_label_classification"}, "rows need one class each"),
        ({"train": "one class"}, "at least two classes"),
    ],
)
def test_rows_that_give_no_pairs_are_refused(change, message, text):
    if "train" in change:
        change = {"train": text.rows.filter(lambda row: row["label"] == 0)}
    with pytest.raises(UserError, match=message):
        Contrastive().model(text.network(), replace(text.context(), **change))


def test_a_body_that_is_all_frozen_is_refused(text):
    model = Freeze().model(text.network(), text.context())
    with pytest.raises(UserError, match="nothing in the body may learn"):
        Contrastive().model(model, text.context())


def test_a_template_for_images_is_refused(image):
    with pytest.raises(UserError, match="only stand among texts"):
        Contrastive(template="a {}").model(image.network(), image.context())


def test_operations_are_told_of_all_epochs(text, monkeypatch):
    monkeypatch.setattr(contrastive, "SHORT_S", 0.0)
    found = []
    for epochs in (2, 4):
        context = text.context()
        Contrastive(epochs=epochs, stop_below=0).model(text.network(), context)
        found.append(context.facts["contrastive"]["model_flops"])
    assert found[0] > 1e6
    assert found[1] == pytest.approx(2 * found[0], rel=0.1)


def test_operations_are_counted_on_one_part_of_a_batch(text, monkeypatch):
    """States of a whole batch together took three times the memory of all else."""
    monkeypatch.setattr(contrastive, "SHORT_S", 0.0)
    found = []
    for most in (1024, 24):
        monkeypatch.setattr(contrastive, "MOST_TOKENS", most)
        context = text.context()
        model = text.network()
        sizes = []
        model.register_forward_pre_hook(
            lambda _, args, given, sizes=sizes: sizes.append(len(given["input_ids"])), with_kwargs=True
        )
        Contrastive(epochs=2, stop_below=0).model(model, context)
        found.append((context.facts["contrastive"]["model_flops"], sizes[-1]))  # counted in the last pass
    (more, some_rows), (less, few_rows) = found
    assert few_rows < some_rows < len(text.context().train)
    assert less == pytest.approx(more, rel=0.25)  # both tell of the whole


def test_a_short_learning_is_not_slowed_by_counting(text):
    context = text.context()
    Contrastive(epochs=1).model(text.network(), context)
    assert "contrastive" not in context.facts
