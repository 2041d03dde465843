"""Embedding mixup: token vectors and targets are blended in the same share, above any padding."""

from __future__ import annotations

import pytest
import torch
from torch.nn.functional import one_hot

from hf_smalldata.errors import UserError
from hf_smalldata.fitting import Fitting
from hf_smalldata.nn.losses import soft_cross_entropy
from hf_smalldata.pipeline import read_rows
from hf_smalldata.recipe import Recipe
from hf_smalldata.techniques.augment.embedding_mixup import EmbeddingMixup, embedding_mixup
from hf_smalldata.training.batching import EncodedRows
from hf_smalldata.training.compact_embedding import compact_embedding

PARTNERS = torch.tensor([1, 0])


def rows_of(kit, count: int = 6) -> dict[str, torch.Tensor]:
    labels = torch.tensor(kit.rows["label"][:count])
    return {**kit.batch(count), "labels": one_hot(labels, 3).float()}


def test_vectors_and_targets_are_blended_in_the_same_share_and_the_longer_text_goes_on_beside_zeros():
    vectors = torch.tensor([[[1.0, 2.0], [3.0, 4.0]], [[5.0, 6.0], [99.0, 99.0]]])  # the last is padding
    given = {"input_ids": torch.tensor([[1, 2], [3, 0]]), "attention_mask": torch.tensor([[1, 1], [1, 0]]),
             "token_type_ids": torch.zeros(2, 2), "labels": torch.eye(2)}  # fmt: skip
    made = embedding_mixup(given, vectors, PARTNERS, torch.tensor([0.75, 0.75]))
    expected = torch.tensor([[[2.0, 3.0], [2.25, 3.0]], [[4.0, 5.0], [0.75, 1.0]]])
    torch.testing.assert_close(made["inputs_embeds"], expected)
    torch.testing.assert_close(made["labels"], torch.tensor([[0.75, 0.25], [0.25, 0.75]]))
    assert made["attention_mask"].tolist() == [[1, 1], [1, 1]]
    assert made["token_type_ids"] is given["token_type_ids"]
    assert "input_ids" not in made
    assert "input_ids" in given


def test_a_row_keeps_the_larger_share_and_target_mass_one(text):
    torch.manual_seed(0)
    made = EmbeddingMixup(alpha=1.0).batch(rows_of(text, 12), text.network())
    own = made["labels"].gather(1, torch.tensor(text.rows["label"][:])[:, None])
    torch.testing.assert_close(made["labels"].sum(-1), torch.ones(12))
    assert own.min() >= 0.5
    assert own.min() < 0.9


def test_a_share_of_one_leaves_the_logits_as_they_are(text):
    model, given = text.network().eval(), rows_of(text, 2)
    vectors = model.get_input_embeddings()(given["input_ids"])
    made = embedding_mixup(given, vectors, PARTNERS, torch.ones(2))
    expected = model(**{name: value for name, value in given.items() if name != "labels"}).logits
    made.pop("labels")
    made["attention_mask"] = given["attention_mask"]
    torch.testing.assert_close(model(**made).logits, expected)


def test_a_network_trained_on_blends_is_less_sure_between_two_texts(text):
    """The paper's claim for mixup as a regulariser: between classes the output changes gradually."""

    def sure(technique: EmbeddingMixup | None) -> float:
        model, given = text.network().eval(), rows_of(text)
        optimizer = torch.optim.Adam(model.parameters(), 2e-3)
        for _ in range(40):
            step = given if technique is None else technique.batch(given, model)
            labels = step["labels"]
            logits = model(**{name: value for name, value in step.items() if name != "labels"}).logits
            loss = soft_cross_entropy(logits, labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        vectors = model.get_input_embeddings()(given["input_ids"])
        halves = embedding_mixup(given, vectors, torch.arange(5, -1, -1), torch.full((6,), 0.5))
        halves.pop("labels")
        return float(model(**halves).logits.softmax(-1).amax(-1).mean().detach())

    assert sure(EmbeddingMixup(alpha=1.0)) < sure(None) - 0.1


def test_cached_states_are_off_and_the_reason_is_said(text, sources, tmp_path):
    recipe = Recipe.parse({
        "task": "text-classification", "data": sources["text-classification"], "model": text.spec.model_dump(),
        "techniques": [{"freeze": {"blocks": 1}}, "embedding_mixup"],
        "train": {"num_train_epochs": 2, "disable_tqdm": True},
    })  # fmt: skip
    data = read_rows(recipe, text.task)
    learnt = Fitting.of(recipe, data, tmp_path).learn(data.train, 0)
    assert learnt.facts["steps"] > 0
    assert learnt.facts["prefix_cache"] == "off: embedding_mixup changes inputs in the batch"


def test_blends_are_the_same_where_the_table_of_token_vectors_is_compact(text, monkeypatch):
    def blend() -> torch.Tensor:
        torch.manual_seed(1)
        return EmbeddingMixup().batch(given, model)["inputs_embeds"]

    model, given = text.network(), rows_of(text)
    expected = blend()
    monkeypatch.setattr("hf_smalldata.training.compact_embedding.WORTH", 1.0)
    with compact_embedding(model, [EncodedRows(text.rows.select(range(6)), text.task, text.processor)]) as compact:
        assert compact
        torch.testing.assert_close(blend(), expected)


def test_a_network_that_takes_no_vectors_is_refused(text):
    class NoVectors(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = text.network()

        def get_input_embeddings(self):
            return self.inner.get_input_embeddings()

        def forward(self, input_ids, attention_mask, token_type_ids=None):
            return self.inner(input_ids=input_ids, attention_mask=attention_mask)

    with pytest.raises(UserError, match="NoVectors does not read vectors"):
        EmbeddingMixup().model(NoVectors(), text.context())


@pytest.mark.parametrize("alpha", [0, -1])
def test_alpha_is_above_zero(alpha):
    with pytest.raises(ValueError, match="alpha"):
        EmbeddingMixup(alpha=alpha)
