"""Source, then target: what the source taught is there when the target begins."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch

from hf_smalldata.errors import Problems, UserError
from hf_smalldata.pipeline import train
from hf_smalldata.recipe import Recipe
from hf_smalldata.techniques.domain.source_then_target import SourceThenTarget
from hf_smalldata.testing import text_rows


def right(network, kit, rows):
    batch = kit.task.collate(kit.task.encode(rows, kit.processor), kit.processor)
    with torch.no_grad():
        return (network.eval()(**batch).logits.argmax(-1) == torch.tensor(rows["label"][:])).float().mean().item()


@pytest.fixture
def context(text, tmp_path):
    source = text_rows(40, seed=3)
    source = source.add_column("domain", ["shop"] * len(source))
    return replace(text.context(), source=source, facts={}, work_dir=tmp_path)


def test_the_network_knows_the_sources_classes_before_it_has_seen_a_target_row(text, context):
    technique, before = SourceThenTarget(learning_rate=3e-3, epochs=8), text.network()
    test = text_rows(30, seed=9)
    after = technique.model(text.network(), context)
    assert right(after, text, test) > right(before, text, test) + 0.3
    assert context.facts["source_then_target"] == {"source_rows": 120, "steps": 8 * 8}


def test_a_new_head_stands_on_the_body_that_the_source_taught(text, context):
    kept, new = (
        SourceThenTarget(learning_rate=3e-3, epochs=1, head=head).model(text.network(), context)
        for head in ("keep", "new")
    )
    for name, tensor in kept.named_parameters():
        same = torch.equal(tensor, new.get_parameter(name))
        assert same == (not name.startswith(("classifier.weight", "bert.pooler"))) or name.endswith("bias")


def test_without_a_source_the_recipe_and_the_technique_are_refused(text):
    content = {"task": "text-classification", "data": {"train": "a.csv"}, "model": {"name": "x"}}
    with pytest.raises(Problems, match=r"techniques\.source_then_target: needs source rows; set data\.source"):
        Recipe.parse({**content, "techniques": ["source_then_target"]})
    with pytest.raises(UserError, match=r"set data\.source"):
        SourceThenTarget().model(text.network(), text.context())


def test_labels_of_the_sources_own_teach_the_body_and_the_targets_layer_stays(text, context):
    own = ("good", "bad")
    rows = context.source.map(lambda row: {"label": int(row["label"] == 0)})
    before = text.network()
    after = SourceThenTarget(epochs=1, learning_rate=1e-3).model(
        text.network(), replace(context, source=rows, source_labels=own)
    )
    assert torch.equal(after.classifier.weight, before.classifier.weight)
    query = "bert.encoder.layer.0.attention.self.query.weight"
    assert not torch.equal(after.get_parameter(query), before.get_parameter(query))
    assert after(**text.batch()).logits.shape == (4, 3)


def test_a_recipe_learns_from_a_source_of_other_labels(text, sources, tmp_path, no_page):
    rows = [{"text": row["text"], "label": "pet" if row["label"] == 0 else "other"} for row in text_rows(12, seed=5)]
    source = tmp_path / "source.jsonl"
    source.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    content = {
        "task": "text-classification", "model": text.spec.model_dump(),
        "data": {**sources["text-classification"], "source": str(source), "source_labels": "own"},
        "techniques": ["pooling", "source_then_target"], "train": {"num_train_epochs": 1, "disable_tqdm": True},
    }  # fmt: skip
    (facts,) = train(Recipe.parse(content), tmp_path / "run").metrics["runs"]
    assert facts["techniques"]["source_then_target"]["source_rows"] == 36
    with pytest.raises(Problems, match=r"techniques\.joint: learns the target's labels from source rows"):
        Recipe.parse({**content, "techniques": ["joint"]})
