"""Backbones of every kind with random weights, a few layers of 32 features, and one way to try them all.

Loaded by path (tests are no package): by `test_backbones.py`, and by `scripts/bench/backbones.py` for a table.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import transformers
from datasets import Dataset
from torch import nn

from hf_smalldata import bundle, testing
from hf_smalldata.bundle import all_scores
from hf_smalldata.data.load import Splits
from hf_smalldata.fitting import Fitting
from hf_smalldata.nn.heads import scale_logits
from hf_smalldata.recipe import Recipe
from hf_smalldata.tasks import get_task

SETTINGS: dict[str, list[Any]] = {"full": [], "lora": [{"lora": {"rank": 2}}], "frozen": ["freeze"],
                                  "bottom": [{"freeze": {"blocks": 1}}]}  # fmt: skip
LABELS = {"text-classification": tuple(testing.TOPICS), "image-classification": tuple(testing.COLOURS),
          "sequence-classification": ("background", "promoter"),
          "audio-classification": ("falling", "rising", "steady")}  # fmt: skip
STEPS = 2
PROBLEM = "single_label_classification"

SMALL = {"hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 64,
         "initializer_range": 0.2}  # fmt: skip
WORDS = {**SMALL, "vocab_size": 60, "pad_token_id": 0, "max_position_embeddings": 80}
DEBERTA = {"relative_attention": True, "pos_att_type": ["p2c", "c2p"], "pooler_hidden_size": 32}
PATCHES = {**SMALL, "image_size": 32, "patch_size": 8}
STAGES = {"depths": [1, 1, 1, 1], "hidden_sizes": [8, 16, 16, 32]}


class Backbone(NamedTuple):
    """A model of some task, made into a folder."""

    task: str
    save: Callable[[Path], Any]


def text(model: str, types: bool = False, **config: Any) -> Backbone:
    """A transformers text classifier with the tokenizer of the test kit; `types`: it takes token_type_ids."""

    def save(folder: Path) -> None:
        testing.tiny_text_model(folder)
        made = getattr(transformers, f"{model}Config")(**config)
        getattr(transformers, f"{model}ForSequenceClassification")(made).save_pretrained(folder)
        inputs = ["input_ids", "token_type_ids", "attention_mask"] if types else ["input_ids", "attention_mask"]
        transformers.AutoTokenizer.from_pretrained(folder, model_input_names=inputs).save_pretrained(folder)

    return Backbone("text-classification", save)


def esm(folder: Path) -> None:
    """ESM-2: rotary positions, token dropout, sequences spelled as they are."""
    testing.tiny_sequence_model(folder, "esm")
    config = transformers.EsmConfig(**WORDS, position_embedding_type="rotary", token_dropout=True, mask_token_id=4)
    transformers.EsmForSequenceClassification(config).save_pretrained(folder)
    inputs = ["input_ids", "attention_mask"]
    transformers.AutoTokenizer.from_pretrained(folder, model_input_names=inputs).save_pretrained(folder)


def image(model: str, side: int = 32, **config: Any) -> Backbone:
    """A transformers image classifier for `side` x `side` pixels."""

    def save(folder: Path) -> None:
        made = getattr(transformers, f"{model}Config")(**config, num_labels=3)
        woken(getattr(transformers, f"{model}ForImageClassification")(made), side).save_pretrained(folder)
        transformers.ViTImageProcessor(size={"height": side, "width": side}).save_pretrained(folder)

    return Backbone("image-classification", save)


def timm(architecture: str, side: int = 32, size: float = 0.3, **arguments: Any) -> Backbone:
    """A timm network for `side` x `side` pixels, in transformers' wrapper; `size` of its logits."""

    def save(folder: Path) -> None:
        pixels = {"input_size": [3, side, side], "mean": [0.5] * 3, "std": [0.5] * 3, "crop_pct": 1.0}
        config = transformers.TimmWrapperConfig(
            architecture=architecture,
            model_args=arguments or None,
            pretrained_cfg=pixels,
            do_pooling=True,
            num_labels=3,
        )
        woken(transformers.AutoModelForImageClassification.from_config(config), side, size).save_pretrained(folder)

    return Backbone("image-classification", save)


