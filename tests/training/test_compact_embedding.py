"""Only the vectors of tokens in use are trained, to the same values as in the whole table."""

from __future__ import annotations

import torch
from torch import nn

from hf_smalldata.techniques.peft.lora import Lora
from hf_smalldata.training.arguments import training_arguments
from hf_smalldata.training.batching import EncodedRows, collator
from hf_smalldata.training.compact_embedding import compact_embedding
from hf_smalldata.training.trainer import SmallDataTrainer

PROBLEM = "single_label_classification"


def enlarged(text) -> nn.Module:
    """A text network with a table of 400 vectors, most of which no row uses."""
    network = text.network()
    network.resize_token_embeddings(400)
    return network


def trained(text, folder, compact: bool) -> tuple[nn.Module, list[bool]]:
    network, rows = enlarged(text), EncodedRows(text.rows, text.task, text.processor)
    with compact_embedding(network, [rows] if compact else []) as cut:
        trainer = SmallDataTrainer(
            model=network,
            args=training_arguments({"num_train_epochs": 2, "learning_rate": 1e-2, "weight_decay": 0.0}, folder, 0),
            techniques=(),
            problem_type=PROBLEM,
            data_collator=collator(text.task, text.processor, 3, PROBLEM),
            train_dataset=rows,
        )
        trainer.train()
    return network, [cut]


def test_training_with_a_compact_table_gives_the_weights_of_the_whole_one(text, tmp_path):
    whole, cut_whole = trained(text, tmp_path, compact=False)
    compact, cut = trained(text, tmp_path, compact=True)
    assert (cut_whole, cut) == ([False], [True])
    for (name, expected), found in zip(whole.named_parameters(), compact.parameters(), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5, msg=name)


def test_the_table_within_holds_only_tokens_in_use_and_is_whole_afterwards(text):
    network, rows = enlarged(text), EncodedRows(text.rows, text.task, text.processor)
    table = network.get_input_embeddings()
    before, batch = table.weight.detach().clone(), text.batch()
    expected = network.eval()(**batch).logits
    with compact_embedding(network, [rows]) as cut:
        assert cut
        assert len(table.weight) < 100
        torch.testing.assert_close(network(**batch).logits, expected)
        used = table.weight.detach().clone()
        with torch.no_grad():
            table.weight.add_(1.0)
    moved = (table.weight - before).abs().sum(-1) > 0
    assert moved.sum() == len(used)
    assert table.weight.shape == before.shape
    torch.testing.assert_close(table.weight[moved], before[moved] + 1.0)


def test_a_frozen_table_stays_whole(text):
    network, rows = Lora().model(enlarged(text), text.context()), EncodedRows(text.rows, text.task, text.processor)
    with compact_embedding(network, [rows]) as cut:
        assert not cut


def test_images_have_no_table(image):
    with compact_embedding(image.network(), [EncodedRows(image.rows, image.task, image.processor)]) as cut:
        assert not cut
