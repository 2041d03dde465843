"""A test kit: tiny models built in code and rows that can be learnt, for tests of techniques without any download.

Use it in your own tests of your own techniques: `tiny_text_model(folder)` writes an ordinary model folder.
"""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from datasets import Dataset
from PIL import Image
from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import (
    ASTConfig,
    ASTFeatureExtractor,
    ASTForAudioClassification,
    BertConfig,
    BertForMaskedLM,
    BertForSequenceClassification,
    BertTokenizer,
    FeatureExtractionMixin,
    HubertConfig,
    HubertForSequenceClassification,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    ViTConfig,
    ViTForImageClassification,
    ViTImageProcessor,
    Wav2Vec2Config,
    Wav2Vec2FeatureExtractor,
    Wav2Vec2ForSequenceClassification,
    WhisperConfig,
    WhisperFeatureExtractor,
    WhisperForAudioClassification,
)

from hf_smalldata.errors import require

TOPICS = {
    "animals": ("cat", "dog", "horse", "bird", "fish", "cow"),
    "food": ("bread", "rice", "soup", "cake", "apple", "cheese"),
    "weather": ("rain", "snow", "wind", "storm", "cloud", "sun"),
}
FILLER = ("the", "a", "is", "was", "very", "and", "then", "we", "saw", "today", "some", "quite")
MOTIF = "TATAAT"  # of bacterial promoters, 10 letters before the start
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


def token_rows(count: int, seed: int = 0) -> Dataset:
    """Sentences that name animals and foods by two words, such as "cat bird".

    Columns id, text, tokens, starts and label: indices of O, B-animals, I-animals, B-food, I-food.
    """
    rng = np.random.default_rng(seed)
    rows: list[dict[str, Any]] = []
    for index in range(count):
        words = list(rng.choice(FILLER, rng.integers(3, 9)))
        tags = [0] * len(words)
        for kind, topic in enumerate(("animals", "food")):
            if rng.random() < 0.7:
                at = int(rng.integers(0, len(words) + 1))
                while at < len(words) and tags[at] > 0 and tags[at] % 2 == 0:
                    at += 1  # not into another name
                name = rng.choice(TOPICS[topic][:3]), rng.choice(TOPICS[topic][3:])
                words[at:at], tags[at:at] = list(name), [2 * kind + 1, 2 * kind + 2]
        starts = [len(" ".join(words[:at])) + bool(at) for at in range(len(words))]
        rows.append(
            {"id": f"{seed}:{index}", "text": " ".join(words), "tokens": words, "starts": starts, "label": tags}
        )
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


def tiny_masked_model(folder: Path, layers: int = 2, seed: int = 0) -> Path:
    """A BERT of 32 features that fills in masked words, names of topics among them; random weights."""
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", ".", "it", *FILLER, *TOPICS,
             *(word for topic in TOPICS.values() for word in topic)]  # fmt: skip
    torch.manual_seed(seed)
    config = BertConfig(
        vocab_size=len(words), hidden_size=32, num_hidden_layers=layers, num_attention_heads=2, intermediate_size=128,
        max_position_embeddings=64, initializer_range=0.2,
    )  # fmt: skip
    BertForMaskedLM(config).save_pretrained(folder)
    BertTokenizer({word: at for at, word in enumerate(words)}, model_max_length=64).save_pretrained(folder)
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