@torch.no_grad()
def woken(model: Any, side: int, size: float = 0.3) -> Any:
    """Random convolutions made to pass their input on, norms to know its statistics, and logits of `size`.

    As networks are initialised, all images get one answer, and a comparison of answers would show nothing.
    """
    pixels = torch.randn(32, 3, 1, 1) + 0.3 * torch.randn(32, 3, side, side)  # noisy colours, like the rows
    norms = [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]
    usual = [norm.momentum for norm in norms]
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight)
    for norm in norms:
        norm.momentum = 1.0
    model.train()(pixel_values=pixels)
    for norm, momentum in zip(norms, usual, strict=True):
        norm.momentum = momentum
        norm.running_var.clamp_(min=0.1)  # a channel that is nearly constant would be blown up, and rounding with it
    found = float(model.eval()(pixel_values=pixels).logits.std())
    scale_logits(model, found / size, lambda network: network(pixel_values=pixels).logits)
    return model


def audio(kind: Any) -> Backbone:
    """An audio model of the test kit."""
    return Backbone("audio-classification", partial(testing.tiny_audio_model, kind=kind))


BACKBONES = {
    "BERT": text("Bert", types=True, **WORDS),
    "RoBERTa": text("Roberta", **WORDS),
    "XLM-RoBERTa": text("XLMRoberta", **WORDS),
    "DistilBERT": text("DistilBert", vocab_size=60, dim=32, n_layers=3, n_heads=2, hidden_dim=64,
                       initializer_range=0.2),
    "DeBERTa-v2": text("DebertaV2", types=True, **WORDS, **DEBERTA, position_buckets=-1, conv_kernel_size=3),
    "DeBERTa-v3": text("DebertaV2", types=True, **WORDS, **DEBERTA, position_buckets=8, share_att_key=True,
                       norm_rel_ebd="layer_norm", position_biased_input=False, type_vocab_size=0),
    "ELECTRA": text("Electra", types=True, **WORDS, embedding_size=16),
    "MPNet": text("MPNet", **WORDS),
    "ModernBERT": text("ModernBert", **WORDS, global_attn_every_n_layers=2, local_attention=8, cls_token_id=2,
                       sep_token_id=3, bos_token_id=2, eos_token_id=3),
    "ALBERT": text("Albert", types=True, **WORDS, embedding_size=16),
    "ESM-2": Backbone("sequence-classification", esm),
    "ViT": image("ViT", **PATCHES),
    "DeiT": image("DeiT", **PATCHES),
    "DINOv2": image("Dinov2", **PATCHES),
    "Swin": image("Swin", image_size=32, patch_size=2, embed_dim=8, depths=[1, 2, 1], num_heads=[1, 2, 2],
                  window_size=4, initializer_range=0.2),
    "ConvNeXT": image("ConvNext", **STAGES, initializer_range=0.2, layer_scale_init_value=0.5),
    "ResNet": image("ResNet", embedding_size=8, layer_type="basic", **STAGES),
    "MobileNetV2": image("MobileNetV2", side=64, depth_multiplier=0.35),
    "VGG-11 (timm)": timm("vgg11", mlp_ratio=1 / 64),
    "ResNet-10t (timm)": timm("resnet10t", stem_width=8),
    "ResNet-18 (timm)": timm("resnet18"),
    "Inception v3 (timm)": timm("inception_v3", side=75),
    "Inception v4 (timm)": timm("inception_v4", side=107, size=0.03),  # 149 layers of random weights amplify rounding
    "EfficientNet-B0 (timm)": timm("efficientnet_b0"),
    "EfficientNet-Lite0 (timm)": timm("efficientnet_lite0"),
    "MobileNetV2 (timm)": timm("mobilenetv2_050"),
    "MobileNetV3 (timm)": timm("mobilenetv3_small_050"),
    "wav2vec 2.0": audio("wav2vec2"),
    "HuBERT": audio("hubert"),
    "Whisper": audio("whisper"),
    "AST": audio("ast"),
}  # fmt: skip


