"""Operations are those of the formula, and a training that lasts says what it used of the machine."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from hf_smalldata.techniques.transfer.freeze import Freeze
from hf_smalldata.training import trainer as of_trainer
from hf_smalldata.training.arguments import training_arguments
from hf_smalldata.training.batching import EncodedRows, collator
from hf_smalldata.training.flops import count, matmul_peak, size
from hf_smalldata.training.trainer import SmallDataTrainer

ROWS, TOKENS, WIDTH, LAYERS = 4, 40, 32, 2
LAYER = 4 * WIDTH * WIDTH + 2 * WIDTH * 64  # weights of a block's matrices


def counted(network: nn.Module) -> int:
    batch = {"input_ids": torch.randint(5, 20, (ROWS, TOKENS))}
    return count(lambda: network(**batch).logits.sum())  # noqa: PLW0108 - the pass is what is counted


def head(network: nn.Module) -> int:
    """Of the pooler and the classifier, which see one token."""
    return 6 * ROWS * (network.bert.pooler.dense.weight.numel() + network.classifier.weight.numel())


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_a_training_step_takes_six_operations_a_weight_and_token_and_those_of_attention(attention, text):
    network = text.network().eval()
    network.set_attn_implementation(attention)
    weights = 6 * LAYERS * LAYER * ROWS * TOKENS
    scores = LAYERS * 2 * 2 * WIDTH * TOKENS * TOKENS * ROWS  # q k and p v, a multiplication and an addition each
    again = scores // 2 if attention == "sdpa" else 0  # which computes its scores anew on the way back
    assert counted(network) == weights + 3 * scores + again + head(network)


def test_frozen_blocks_take_two_operations_a_weight_and_token(text):
    whole, frozen = text.network().eval(), Freeze(blocks=1).model(text.network(), text.context()).eval()
    scores = 2 * 2 * WIDTH * TOKENS * TOKENS * ROWS
    saved = 4 * LAYER * ROWS * TOKENS + 2 * scores + scores // 2
    # The first block above passes no gradient on to its input, but for that of the weights it is as before.
    inputs = 2 * (3 * WIDTH * WIDTH) * ROWS * TOKENS
    assert counted(whole) - counted(frozen) == saved + inputs


def test_the_size_of_a_batch_is_its_rows_times_its_tokens(text, image):
    assert size({**text.batch(3), "labels": torch.zeros(3, 3)}) == text.batch(3)["input_ids"].numel()
    assert size(image.batch(4)) == 2 * size(image.batch(2))


def test_the_peak_of_a_matrix_product_is_measured_once():
    cpu = torch.device("cpu")
    assert matmul_peak(cpu, torch.float32) == matmul_peak(cpu, torch.float32) > 1e8


def trained(text, tmp_path) -> SmallDataTrainer:
    made = SmallDataTrainer(
        model=text.network(),
        args=training_arguments({"num_train_epochs": 2, "per_device_train_batch_size": 4, "disable_tqdm": True},
                                tmp_path, 0),
        techniques=[],
        problem_type="single_label_classification",
        data_collator=collator(text.task, text.processor, 3, "single_label_classification"),
        train_dataset=EncodedRows(text.rows, text.task, text.processor),
    )  # fmt: skip
    made.train()
    return made


def test_a_training_says_what_it_used_and_stays_as_it_was(text, tmp_path, monkeypatch):
    monkeypatch.setattr(of_trainer, "matmul_peak", lambda *_: 1e9)
    made = trained(text, tmp_path)
    before = [parameter.clone() for parameter in made.model.parameters()]
    used = made.utilisation(seconds=20.0)
    lengths = made.train_dataset.lengths
    least = 6 * LAYERS * LAYER * sum(lengths) * 2
    assert least < used["model_flops"] < 2 * least  # padding and attention on top
    assert used["matmul_peak_flops_per_second"] == 1e9
    assert used["model_flops_utilisation"] == pytest.approx(used["model_flops"] / 20 / 1e9, abs=1e-4)
    assert all(torch.equal(*both) for both in zip(before, made.model.parameters(), strict=True))
    assert all(parameter.grad is None for parameter in made.model.parameters())


def test_what_learnt_before_the_training_counts_too(text, tmp_path, monkeypatch):
    monkeypatch.setattr(of_trainer, "matmul_peak", lambda *_: 1e9)
    made = trained(text, tmp_path)
    alone, more = made.utilisation(20.0)["model_flops"], made.utilisation(20.0, before=5e9)["model_flops"]
    assert more == pytest.approx(alone + 5e9)
    made.size_seen = 0
    assert made.utilisation(20.0, before=5e9)["model_flops_utilisation"] == pytest.approx(5e9 / 20 / 1e9)
    assert set(made.utilisation(20.0).values()) == {None}


def test_a_short_training_is_not_slowed_by_measuring(text, tmp_path):
    assert set(trained(text, tmp_path).utilisation(seconds=1.0).values()) == {None}
