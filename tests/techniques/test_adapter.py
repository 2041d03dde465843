"""Adapters of every kind: merged into a stock model at the top, and alone where they stand on their checkpoint."""

from __future__ import annotations

import pytest
import torch
from transformers import RobertaConfig, RobertaForSequenceClassification

from hf_smalldata.bundle import prove, save
from hf_smalldata.techniques.peft.bitfit import BitFit
from hf_smalldata.techniques.peft.ia3 import Ia3
from hf_smalldata.techniques.peft.lora import Lora
from hf_smalldata.techniques.peft.vera import Vera
from hf_smalldata.techniques.transfer.freeze import Freeze
from hf_smalldata.techniques.transfer.reinit import Reinit
from hf_smalldata.training.batching import EncodedRows, collator
from hf_smalldata.training.prefix_cache import prefix_cache


def trained(kit, network, trainer):
    """The network after three steps, and its probabilities of the kit's rows."""
    trainer(kit, network, []).train()
    network.eval()
    with torch.no_grad():
        return network, network(**kit.batch(12)).logits.softmax(-1).numpy()


@pytest.mark.parametrize("technique", [
    Lora(dropout=0.0, init="pissa", rank=4), Lora(dropout=0.0, init="olora", rank=4, use_rslora=True), Ia3(),
    Vera(rank=16),
], ids=["pissa", "olora", "ia3", "vera"])  # fmt: skip
def test_every_kind_of_adapter_is_merged_exactly_and_stands_alone_on_its_checkpoint(technique, text, trainer, tmp_path):
    network, expected = trained(text, technique.model(text.network(), text.context()), trainer)
    made = save(network, text.processor, tmp_path)
    assert made == [tmp_path, tmp_path / "adapter"]
    for folder in made:
        assert prove(folder, text.task, text.processor, text.rows, expected, text.labels) < 1e-5


def test_adapters_beside_a_head_of_several_layers_are_merged(text, classifier, tmp_path):
    config = RobertaConfig(vocab_size=60, hidden_size=32, num_hidden_layers=2, num_attention_heads=2,
                           intermediate_size=64, pad_token_id=0, num_labels=3)  # fmt: skip
    for technique in (Ia3(), Vera(rank=4)):
        network = technique.model(classifier(config), text.context()).eval()
        batch = {name: value for name, value in text.batch().items() if name != "token_type_ids"}
        expected = network(**batch).logits
        assert save(network, text.processor, tmp_path / technique.name) == [tmp_path / technique.name]
        again = RobertaForSequenceClassification.from_pretrained(tmp_path / technique.name).eval()
        torch.testing.assert_close(again(**batch).logits, expected)


def test_an_adapter_alone_is_not_saved_where_the_network_below_it_was_changed_before(text, trainer, tmp_path):
    network = Lora(dropout=0.0).model(Reinit().model(text.network(), text.context()), text.context())
    network, expected = trained(text, network, trainer)
    assert save(network, text.processor, tmp_path) == [tmp_path]
    assert not (tmp_path / "adapter").exists()
    assert prove(tmp_path, text.task, text.processor, text.rows, expected, text.labels) < 1e-5


@pytest.mark.parametrize("technique", [Lora(rank=2), Ia3(), Vera(rank=4), BitFit()], ids=lambda each: each.name)
@pytest.mark.parametrize("modality", ["text-classification", "image-classification"])
def test_above_frozen_blocks_the_cache_of_their_output_stays_on(technique, modality, kits, tmp_path):
    kit = kits[modality]
    model = technique.model(Freeze(blocks=1).model(kit.network(), kit.context()), kit.context())
    rows = EncodedRows(kit.rows, kit.task, kit.processor)
    collate = collator(kit.task, kit.processor, len(kit.labels), kit.problem_type)
    with prefix_cache(model, [rows], collate, tmp_path) as fed:
        assert str(fed) == "on: cut above 1 block"
