"""Continued pretraining: what is masked, what is kept, and a body that tells topics apart by filling words in."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import soundfile
import torch
from datasets import Dataset, concatenate_datasets
from sklearn.linear_model import LogisticRegression
from torch import nn
from transformers import FocalNetConfig, ResNetConfig, SwinConfig, ViTImageProcessor, Wav2Vec2ForSequenceClassification

from hf_smalldata.errors import UserError
from hf_smalldata.tasks import get_task
from hf_smalldata.tasks.task import ModelSpec
from hf_smalldata.techniques.domain import continued_pretraining
from hf_smalldata.techniques.domain.continued_pretraining import ContinuedPretraining
from hf_smalldata.techniques.domain.frames import Frames, spans
from hf_smalldata.techniques.domain.patches import cells
from hf_smalldata.techniques.domain.pretexts import IGNORED, masked, tokens_of
from hf_smalldata.techniques.synthesis import learning
from hf_smalldata.testing import FILLER, TOPICS, sequence_rows, text_rows, tiny_audio_model, tiny_sequence_model


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.setattr(learning, "cached_assets_path", lambda *_: tmp_path)
    return tmp_path


@pytest.fixture
def kit(masked):
    """Texts for a masked language model, without a template."""
    spec = ModelSpec(name=str(masked.folder))
    return replace(masked, template=None, processor=masked.task.load_processor(spec))


def hidden(rows):
    return rows.remove_columns("label").add_column("domain", ["a"] * len(rows))


def test_a_share_of_the_units_is_masked_and_only_these_have_labels():
    rng, units = np.random.default_rng(0), np.array([-1, *range(1000), -1])
    ids = np.full(1002, 7)
    made, labels = masked(ids, units, 0.15, 3, 100, rng)
    there = labels != IGNORED
    assert there.sum() == 150
    assert not there[[0, -1]].any()
    assert (labels[there] == 7).all()
    assert (made[~there] == 7).all()
    fates = [(made[there] == 3).mean(), (made[there] == 7).mean()]
    assert fates == pytest.approx([0.8, 0.1], abs=0.08)


def test_pieces_of_a_unit_go_together_and_a_short_text_has_one_mask():
    made, labels = masked(
        np.array([2, 5, 6, 7, 1]), np.array([-1, 0, 0, 0, -1]), 0.15, 3, 100, np.random.default_rng(0)
    )
    assert labels.tolist() == [IGNORED, 5, 6, 7, IGNORED]
    assert len(made) == 5


def test_equal_texts_are_read_once_and_special_tokens_are_never_masked(kit):
    rows = Dataset.from_dict({"id": ["a", "b", "c"], "text": ["cat dog", "the cat", "cat dog"]})
    found = tokens_of(rows, kit.context(), whole_words=True)
    assert len(found) == 2
    assert all(each.units[0] == each.units[-1] == -1 for each in found)


def rich(count, seed):
    """Texts of four words of a topic and two that mean nothing."""
    rng, rows = np.random.default_rng(seed), []
    for at in range(count):
        words = [*rng.choice(list(TOPICS.values())[at % 3], 4), *rng.choice(FILLER, 2)]
        rows.append({"id": f"{seed}:{at}", "text": " ".join(rng.permutation(words)), "label": at % 3})
    return Dataset.from_list(rows)


def probed(network, kit, seeds=8):
    """Mean accuracy of linear heads on the mean of states, two labels a class."""

    def states(rows):
        batch = kit.task.collate(kit.task.encode(rows, kit.processor), kit.processor)
        with torch.no_grad():
            seen = network.eval().base_model(**batch).last_hidden_state
        mask = batch["attention_mask"][..., None]
        return ((seen * mask).sum(1) / mask.sum(1)).numpy()

    test, scores = rich(150, 99), []
    for seed in range(seeds):
        few = rich(6, seed)
        head = LogisticRegression(max_iter=1000).fit(states(few), few["label"][:])
        scores.append(head.score(states(test), test["label"][:]))
    return np.mean(scores)


def test_a_body_that_has_filled_in_words_of_the_domain_learns_its_classes_from_fewer_labels(kit):
    context = replace(kit.context(), unlabelled=hidden(rich(300, 7)), facts={})
    technique = ContinuedPretraining(epochs=20, learning_rate=3e-3, share=0.3)
    before, after = kit.network(), technique.model(kit.network(), context)
    assert probed(after, kit) > probed(before, kit) + 0.1
    facts = context.facts["continued_pretraining"]
    assert facts["loss_last_epoch"] < facts["loss_first_epoch"] - 0.5
    assert facts["texts"] > 250
    assert facts["new_head"] is False


def test_all_seeds_share_one_training(kit, monkeypatch, folder):
    made = []
    for seed in (0, 1):
        context = replace(kit.context(seed), unlabelled=hidden(text_rows(4, seed=7)), facts={})
        made.append(ContinuedPretraining(epochs=1).model(kit.network(), context))
        monkeypatch.setattr(ContinuedPretraining, "_learn", None)
    assert torch.equal(*(each.bert.encoder.layer[0].output.dense.weight for each in made))
    assert len(list(folder.glob("continued_pretraining-*.safetensors"))) == 1


def test_a_checkpoint_without_such_a_head_gets_one_that_learns_alone_at_first(sequence, caplog):
    context = replace(sequence.context(), facts={})
    before = {name: tensor.clone() for name, tensor in sequence.network().named_parameters()}
    network = ContinuedPretraining(epochs=1, batch_size=1, learning_rate=1e-2).model(sequence.network(), context)
    assert "has no head that fills in words; it gets a new one" in caplog.text
    assert context.facts["continued_pretraining"]["new_head"] is True
    assert "had no head that fills them in" in context.facts["continued_pretraining"]["disclosed"]
    changed = {name for name, tensor in network.named_parameters() if not torch.equal(tensor, before[name])}
    assert "bert.encoder.layer.0.output.dense.weight" in changed
    assert not {name for name in changed if not name.startswith("bert.")}


def test_for_the_first_steps_a_new_head_moves_alone(sequence, monkeypatch):
    monkeypatch.setattr(continued_pretraining, "HEAD_FIRST", 1.0)
    before = {name: tensor.clone() for name, tensor in sequence.network().named_parameters()}
    network = ContinuedPretraining(epochs=1, learning_rate=1e-2).model(sequence.network(), sequence.context())
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.named_parameters())


def test_of_overlapping_words_neighbours_are_masked_together(tmp_path):
    task, spec = get_task("sequence-classification"), ModelSpec(name=str(tiny_sequence_model(tmp_path / "k", "kmers")))
    context = type("Rows", (), {"task": task, "processor": task.load_processor(spec)})
    units = tokens_of(sequence_rows(2), context, whole_words=False)[0].units
    assert units[1:7] == [0, 0, 2, 2, 2, 4] or units[1:7] == [0, 0, 0, 2, 2, 2]


def test_networks_that_are_no_longer_as_they_were_loaded_are_refused(kit, text, masked):
    with pytest.raises(UserError, match="list it before lora"):
        ContinuedPretraining().model(nn.Linear(2, 2), kit.context())
    with pytest.raises(UserError, match=r"not with model\.template"):
        ContinuedPretraining().model(masked.network(), masked.context())
    with pytest.raises(UserError, match="knows no mask"):
        ContinuedPretraining().model(text.network(), text.context())


def moved(network, before):
    return {name for name, tensor in network.named_parameters() if not torch.equal(tensor, before[name])}


def test_whole_cells_of_an_image_are_hidden():
    rng = np.random.default_rng(0)
    hidden = cells(224, 16, 0.6, rng).reshape(14, 14)
    assert hidden.sum() == 4 * round(0.6 * 49)
    assert (hidden == hidden[::2, ::2].repeat(2, 0).repeat(2, 1)).all()
    assert cells(32, 8, 0.6, rng).sum() == round(0.6 * 16)
    assert cells(224, 14, 0.01, rng).sum() == 3  # cells of 32 pixels do not fit: patches alone


def test_a_body_that_has_filled_in_patches_is_kept_and_the_head_is_not(image):
    context = replace(image.context(), facts={})
    before = {name: tensor.clone() for name, tensor in image.network().named_parameters()}
    technique = ContinuedPretraining(epochs=30, learning_rate=3e-3, batch_size=4)
    network = technique.model(image.network(), context)
    facts = context.facts["continued_pretraining"]
    assert facts["images"] == 12
    assert facts["new_head"] is True
    assert facts["loss_last_epoch"] < 0.8 * facts["loss_first_epoch"]
    assert facts["disclosed"].startswith("taught the network to fill in hidden patches of 12 images without their")
    changed = moved(network, before)
    assert "vit.layers.0.attention.q_proj.weight" in changed or any(".0." in name for name in changed)
    assert not {name for name in changed if name.startswith("classifier")}


def test_images_of_another_size_are_filled_in_at_that_size(image):
    spec = image.spec.model_copy(update={"image_size": 48})
    kit = replace(image, processor=image.task.load_processor(spec))
    context = replace(kit.context(), model=spec, facts={})
    model = image.task.load_model(spec, image.labels, image.problem_type)
    network = ContinuedPretraining(epochs=1).model(model, context)
    pixels = torch.zeros(1, 3, 48, 48)
    assert network(pixel_values=pixels).logits.shape == (1, 3)


STAGES = {"image_size": 32, "patch_size": 2, "embed_dim": 8, "depths": [1, 1, 1], "num_labels": 3}
PYRAMIDS = {
    "Swin": SwinConfig(**STAGES, num_heads=[1, 2, 2], window_size=4),
    "FocalNet": FocalNetConfig(**STAGES, focal_levels=[1, 1, 1], focal_windows=[3, 3, 3]),
}


@pytest.mark.parametrize(("kind", "side"), [("Swin", 32), ("FocalNet", 64), *(
    pytest.param(*each, marks=pytest.mark.slow) for each in (("Swin", 64), ("FocalNet", 32)))])  # fmt: skip
def test_networks_of_several_scales_fill_in_images_of_any_size(kind, side, image, classifier, tmp_path):
    spec = ModelSpec(name=str(tmp_path / kind), image_size=side)
    classifier(PYRAMIDS[kind]).save_pretrained(spec.name)
    ViTImageProcessor(size={"height": 32, "width": 32}).save_pretrained(spec.name)
    context = replace(image.context(), model=spec, processor=image.task.load_processor(spec), facts={})
    network = image.task.load_model(spec, image.labels, image.problem_type)
    ContinuedPretraining(epochs=20, learning_rate=3e-3).model(network, context)
    facts = context.facts["continued_pretraining"]
    assert facts["loss_last_epoch"] < 0.9 * facts["loss_first_epoch"]


def test_an_image_that_does_not_divide_into_what_a_state_draws_is_refused(image, classifier, tmp_path):
    spec = ModelSpec(name=str(tmp_path / "swin"), image_size=36)
    classifier(PYRAMIDS["Swin"]).save_pretrained(spec.name)
    ViTImageProcessor(size={"height": 32, "width": 32}).save_pretrained(spec.name)
    context = replace(image.context(), model=spec, processor=image.task.load_processor(spec))
    with pytest.raises(UserError, match=r"images of a multiple of 8 pixels, found 36 x 36; set model\.image_size"):
        ContinuedPretraining().model(image.network(), context)


def test_two_frames_or_more_of_each_clip_are_hidden_in_spans_and_no_padding():
    shown = spans([400, 100, 25], 0.65, np.random.default_rng(0))
    assert not shown[1, 100:].any()
    assert not shown[2, 25:].any()
    assert np.mean([spans([400], 0.65, np.random.default_rng(seed)).mean() for seed in range(50)]) == pytest.approx(
        0.49, abs=0.03
    )  # section 4.2 of the paper
    edges = np.diff(np.pad(shown[0].astype(int), 1))
    assert (np.flatnonzero(edges == -1) - np.flatnonzero(edges == 1)).min() >= 10
    for seed in range(50):
        assert spans([4, 5, 30], 0.05, np.random.default_rng(seed)).sum(1).min() >= 2


@pytest.mark.parametrize("habits", [
    {"mask_time_prob": 0.0}, {"mask_feature_prob": 0.5, "mask_feature_length": 4},
    pytest.param({"apply_spec_augment": False}, marks=pytest.mark.slow),
], ids=str)  # fmt: skip
def test_whatever_a_classifiers_config_says_time_is_hidden_and_features_are_not(habits, audio, tmp_path):
    network = audio.network()
    network.config.update(habits)
    Wav2Vec2ForSequenceClassification(network.config).save_pretrained(tmp_path / "model")
    audio.processor.save_pretrained(tmp_path / "model")
    spec = ModelSpec(name=str(tmp_path / "model"))
    context = replace(audio.context(), model=spec, facts={})
    pretext = Frames(audio.rows, context, 0.65)
    whole, _ = pretext.load()
    heard, losses = [], []
    whole.wav2vec2.encoder.register_forward_pre_hook(lambda _, given, named: heard.append(given[0]), with_kwargs=True)
    for seed in (0, 1):
        np.random.seed(seed)
        torch.manual_seed(0)
        loss = pretext.loss(whole.train(), [0, 1], np.random.default_rng(0), torch.device("cpu"))
        losses.append(loss.item())
    assert losses[0] == losses[1]
    covered = (heard[0] == whole.wav2vec2.masked_spec_embed).all(-1)
    assert (covered.sum(1) >= 2).all()
    assert not (heard[0] == 0).all(1).any()
    model = audio.task.load_model(spec, audio.labels, audio.problem_type)
    ContinuedPretraining(epochs=1).model(model, context)
    assert context.facts["continued_pretraining"]["sounds"] == 12


def test_clips_of_a_few_frames_are_filled_in_beside_long_ones_and_shorter_ones_left_out(audio, tmp_path):
    rng, rows = np.random.default_rng(0), []
    for name, seconds in (("short", 0.1), ("shorter", 0.03)):
        soundfile.write(tmp_path / f"{name}.wav", 0.3 * rng.normal(size=int(8000 * seconds)), 8000)
        rows.append({"id": name, "audio": {"bytes": None, "path": str(tmp_path / f"{name}.wav")}, "label": 0})
    both = concatenate_datasets([audio.rows, Dataset.from_list(rows, features=audio.rows.features)])
    context = replace(audio.context(), train=both, facts={})
    ContinuedPretraining(epochs=1).model(audio.network(), context)
    assert context.facts["continued_pretraining"]["sounds"] == 13
    context = replace(context, train=both.select([13]))
    with pytest.raises(UserError, match="no sound has 4 frames"):
        ContinuedPretraining().model(audio.network(), context)


@pytest.mark.slow
def test_a_body_that_has_told_hidden_spans_of_sound_apart_is_kept(audio):
    context = replace(audio.context(), facts={})
    before = {name: tensor.clone() for name, tensor in audio.network().named_parameters()}
    technique = ContinuedPretraining(epochs=8, learning_rate=3e-3, batch_size=4)
    network = technique.model(audio.network(), context)
    facts = context.facts["continued_pretraining"]
    assert (facts["sounds"], facts["new_head"]) == (12, True)
    assert facts["loss_last_epoch"] < facts["loss_first_epoch"]
    changed = moved(network, before)
    assert changed
    assert all(name.startswith("wav2vec2.") for name in changed)
    again = technique.model(audio.network(), replace(audio.context(), facts={}))
    assert all(torch.equal(one, two) for one, two in zip(network.parameters(), again.parameters(), strict=True))


def test_networks_without_such_a_head_are_refused(classifier, image, audio, tmp_path):
    folder = tmp_path / "resnet"
    classifier(ResNetConfig(embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1])).save_pretrained(folder)
    context = replace(image.context(), model=ModelSpec(name=str(folder)))
    with pytest.raises(UserError, match=r"resnet models have no head .* ViT, DeiT, Swin and FocalNet have"):
        ContinuedPretraining().model(image.network(), context)
    spec = ModelSpec(name=str(tiny_audio_model(tmp_path / "hubert", "hubert")))
    with pytest.raises(UserError, match=r"hubert models have no head .* wav2vec 2.0 have"):
        ContinuedPretraining().model(audio.network(), replace(audio.context(), model=spec))
