"""Prompt tuning: tokens of their own before every text, whose vectors learn beside the head, and nothing else."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoTokenizer

from hf_smalldata.bundle import save
from hf_smalldata.errors import Problems, UserError
from hf_smalldata.pipeline import train
from hf_smalldata.recipe import Recipe
from hf_smalldata.tasks.prompt import prompt_token_ids, with_prompt_tokens
from hf_smalldata.tasks.task import ModelSpec
from hf_smalldata.techniques import get_technique
from hf_smalldata.techniques.peft.prompt_tuning import PromptTuning

FOUR = PromptTuning(tokens=4)


@pytest.fixture(params=["text", "sequence"])
def kit(request):
    return request.getfixturevalue(request.param).settled(FOUR)


def recipe(kit, sources, techniques=(FOUR,), **model) -> Recipe:
    return Recipe.parse({
        "task": kit.task.name, "data": sources[kit.task.name], "model": {"name": str(kit.folder), **model},
        "techniques": list(techniques),
        "train": {"num_train_epochs": 2, "per_device_train_batch_size": 4, "disable_tqdm": True},
    })  # fmt: skip


def test_vectors_of_the_tokens_and_the_head_learn_and_all_else_stays(kit, trainer, tmp_path):
    network = kit.network()
    before = {name: tensor.detach().clone() for name, tensor in network.state_dict().items()}
    model = FOUR.model(network, kit.context())
    trainer(kit, model, [FOUR]).train()
    save(model, kit.processor, tmp_path)
    after = load_file(tmp_path / "model.safetensors")
    ids, rows = prompt_token_ids(kit.processor), "bert.embeddings.word_embeddings.weight"
    moved = (after[rows] != before[rows]).any(1)
    assert moved.nonzero().flatten().tolist() == ids
    changed = {name for name, tensor in before.items() if not torch.equal(after[name], tensor)}
    assert {name for name in changed if not name.startswith(("classifier.", "bert.pooler."))} == {rows}


def test_what_it_makes_of_a_batch_is_the_plain_network_behind_four_vectors(text):
    kit, plain = text.settled(FOUR), text.network().eval()
    tuned = FOUR.model(kit.network(), kit.context()).eval()
    ids = prompt_token_ids(kit.processor)
    tuned.base_model.model.classifier.load_state_dict(
        {f"{place}.{name}": tensor for place in ("original_module", "modules_to_save.default")
         for name, tensor in plain.classifier.state_dict().items()}
    )  # fmt: skip
    tuned.base_model.model.bert.pooler.load_state_dict(
        {f"{place}.{name}": tensor for place in ("original_module", "modules_to_save.default")
         for name, tensor in plain.bert.pooler.state_dict().items()}
    )  # fmt: skip
    table = tuned.get_input_embeddings()(torch.tensor(ids))  # (4, d)
    batch, words = kit.batch(), plain.get_input_embeddings()
    inputs = batch["input_ids"]
    assert inputs[:, 1:5].tolist() == [ids] * len(inputs)
    vectors = torch.cat([words(inputs[:, :1]), table.expand(len(inputs), -1, -1), words(inputs[:, 5:])], 1)
    with torch.no_grad():
        expected = plain(inputs_embeds=vectors, attention_mask=batch["attention_mask"]).logits
        torch.testing.assert_close(tuned(**batch).logits, expected)


def test_vectors_start_as_those_of_a_text_repeated_or_of_tokens_drawn_by_the_seed(text):
    kit = text.settled(FOUR)
    ids, words = prompt_token_ids(kit.processor), kit.processor("cat dog cow", add_special_tokens=False)["input_ids"]
    tuned = PromptTuning(tokens=4, init="cat dog cow").model(kit.network(), kit.context())
    table = tuned.get_input_embeddings().base_layer.weight
    torch.testing.assert_close(table[ids], table[[*words, words[0]]])
    drawn = [kit.network(seed).get_input_embeddings().weight.detach() for seed in (0, 0, 1)]
    old = drawn[0][: min(ids)]
    assert all((old == row).all(1).any() for row in drawn[0][ids])
    assert torch.equal(drawn[0][ids], drawn[1][ids])
    assert not torch.equal(drawn[0][ids], drawn[2][ids])


def test_a_long_text_and_a_pair_are_cut_and_the_prompt_is_not(text):
    tokenizer = text.settled(FOUR).processor
    prompt = prompt_token_ids(tokenizer)
    for texts in (["cat " * 200], ["cat " * 200, "dog " * 200]):
        ids = tokenizer(*texts, truncation=True)["input_ids"]
        assert len(ids) == tokenizer.model_max_length
        assert ids[:5] == [tokenizer.cls_token_id, *prompt]
        assert ids[-1] == tokenizer.sep_token_id


def test_a_saved_run_is_a_stock_model_and_learns_on_with_the_prompt_it_has(text, sources, tmp_path, no_page):
    first = train(recipe(text, sources), tmp_path / "first")
    (facts,) = first.metrics["runs"]
    assert facts["reload"].keys() == {"."}
    assert facts["trained_parameters"] < 0.2 * facts["parameters"]
    tokenizer = AutoTokenizer.from_pretrained(first.folder)
    ids = prompt_token_ids(tokenizer)
    assert tokenizer("cat")["input_ids"][1:5] == ids
    kit = text.settled(FOUR)
    again = kit.task.load_model(ModelSpec(name=str(first.folder), prompt_tokens=4), kit.labels, kit.problem_type)
    assert len(again.get_input_embeddings().weight) == max(ids) + 1
    assert with_prompt_tokens(tokenizer, 4)("cat")["input_ids"][1:5] == ids
    with pytest.raises(UserError, match=r"has 4 prompt tokens already; expected as many, got 5"):
        with_prompt_tokens(tokenizer, 5)


def test_without_the_technique_there_is_no_prompt(text, sources):
    given = recipe(text, sources)
    assert given.settled().model.prompt_tokens == 4
    assert given.with_techniques(()).settled().model.prompt_tokens is None


def test_what_cannot_be_is_refused(text, sources):
    with pytest.raises(Problems, match="expected a template or prompt tokens before a text, got both"):
        recipe(text, sources, template="It was {mask}. {text}", prompt_tokens=4)
    kit = text.settled(FOUR)
    with pytest.raises(UserError, match=r"prompt_tuning\.init: expected a text with tokens in it, got ''"):
        PromptTuning(tokens=4, init="").model(kit.network(), kit.context())
    with pytest.raises(UserError, match=r"expected more than \d+, which the prompt takes alone, got 8"):
        text.task.load_processor(ModelSpec(name=str(text.folder), prompt_tokens=20, max_length=8))
    for name in ("prefix_tuning", "adaption_prompt"):
        with pytest.raises(UserError, match="do not merge into a model that `pipeline` loads"):
            get_technique(name)