def audio_folder(folder: Path, per_class: int, seed: int = 0, rate_hz: int = 8000) -> Path:
    """A folder of class folders with wav files in it, 0.3 to 0.6 s each: a rising, a falling or a steady tone."""
    soundfile = require("soundfile", extra="audio")
    rng = np.random.default_rng(seed)
    for name, octaves_a_second in (("falling", -3.0), ("rising", 3.0), ("steady", 0.0)):
        (folder / name).mkdir(parents=True, exist_ok=True)
        for index in range(per_class):
            count = int(rng.integers(3 * rate_hz // 10, 6 * rate_hz // 10))
            time = (np.arange(count) - count / 2) / rate_hz
            frequency = rng.uniform(400, 600) * 2 ** (octaves_a_second * time)
            tone = np.sin(2 * np.pi * np.cumsum(frequency) / rate_hz) + rng.normal(0, 0.05, count)
            soundfile.write(folder / name / f"{index}.wav", 0.3 * tone, rate_hz)
    return folder


def tiny_audio_model(
    folder: Path, kind: Literal["wav2vec2", "hubert", "whisper", "ast"] = "wav2vec2", layers: int = 2, seed: int = 0
) -> Path:
    """An audio classifier of 32 features; random weights, safetensors, an ordinary model folder.

    Of the speech encoders, `wav2vec2` masks its padding, as the large checkpoints do, and `hubert` normalises over
    time, as the base ones do.
    """
    torch.manual_seed(seed)
    body: dict[str, Any] = {
        "hidden_size": 32, "num_hidden_layers": layers, "num_attention_heads": 2, "intermediate_size": 64,
        "initializer_range": 0.2,
    }  # fmt: skip
    stem: dict[str, Any] = {
        "conv_dim": (16, 16), "conv_kernel": (40, 8), "conv_stride": (40, 8), "num_conv_pos_embeddings": 8,
        "num_conv_pos_embedding_groups": 2, "classifier_proj_size": 16,
    }  # fmt: skip
    model: PreTrainedModel
    extractor: FeatureExtractionMixin
    if kind == "wav2vec2":
        model = Wav2Vec2ForSequenceClassification(Wav2Vec2Config(**body, **stem, feat_extract_norm="layer"))
        extractor = Wav2Vec2FeatureExtractor(return_attention_mask=True)
    elif kind == "hubert":
        model = HubertForSequenceClassification(HubertConfig(**body, **stem))
        extractor = Wav2Vec2FeatureExtractor()
    elif kind == "whisper":
        model = WhisperForAudioClassification(WhisperConfig(
            d_model=32, encoder_layers=layers, encoder_attention_heads=2, encoder_ffn_dim=64, num_mel_bins=16,
            max_source_positions=200, init_std=0.2, classifier_proj_size=16, decoder_layers=1, vocab_size=8,
            pad_token_id=0, bos_token_id=0, eos_token_id=0, decoder_start_token_id=0, suppress_tokens=None,
            begin_suppress_tokens=None,
        ))  # fmt: skip
        extractor = WhisperFeatureExtractor(feature_size=16, chunk_length=4)
    else:
        model = ASTForAudioClassification(ASTConfig(**body, num_mel_bins=32, max_length=128))
        extractor = ASTFeatureExtractor(num_mel_bins=32, max_length=128)
    model.save_pretrained(folder)
    extractor.save_pretrained(folder)
    return folder


def sequence_rows(per_class: int, seed: int = 0) -> Dataset:
    """DNA of uneven length, with the motif TATAAT or without: columns id, sequence, label (class index)."""
    rng = np.random.default_rng(seed)
    rows = []
    for index in range(per_class * 2):
        letters = "".join(rng.choice(list("ACGT"), rng.integers(24, 40))).replace(MOTIF, "GCGCGC")
        at = rng.integers(0, len(letters) - len(MOTIF))
        found = letters[:at] + MOTIF + letters[at + len(MOTIF) :] if index % 2 else letters
        rows.append({"id": f"{seed}:{index}", "sequence": found, "label": index % 2})
    return Dataset.from_list(rows)


def tiny_sequence_model(
    folder: Path,
    spelling: Literal["letters", "kmers", "esm"] = "letters",
    alphabet: str = "ACGTN",
    layers: int = 2,
    seed: int = 0,
) -> Path:
    """A BERT of 32 features for 64 tokens that wants sequences spelled in one way, all else being [UNK] to it.

    Args:
        folder: of the model.
        spelling: letters between blanks, overlapping 3-mers of ACGT between blanks, or the sequence as it is.
        alphabet: letters it knows; not of 3-mers.
        layers: of the network.
        seed: of its random weights.
    """
    words = ["".join(each) for each in itertools.product("ACGT", repeat=3)] if spelling == "kmers" else list(alphabet)
    vocabulary = {word: index for index, word in enumerate(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *words])}
    backend = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    apart = pre_tokenizers.Split(Regex("."), "isolated")
    backend.pre_tokenizer = apart if spelling == "esm" else pre_tokenizers.WhitespaceSplit()
    backend.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend, pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]", sep_token="[SEP]",
        mask_token="[MASK]", model_max_length=64,
    )  # fmt: skip
    torch.manual_seed(seed)
    config = BertConfig(
        vocab_size=len(vocabulary), hidden_size=32, num_hidden_layers=layers, num_attention_heads=2,
        intermediate_size=64, max_position_embeddings=64, initializer_range=0.2,
    )  # fmt: skip
    BertForSequenceClassification(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def tiny_causal_model(folder: Path, layers: int = 2, seed: int = 0) -> Path:
    """A Llama of 32 features that writes word after word, names of topics and a colon among them; random weights."""
    words = ["</s>", "<unk>", ":", ",", "nothing", *FILLER, *TOPICS]
    words += [word for topic in TOPICS.values() for word in topic]
    backend = Tokenizer(models.WordLevel({word: at for at, word in enumerate(words)}, unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=len(words), hidden_size=32, num_hidden_layers=layers, num_attention_heads=2, intermediate_size=64,
        max_position_embeddings=256, initializer_range=0.1, bos_token_id=None, eos_token_id=0, pad_token_id=0,
    )  # fmt: skip
    LlamaForCausalLM(config).save_pretrained(folder)
    PreTrainedTokenizerFast(
        tokenizer_object=backend, eos_token="</s>", unk_token="<unk>", pad_token="</s>", model_max_length=256
    ).save_pretrained(folder)
    return folder