class Trial(NamedTuple):
    """A backbone after training under one setting."""

    fitting: Fitting
    before: nn.Module
    changed: frozenset[str]  # parameters and buffers of `before` that training changed
    adapters: dict[str, float]  # name of an adapter's matrix B, which is zero at first -> largest entry
    facts: dict[str, Any]
    folders: list[Path]  # as saved
    expected: np.ndarray[Any, Any]  # (N, C)

    @property
    def tolerance(self) -> float:
        """What `difference` may be."""
        return bundle.MERGED_TOLERANCE if self.adapters else bundle.TOLERANCE

    def difference(self) -> float:
        """Of a stock pipeline on the saved folder to the trained model: the largest, of all probabilities."""
        task, rows, labels = self.fitting.task, self.fitting.data.train, self.fitting.data.labels
        classify = transformers.pipeline(task.pipeline_tag, model=str(self.folders[0]))
        inputs = task.pipeline_inputs(rows, self.fitting.processor)
        answers = [classify(each, **all_scores(task, labels)) for each in inputs]
        return float(np.abs(task.read(answers, rows, labels) - self.expected).max())


def rows_for(task: str, folder: Path, count: int = 6) -> Dataset:
    """Rows of every class, three classes by turns; files of sounds go to `folder`."""
    if task == "text-classification":
        return testing.text_rows(count // 3)
    if task == "sequence-classification":
        return testing.sequence_rows(count // 2)
    if task == "image-classification":
        rng = np.random.default_rng(0)
        return Dataset.from_list([
            {"id": str(at), "image": testing.image_of(at % 3, rng), "label": at % 3} for at in range(count)
        ])  # fmt: skip
    names = LABELS[task]
    files = testing.audio_folder(folder, count // 3)
    paths = [files / names[at % 3] / f"{at // 3}.wav" for at in range(count)]
    return Dataset.from_list([
        {"id": str(at), "audio": {"bytes": None, "path": str(path)}, "label": at % 3} for at, path in enumerate(paths)
    ])  # fmt: skip


def attempt(backbone: Backbone, setting: str, model: Path, rows: Dataset, work: Path) -> Trial:
    """Two steps of training on `rows`, and the model saved."""
    task = get_task(backbone.task)
    recipe = Recipe.parse({
        "task": task.name, "data": {"name": "made in code"}, "model": {"name": str(model)},
        "techniques": SETTINGS[setting],
        "train": {"max_steps": STEPS, "learning_rate": 1e-4, "per_device_train_batch_size": 3, "disable_tqdm": True},
    })  # fmt: skip
    processor = task.load_processor(recipe.model)
    fitting = Fitting(recipe, task, processor, Splits(rows, None, None, LABELS[task.name], PROBLEM), work)
    torch.manual_seed(0)  # as `attempt` seeds the head
    before = task.load_model(recipe.model, LABELS[task.name], PROBLEM)
    learnt = fitting.attempt(rows, 0, 0)
    expected = fitting.predict(learnt.model, rows)
    after = {plain(name): tensor for name, tensor in learnt.model.state_dict().items() if "original_module" not in name}
    changed = [name for name, tensor in before.state_dict().items() if not torch.equal(after[name], tensor)]
    adapters = {name: float(tensor.abs().max()) for name, tensor in after.items() if "lora_B" in name}
    folders = bundle.save(learnt.model, processor, work / "saved")
    return Trial(fitting, before, frozenset(changed), adapters, learnt.facts, folders, expected)


def plain(name: str) -> str:
    """The name that a tensor of an adapted network had before."""
    return name.removeprefix("base_model.model.").replace(".base_layer.", ".").replace(".modules_to_save.default.", ".")
