from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from hf_smalldata.data.images import open_image
from hf_smalldata.errors import UserError
from hf_smalldata.techniques.synthesis import concepts, editing
from hf_smalldata.techniques.synthesis.diffusion_edit import DiffusionEdit
from hf_smalldata.techniques.synthesis.keep import Keep

ALL = Keep(agreement=0, max_similarity=1, ratio=10)


@pytest.fixture
def edit(image_pipeline, assets):
    """Settings -> a technique with the tiny pipeline."""
    return lambda **given: DiffusionEdit(**{
        "checkpoint": image_pipeline, "per_row": 2, "sampling_steps": 4, "strengths": (0.5,), "keep": ALL, **given
    })  # fmt: skip


@pytest.fixture
def context(image, tmp_path):
    return replace(image.context(), work_dir=tmp_path)


def made_of(rows):
    return [row for row in rows if row["source"] == "diffusion_edit"]


def pixels_of(rows):
    return np.array([np.asarray(open_image(row["image"])) for row in rows])


def test_each_row_is_redrawn_as_often_as_asked_with_its_label_and_says_how(edit, image, context, tmp_path):
    made = made_of(edit(strengths=(0.25, 0.5, 1.0)).rows(image.rows, context))
    labels = dict(zip(image.rows["id"], image.rows["label"], strict=True))
    assert sorted(row["parent"] for row in made) == sorted([*labels, *labels])
    assert all(row["label"] == labels[row["parent"]] for row in made)
    lines = [json.loads(line) for line in (tmp_path / "diffusion_edit.jsonl").read_text().splitlines()]
    assert {line["strength"] for line in lines} == {0.25, 0.5, 1.0}
    assert {line["prompt"] for line in lines} == {"a photo of a red", "a photo of a green", "a photo of a blue"}


def test_the_more_strength_the_less_is_left_of_the_row(image_pipeline, image):
    pipe = editing.load_editor(image_pipeline, None)
    squares = [editing.square(open_image(row["image"]), 32) for row in image.rows]
    away = []
    for strength in (0.1, 0.5, 1.0):
        found = editing.edited(pipe, squares, ["a"] * 12, list(range(12)), strength, 10, 1.0)
        again = editing.edited(pipe, squares, ["a"] * 12, list(range(12)), 0.1, 10, 1.0)
        away.append(np.mean([np.abs(np.asarray(one, float) - np.asarray(other)).mean()
                             for one, other in zip(found, again, strict=True)]))  # fmt: skip
    assert away[0] < away[1] < away[2]


def test_what_was_interrupted_goes_on_and_other_seeds_find_the_same_images(edit, image, context, monkeypatch):
    calls, most = [], [5]
    redraw = editing.edited

    def counted(pipe, images, *more):
        if sum(calls) == most[0]:
            raise KeyboardInterrupt
        calls.append(len(images))
        return redraw(pipe, images, *more)

    monkeypatch.setattr(editing, "seconds_a_step", lambda *_: (0.0, 0.0))
    monkeypatch.setattr(editing, "edited", counted)
    with pytest.raises(KeyboardInterrupt):
        edit().rows(image.rows, context)
    most[0] = 24
    first = pixels_of(made_of(edit().rows(image.rows, context)))
    assert sum(calls) == 24
    monkeypatch.setattr(editing, "load_editor", lambda *_: pytest.fail("nothing is missing"))
    np.testing.assert_array_equal(first, pixels_of(made_of(edit().rows(image.rows, replace(context, seed=3)))))


def test_what_the_safety_checker_takes_away_is_no_row(edit, image, context, monkeypatch):
    load = editing.load_editor

    def strict(*given):
        pipe = load(*given)
        assert pipe.safety_checker is not None
        found = iter(range(100))
        judge = pipe.run_safety_checker
        pipe.run_safety_checker = lambda images, *_: (judge(images, *_)[0], [next(found) % 3 == 0])
        return pipe

    monkeypatch.setattr(editing, "seconds_a_step", lambda *_: (0.0, 0.0))
    monkeypatch.setattr(editing, "load_editor", strict)
    made = made_of(edit().rows(image.rows, context))
    assert context.facts["diffusion_edit"]["unsafe"] == 8
    assert len(made) == 16


@pytest.mark.parametrize("allowed", [False, True])
def test_hours_without_a_gpu_are_told_and_asked_for(edit, image, context, monkeypatch, caplog, allowed):
    monkeypatch.setattr(editing, "seconds_a_step", lambda *_: (100.0, 50.0))
    caplog.set_level("INFO")
    technique = edit(per_row=1, allow_slow=allowed)
    if allowed:
        assert made_of(technique.rows(image.rows, context))
        assert "12 images take about 0.8 hours without a GPU (100.0 s a step, measured)" in caplog.text
    else:
        with pytest.raises(UserError, match=r"12 images take about 0\.8 hours .*allow_slow: true"):
            technique.rows(image.rows, context)


