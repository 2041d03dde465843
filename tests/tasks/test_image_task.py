"""Image classification: windows of grey values, and input sizes other than the checkpoint's."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from datasets import Dataset
from PIL import Image
from transformers import (
    AutoModelForImageClassification,
    BitImageProcessor,
    CLIPConfig,
    CLIPForImageClassification,
    CLIPImageProcessor,
    ConvNextConfig,
    ConvNextForImageClassification,
    ConvNextImageProcessor,
    Dinov2Config,
    Dinov2ForImageClassification,
    LevitConfig,
    LevitForImageClassification,
    LevitImageProcessor,
    TimmWrapperConfig,
    ViTConfig,
    ViTForImageClassification,
    ViTImageProcessor,
    pipeline,
)

from hf_smalldata.errors import UserError
from hf_smalldata.tasks.image import ImageClassification
from hf_smalldata.tasks.image_size import interpolate_positions
from hf_smalldata.tasks.task import ModelSpec

TASK = ImageClassification()
LABELS = ("ants", "bees", "wasps")
BODY = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64,
        "initializer_range": 0.2, "image_size": 32, "patch_size": 8}  # fmt: skip


def vit(folder):
    ViTForImageClassification(ViTConfig(**BODY)).save_pretrained(folder)
    ViTImageProcessor(size={"height": 32, "width": 32}).save_pretrained(folder)


def dinov2(folder):
    Dinov2ForImageClassification(Dinov2Config(**BODY)).save_pretrained(folder)
    BitImageProcessor(size={"shortest_edge": 36}, crop_size={"height": 32, "width": 32}).save_pretrained(folder)


def clip(folder):
    CLIPForImageClassification(CLIPConfig(vision_config=BODY)).save_pretrained(folder)
    CLIPImageProcessor(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}).save_pretrained(folder)


def convnext(folder):
    config = ConvNextConfig(hidden_sizes=[8, 8, 16, 32], depths=[1, 1, 1, 1])
    ConvNextForImageClassification(config).save_pretrained(folder)
    ConvNextImageProcessor(size={"shortest_edge": 32}).save_pretrained(folder)


def levit(folder):
    config = LevitConfig(image_size=32, hidden_sizes=[16, 16, 16], depths=[1, 1, 1], num_attention_heads=[2, 2, 2],
                         key_dim=[8, 8, 8])  # fmt: skip
    LevitForImageClassification(config).save_pretrained(folder)
    LevitImageProcessor(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}).save_pretrained(folder)


def timm(architecture, side=32, **arguments):
    def save(folder):
        cfg = {"input_size": [3, side, side], "mean": [0.5] * 3, "std": [0.5] * 3, "crop_pct": 0.9}
        config = TimmWrapperConfig(architecture=architecture, model_args=arguments or None, pretrained_cfg=cfg)
        AutoModelForImageClassification.from_config(config).save_pretrained(folder)

    return save


resnet = timm("resnet10t", stem_width=8, block_args=None)
tiny_vit = timm("vit_tiny_patch16_224", img_size=32, patch_size=8, embed_dim=32, depth=2, num_heads=2)
tiny_swin = timm(
    "swin_tiny_patch4_window7_224", img_size=32, window_size=4, embed_dim=16, depths=(1, 1), num_heads=(2, 2)
)
tiny_beit = timm("beit_base_patch16_224", img_size=32, patch_size=8, embed_dim=32, depth=1, num_heads=2)


def rows(side: int = 80) -> Dataset:
    rng = np.random.default_rng(0)
    pictures = [Image.fromarray(rng.integers(0, 255, (side, side + 20 * at, 3), dtype=np.uint8)) for at in range(3)]
    return Dataset.from_list([{"id": str(at), "image": picture} for at, picture in enumerate(pictures)])


def probabilities(model, batch) -> np.ndarray:
    with torch.no_grad():
        return model(**batch).logits.softmax(dim=-1).numpy()


@pytest.mark.parametrize(
    ("save", "side"),
    [
        *((save, side) for save in (vit, dinov2, clip, resnet, tiny_vit) for side in (24, 48)),
        *((save, side) for save in (convnext, tiny_swin) for side in (48, 64)),
    ],
)
def test_a_stock_pipeline_gives_the_same_at_another_size(save, side, tmp_path):
    torch.manual_seed(0)
    save(tmp_path / "old")
    spec = ModelSpec(name=str(tmp_path / "old"), image_size=side)
    processor = TASK.load_processor(spec)
    model = TASK.load_model(spec, LABELS, "single_label_classification")
    batch = TASK.collate(TASK.encode(rows(), processor), processor)
    assert batch["pixel_values"].shape == (3, 3, side, side)
    expected = probabilities(model, batch)
    model.save_pretrained(tmp_path / "new")
    processor.save_pretrained(tmp_path / "new")
    classify = pipeline("image-classification", model=str(tmp_path / "new"))
    answers = classify(TASK.pipeline_inputs(rows(), processor))
    found = [[{one["label"]: one["score"] for one in each}[label] for label in LABELS] for each in answers]
    np.testing.assert_allclose(found, expected, atol=1e-5)
    again = TASK.load_processor(ModelSpec(name=str(tmp_path / "new")))
    assert TASK.encode(rows(), again)[0]["pixel_values"].shape == (3, side, side)


@pytest.mark.parametrize("save", [vit, clip])
def test_positions_are_interpolated_as_transformers_does_it(save, tmp_path):
    torch.manual_seed(0)
    save(tmp_path)
    pixels = torch.randn(2, 3, 48, 48)
    load = {"labels": LABELS, "problem_type": "single_label_classification"}
    torch.manual_seed(1)
    old = TASK.load_model(ModelSpec(name=str(tmp_path)), **load)
    torch.manual_seed(1)
    new = TASK.load_model(ModelSpec(name=str(tmp_path), image_size=48), **load)
    with torch.no_grad():
        if save is vit:
            expected = old(pixels, interpolate_pos_encoding=True).logits
        else:
            hidden = old.vision_model(pixels, interpolate_pos_encoding=True).last_hidden_state
            expected = old.classifier(hidden[:, 1:].mean(dim=1))
        torch.testing.assert_close(new(pixels).logits, expected)
    assert not new.training


def test_positions_of_special_tokens_stay_and_a_flat_grid_stays_flat():
    special, patches = torch.randn(1, 2, 8), torch.ones(1, 16, 8)
    new = interpolate_positions(torch.cat([special, patches], dim=1), 2 + 36)
    assert new.shape == (1, 38, 8)
    torch.testing.assert_close(new[:, :2], special)
    torch.testing.assert_close(new[:, 2:], torch.ones(1, 36, 8))
    with pytest.raises(ValueError, match="square grids, found 10 and 13"):
        interpolate_positions(torch.randn(10, 4), 13)


def test_the_share_that_is_cut_off_stays_the_same(tmp_path):
    dinov2(tmp_path)
    processor = TASK.load_processor(ModelSpec(name=str(tmp_path), image_size=64))
    assert (processor.size["shortest_edge"], processor.crop_size["height"]) == (72, 64)


@pytest.mark.parametrize("save", [levit, tiny_beit])
def test_a_network_with_weights_for_each_pixel_is_refused(save, tmp_path):
    save(tmp_path)
    spec = ModelSpec(name=str(tmp_path), image_size=64)
    TASK.load_processor(spec)
    with pytest.raises(UserError, match=r"model\.image_size: .* can't take 64 x 64 pixels"):
        TASK.load_model(spec, LABELS, "single_label_classification")


def test_a_size_that_is_too_small_for_one_patch_is_refused(tmp_path):
    vit(tmp_path)
    with pytest.raises(UserError, match=r"model\.image_size: .* can't take 4 x 4 pixels"):
        TASK.load_model(ModelSpec(name=str(tmp_path), image_size=4), LABELS, "single_label_classification")


@pytest.mark.slow
def test_inception_trains_at_its_own_size_and_reloads(tmp_path):
    torch.manual_seed(0)
    timm("inception_v3", side=299)(tmp_path / "old")
    spec = ModelSpec(name=str(tmp_path / "old"))
    processor = TASK.load_processor(spec)
    model = TASK.load_model(spec, LABELS, "single_label_classification")
    batch = TASK.collate(TASK.encode(rows().select([0, 1]), processor), processor)
    assert batch["pixel_values"].shape == (2, 3, 299, 299)
    model.train()
    model(**batch).logits.square().sum().backward()
    expected = probabilities(model.eval(), batch)
    model.save_pretrained(tmp_path / "new")
    again = AutoModelForImageClassification.from_pretrained(tmp_path / "new")
    np.testing.assert_allclose(probabilities(again, batch), expected, atol=1e-5)
    assert again.config.id2label == dict(enumerate(LABELS))


def test_the_window_of_a_row_reaches_every_reading_of_its_image(tmp_path):
    vit(tmp_path)
    Image.fromarray(np.full((40, 40), 3000, dtype=np.uint16)).save(tmp_path / "scan.png")
    path = {"bytes": None, "path": str(tmp_path / "scan.png")}
    scans = Dataset.from_list(
        [{"id": "a", "image": path, "window": None}, {"id": "b", "image": path, "window": [2048.0, 4096.0]}]
    )
    processor = TASK.load_processor(ModelSpec(name=str(tmp_path)))
    dark, shown = round(3000 / 257), round(3000 / 4095 * 255)
    assert [image.getpixel((0, 0))[0] for image in TASK.pipeline_inputs(scans, processor)] == [dark, shown]
    assert [TASK.decode(row, processor)["image"].getpixel((0, 0))[0] for row in scans] == [dark, shown]
    encoded = [features["pixel_values"] for features in TASK.encode(scans, processor)]
    assert [int(pixels.max()) for pixels in encoded] == [dark, shown]
    assert {pixels.dtype for pixels in encoded} == {np.dtype(np.uint8)}


@pytest.mark.parametrize(
    ("size", "expected"), [((1200, 900), (85, 64)), ((300, 1500), (64, 320)), ((70, 60), (70, 60))]
)
def test_images_to_augment_hold_no_more_detail_than_twice_what_the_model_sees(size, expected, tmp_path):
    vit(tmp_path)
    processor = TASK.load_processor(ModelSpec(name=str(tmp_path)))
    Image.linear_gradient("L").resize(size).save(tmp_path / "large.png")
    row = {"id": "a", "image": {"bytes": None, "path": str(tmp_path / "large.png")}, "label": 0}
    reduced = TASK.decode(row, processor)["image"]
    assert reduced.size == expected
    seen = [TASK.encode(Dataset.from_list([{**row, "image": image}]), processor)[0]["pixel_values"].astype(int)
            for image in (row["image"], reduced)]  # fmt: skip
    assert np.abs(seen[0] - seen[1]).max() <= 4


def test_images_that_the_model_takes_in_any_size_stay_whole(tmp_path):
    processor = ViTImageProcessor(do_resize=False)
    row = {"id": "a", "image": Image.new("RGB", (300, 200)), "label": 0}
    assert TASK.decode(row, processor)["image"].size == (300, 200)
