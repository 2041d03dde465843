"""A test kit: tiny models built in code and rows that can be learnt, for tests of techniques without any download.

Use it in your own tests of your own techniques: `tiny_text_model(folder)` writes an ordinary model folder.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from datasets import Dataset
from PIL import Image
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    PreTrainedTokenizerFast,
    ViTConfig,
    ViTForImageClassification,
    ViTImageProcessor,
)

TOPICS = {
    "animals": ("cat", "dog", "horse", "bird", "fish", "cow"),
    "food": ("bread", "rice", "soup", "cake", "apple", "cheese"),
    "weather": ("rain", "snow", "wind", "storm", "cloud", "sun"),
}
FILLER = ("the", "a", "is", "was", "very", "and", "then", "we", "saw", "today", "some", "quite")
COLOURS = {"red": (200, 40, 40), "green": (40, 180, 60), "blue": (50, 60, 210)}


def text_rows(per_class: int, seed: int = 0, classes: int = 3) -> Dataset:
    """Short texts of uneven length, each about one topic: columns id, text, label (class index)."""
    rng = np.random.default_rng(seed)
    rows = []
    for index in range(per_class * classes):
        label = index % classes
        words = [*rng.choice(list(TOPICS.values())[label], 2), *rng.choice(FILLER, rng.integers(2, 14))]
        rows.append({"id": f"{seed}:{index}", "text": " ".join(rng.permutation(words)), "label": label})
    return Dataset.from_list(rows)


def image_of(label: int, rng: np.random.Generator, side: int = 40) -> Image.Image:
    """A noisy picture in the colour of its class."""
    colour = np.array(list(COLOURS.values())[label])
    return Image.fromarray((colour + rng.normal(0, 30, (side, side, 3))).clip(0, 255).astype(np.uint8))


def image_folder(folder: Path, per_class: int, seed: int = 0, classes: int = 3) -> Path:
    """A folder of class folders with png files in it."""
    rng = np.random.default_rng(seed)
    for label, name in enumerate(list(COLOURS)[:classes]):
        (folder / name).mkdir(parents=True, exist_ok=True)
        for index in range(per_class):
            image_of(label, rng).save(folder / name / f"{index}.png")
    return folder


def tiny_text_model(folder: Path, layers: int = 2, seed: int = 0, dropout: float = 0.1) -> Path:
    """A BERT of 32 features with a word tokenizer; random weights, safetensors, an ordinary model folder."""
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *FILLER, *(word for topic in TOPICS.values() for word in topic)]
    backend = Tokenizer(models.WordLevel({word: index for index, word in enumerate(words)}, unk_token="[UNK]"))
    backend.normalizer = normalizers.Lowercase()
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    backend.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend, pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]", sep_token="[SEP]",
        model_max_length=64,
    )  # fmt: skip
    torch.manual_seed(seed)
    config = BertConfig(
        vocab_size=len(words), hidden_size=32, num_hidden_layers=layers, num_attention_heads=2, intermediate_size=64,
        max_position_embeddings=64, hidden_dropout_prob=dropout, attention_probs_dropout_prob=dropout,
        initializer_range=0.2,
    )  # fmt: skip
    BertForSequenceClassification(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def tiny_image_model(folder: Path, layers: int = 2, seed: int = 0) -> Path:
    """A ViT of 32 features for 32 x 32 pixels; random weights, safetensors, an ordinary model folder."""
    torch.manual_seed(seed)
    config = ViTConfig(
        hidden_size=32, num_hidden_layers=layers, num_attention_heads=2, intermediate_size=64, image_size=32,
        patch_size=8, initializer_range=0.2,
    )  # fmt: skip
    ViTForImageClassification(config).save_pretrained(folder)
    ViTImageProcessor(size={"height": 32, "width": 32}).save_pretrained(folder)
    return folder
