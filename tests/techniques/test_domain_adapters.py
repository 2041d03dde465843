"""Domain adapters: each domain's update is of low rank, and the network gets their mean."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from datasets import concatenate_datasets

from hf_smalldata.errors import UserError
from hf_smalldata.techniques.domain.domain_adapters import DomainAdapters
from hf_smalldata.techniques.peft.adapter import target_names
from hf_smalldata.techniques.peft.lora import Lora
from hf_smalldata.testing import text_rows

FAST = DomainAdapters(rank=2, epochs=2, learning_rate=1e-2)


def of(domain, seed, per_class=8):
    rows = text_rows(per_class, seed=seed)
    return rows.add_column("domain", [domain] * len(rows))


@pytest.fixture
def context(text, tmp_path):
    source = concatenate_datasets([of("shop", 3), of("films", 4)])
    return replace(text.context(), source=source, facts={}, work_dir=tmp_path)


def updates(model, plain):
    """What training added to each weight."""
    before = plain.state_dict()
    return {name: tensor - before[name] for name, tensor in model.state_dict().items()}


def test_the_network_gets_the_mean_of_what_each_domain_alone_would_teach(text, context):
    plain, both = text.network(), updates(FAST.model(text.network(), context), text.network())
    one, two = (
        updates(FAST.model(text.network(), replace(context, source=source, facts={})), plain)
        for source in (context.source.select(range(24)), context.source.select(range(24, 48)))
    )
    assert both.keys() == plain.state_dict().keys()  # a plain network again
    for name, update in both.items():
        torch.testing.assert_close(update, (one[name] + two[name]) / 2, atol=1e-5, rtol=1e-4)
    for name in target_names(plain, "all"):
        assert torch.linalg.matrix_rank(one[f"{name}.weight"], atol=1e-5) <= 2
        assert one[f"{name}.weight"].abs().max() > 1e-4
    changed = {name for name, update in one.items() if update.abs().max() > 1e-6}
    adapters = {f"{name}.weight" for name in target_names(plain, "all")}
    assert {name for name in changed - adapters if not name.startswith(("classifier.", "bert.pooler."))} == set()
    assert "classifier.weight" in changed
    assert context.facts["domain_adapters"] == {"rows": {"shop": 24, "films": 24}}


def test_all_of_the_network_learns_on(text, context):
    model = FAST.model(text.network(), context)
    assert all(parameter.requires_grad for parameter in model.parameters())


def test_the_domains_classes_are_known_before_a_target_row_is_seen(text, context):
    def right(network):
        rows = text_rows(30, seed=9)
        batch = text.task.collate(text.task.encode(rows, text.processor), text.processor)
        with torch.no_grad():
            found = network.eval()(**batch).logits.argmax(-1)
        return (found == torch.tensor(rows["label"][:])).float().mean().item()

    source = concatenate_datasets([of("shop", 3, 40), of("films", 4, 40)])
    technique = DomainAdapters(epochs=12, learning_rate=3e-3)
    taught = technique.model(text.network(), replace(context, source=source))
    assert right(taught) > right(text.network()) + 0.1


def test_adapters_that_are_there_already_and_no_source_are_refused(text, context):
    with pytest.raises(UserError, match=r"expected a network without adapters, got PeftModel.*; list it before lora"):
        FAST.model(Lora().model(text.network(), context), context)
    with pytest.raises(UserError, match=r"set data\.source"):
        FAST.model(text.network(), text.context())