@pytest.mark.slow
def test_new_words_learn_to_denoise_the_rows_and_nothing_else_changes(image_pipeline, image):
    pipe = editing.load_editor(image_pipeline, None)
    before = {name: tensor.clone() for name, tensor in pipe.unet.state_dict().items()}
    table = pipe.text_encoder.get_input_embeddings().weight.detach().clone()
    torch.manual_seed(0)
    words = concepts.words_for(pipe, ["red", "green", "blue"])
    start = words[0].detach().clone()
    ids = pipe.tokenizer("red", add_special_tokens=False).input_ids
    torch.testing.assert_close(start[0], table[ids].mean(0))
    losses = losses_of(pipe, words, image, [f"a {concepts.word(label)}" for label in image.rows["label"]])
    assert np.mean(losses[-20:]) < np.mean(losses[:20])
    assert (words[0] != start).all()
    assert all(torch.equal(tensor, before[name]) for name, tensor in pipe.unet.state_dict().items())
    now = pipe.text_encoder.get_input_embeddings().weight
    assert torch.equal(now[: len(table)], table)
    one, other = (pipe.encode_prompt(f"a {concepts.word(at)}", "cpu", 1, False)[0] for at in (0, 1))
    assert not torch.equal(one, other)


@pytest.mark.slow
def test_adapters_learn_to_denoise_the_rows_and_the_rest_stays(image_pipeline, image):
    pipe = editing.load_editor(image_pipeline, None)
    torch.manual_seed(0)
    adapters = concepts.adapters_for(pipe, rank=4)
    rest = {name: tensor.clone() for name, tensor in pipe.unet.state_dict().items() if "lora" not in name}
    losses = losses_of(pipe, adapters, image, [f"a {label}" for label in image.rows["label"]])
    assert np.mean(losses[-20:]) < np.mean(losses[:20])
    assert all(torch.equal(pipe.unet.state_dict()[name], tensor) for name, tensor in rest.items())
    assert len(adapters) == sum("lora" in name for name in pipe.unet.state_dict())


def losses_of(pipe, learning: nn.Module, image, prompts: list[str]) -> list[float]:
    """Of each step of a training whose noise is the same in all of them, so that they can be compared."""
    squares, losses = [editing.square(open_image(row["image"]), 32) for row in image.rows], []
    train = concepts.train

    def noted(name, network, step, steps):
        def seeded(at):
            torch.manual_seed(at % 20)
            losses.append(float(step(at)))
            return torch.tensor(losses[-1])

        return train(name, network, seeded, steps)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(concepts, "train", noted)
        patched.setattr(concepts, "batches", lambda *_: iter(lambda: torch.arange(12), None))
        concepts.learn(pipe, learning, squares, prompts, steps=40, rate=2e-2, size=12)
    return losses


@pytest.mark.parametrize("way", ["textual_inversion", pytest.param("lora", marks=pytest.mark.slow)])
def test_a_concept_is_learnt_once_and_changes_what_is_drawn(edit, image, context, assets, way):
    plain = pixels_of(made_of(edit(per_row=1).rows(image.rows, context)))
    technique = edit(per_row=1, concept=way, concept_steps=3, concept_learning_rate=0.1)
    learnt = pixels_of(made_of(technique.rows(image.rows, context)))
    assert not np.array_equal(plain, learnt)
    assert context.facts["diffusion_edit"]["concept"]["steps"] == 3
    assert {"made", "kept", "dropped"} < set(context.facts["diffusion_edit"])
    assert len(list(assets.glob("diffusion_edit-*.safetensors"))) == 1
    more = technique.model_copy(update={"per_row": 2})
    assert len(made_of(more.rows(image.rows, context))) == 24
    assert len(list(assets.glob("diffusion_edit-*.safetensors"))) == 1


def test_a_concept_is_not_learnt_from_fewer_than_four_rows(edit, image, context):
    with pytest.raises(UserError, match="at least 4 rows of each class"):
        edit(concept="lora").rows(image.rows.select(range(9)), context)


def test_a_checkpoint_that_is_none_is_named(edit, image, context, tmp_path):
    with pytest.raises(UserError, match=r"diffusion_edit\.checkpoint: expected a text-to-image pipeline.*nothing"):
        edit(checkpoint=str(tmp_path / "nothing")).rows(image.rows, context)


@pytest.mark.parametrize(
    ("settings", "problem"),
    [({"prompt": "a photo"}, "label"), ({"strengths": ()}, "at least one"),
     ({"strengths": (0.1,), "sampling_steps": 5}, "with a step"), ({"strengths": (1.5,)}, "less than or equal to 1")],
)  # fmt: skip
def test_settings_that_make_nothing_are_refused(settings, problem):
    with pytest.raises(ValueError, match=problem):
        DiffusionEdit(**settings)
