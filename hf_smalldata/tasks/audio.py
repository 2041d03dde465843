"""Audio classification, for any `AutoModelForAudioClassification`: wav2vec 2.0 and its kin, Whisper, AST.

Two kinds of model: speech encoders that take a clip of any length, and models with a window of fixed length, which
cost the same for a cough as for a song. `seconds` shortens the window, and the saved model is still a stock one.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from datasets import Dataset
from torch import Tensor, nn
from tqdm.auto import tqdm

from hf_smalldata.data.audio import Waveform, open_audio, sound_facts
from hf_smalldata.data.spec import ProblemType
from hf_smalldata.errors import UserError, require
from hf_smalldata.tasks.pretrained import load_classifier, load_processor
from hf_smalldata.tasks.task import Batch, Features, ModelSpec, Task

MOST_CLIPS = 99.0  # percent, which a window that is set by the clips takes whole
SHORTEST_WINDOW_S = 0.5
LONGEST_S = 30.0  # where neither recipe nor model sets a limit
WHISPER_POSITIONS = 50  # a second, of the encoder
AST_HOP, AST_OVERLAP = 160, 240  # samples: n frames need n * hop + overlap


class AudioClassification(Task):
    """Rows with `audio`; the checkpoint's own feature extractor normalises them or makes spectrograms."""

    name = "audio-classification"
    pipeline_tag = "audio-classification"
    kind = "audio"
    processor_argument = "feature_extractor"
    model_class = "AutoModelForAudioClassification"
    pipeline_arguments: ClassVar[dict[str, Any]] = {"top_k": None}

    def load_processor(self, spec: ModelSpec) -> Any:
        """The feature extractor; its `max_seconds`, saved with it, is where clips are cut.

        Raises:
            UserError: no feature extractor, or `seconds` above what the model can take.
        """
        require("soundfile", extra="audio")
        require("soxr", extra="audio")
        extractor = load_processor("AutoFeatureExtractor", self.model_class, spec)
        window = window_seconds(extractor)
        if spec.seconds is not None and window is not None and spec.seconds > window:
            raise UserError(f"model.seconds: {spec.name} takes at most {window:.4g} seconds, got {spec.seconds:.4g}")
        if spec.seconds is not None and window is not None:
            shorten_extractor(extractor, spec.seconds)
        limit = spec.seconds or getattr(extractor, "max_seconds", LONGEST_S)
        extractor.max_seconds = window_seconds(extractor) or limit
        return extractor

    def settled(self, spec: ModelSpec, processor: Any, rows: Dataset) -> ModelSpec:
        """A window of fixed length becomes as long as 99 of 100 training clips.

        Such a model averages over its window: of half a second of speech in Whisper's 30 little is left but silence.
        """
        window = window_seconds(processor)
        if spec.seconds is not None or window is None:
            return spec
        lengths = [sound_facts(value).seconds for value in rows["audio"]]
        longest = math.ceil(10 * float(np.percentile(lengths, MOST_CLIPS))) / 10
        return spec if longest >= window else spec.model_copy(update={"seconds": max(longest, SHORTEST_WINDOW_S)})

    def load_model(self, spec: ModelSpec, labels: Sequence[str], problem_type: ProblemType) -> nn.Module:
        """A classifier with a new head and, with `seconds`, a window of that length.

        Speech encoders come with two habits of pretraining, masked time spans and left-out layers. Both are switched
        off: on few rows they are a technique to choose, and under them a frozen layer would not give the same twice.
        """
        model: Any = load_classifier(self.model_class, spec, labels, problem_type)
        for field, off in (("apply_spec_augment", False), ("layerdrop", 0.0)):
            if hasattr(model.config, field):
                setattr(model.config, field, off)
        if spec.seconds is not None:
            shorten_model(model, spec.seconds)
        loaded: nn.Module = model
        return loaded

    def decode(self, row: dict[str, Any], processor: Any) -> dict[str, Any]:
        """The row with its whole sound decoded: {"array": float32 (samples,), "sampling_rate": the model's}."""
        rate = processor.sampling_rate
        return {**row, "audio": {"array": open_audio(row["audio"], rate), "sampling_rate": rate}}

    def encode(self, rows: Dataset, processor: Any) -> list[Features]:
        """What the extractor makes of each clip alone, float32: (samples,), (frames, d) or (d, frames)."""
        clips = tqdm(rows["audio"], desc="reading sounds", leave=False, delay=1, disable=None)
        return [_features(_clip(value, processor), processor) for value in clips]

    def collate(self, features: Sequence[Features], processor: Any) -> Batch:
        """Tensors (B, ...); clips of unequal length are padded to the longest, and `attention_mask` (B, T) says where.

        Padding repeats the clip: the mask hides it, but the first layer of the base-sized speech encoders normalises
        over time, padding included, and would take silence for a part of the clip.
        """
        main = processor.model_input_names[0]
        lengths = [len(row[main]) for row in features]
        longest = max(lengths)
        batch = {main: torch.from_numpy(np.stack([_repeated(row[main], longest) for row in features]))}
        if "attention_mask" in features[0]:
            masks = [np.pad(row["attention_mask"], (0, longest - len(row["attention_mask"]))) for row in features]
            batch["attention_mask"] = torch.from_numpy(np.stack(masks)).long()
        elif min(lengths) < longest:
            batch["attention_mask"] = (torch.arange(longest) < torch.tensor(lengths)[:, None]).long()
        return batch

    def pipeline_inputs(self, rows: Dataset, processor: Any) -> list[Any]:
        """Decoded clips at the model's rate, cut where `encode` cuts them."""
        return [_clip(value, processor) for value in rows["audio"]]

    def length(self, features: Features) -> int:
        """Samples or frames; the same for all rows where the window is fixed."""
        main = next(value for name, value in features.items() if name != "attention_mask")
        return len(main)

    def same_length(self, processor: Any) -> bool:
        """Whether a batch must hold rows of one length for each to get the very logits that it gets alone.

        So it is for every model that takes clips of any length: a mask hides padding from attention, but many of them
        normalise over time (wav2vec 2.0, HuBERT and WavLM of base size) or convolve across it (SEW, data2vec).
        """
        return window_seconds(processor) is None


def window_seconds(extractor: Any) -> float | None:
    """Length of the fixed window that an extractor cuts and pads clips to; None where it leaves their length."""
    if hasattr(extractor, "chunk_length"):  # Whisper
        return float(extractor.chunk_length)
    if hasattr(extractor, "max_length") and hasattr(extractor, "num_mel_bins"):  # AST
        return float((extractor.max_length * AST_HOP + AST_OVERLAP) / extractor.sampling_rate)
    return None


def shorten_extractor(extractor: Any, seconds: float) -> None:
    """Set a shorter window. Whisper's is a whole number of seconds, rounded up: its extractor keeps no other."""
    if hasattr(extractor, "chunk_length"):
        extractor.chunk_length = math.ceil(seconds)
        extractor.n_samples = extractor.chunk_length * extractor.sampling_rate
        extractor.nb_max_frames = extractor.n_samples // extractor.hop_length
    else:
        extractor.max_length = _ast_frames(seconds)


def shorten_model(model: Any, seconds: float) -> None:
    """Fit a model's positions to the window of `shorten_extractor`; models without a window stay as they are."""
    if model.config.model_type == "whisper":
        encoder, count = model.encoder, WHISPER_POSITIONS * math.ceil(seconds)
        kept = encoder.embed_positions.weight.detach()[:count].clone()  # sinusoids: the first are those of the start
        encoder.embed_positions = nn.Embedding(count, kept.shape[1], _weight=kept, _freeze=True)
        model.config.max_source_positions = encoder.max_source_positions = count
    elif model.config.model_type == "audio-spectrogram-transformer":
        embeddings = model.base_model.embeddings
        rows, columns = embeddings.get_shape(model.config)
        model.config.max_length = _ast_frames(seconds)
        _, fewer = embeddings.get_shape(model.config)
        kept = middle_positions(embeddings.position_embeddings.detach(), rows, columns, fewer)
        embeddings.position_embeddings = nn.Parameter(kept)


def middle_positions(positions: Tensor, rows: int, columns: int, fewer: int) -> Tensor:
    """Learnt positions of a shorter spectrogram: the middle of the long one, as AST's authors cut them.

    Source: section 2.2 of https://arxiv.org/abs/2104.01778 and its code, `ast_models.py`.

    Args:
        positions: (1, 2 + rows * columns, d): two special tokens, then patches, time within frequency.
        rows: patches in frequency.
        columns: patches in time.
        fewer: patches in time to keep.
    """
    special, patches = positions[:, :2], positions[:, 2:]
    start = columns // 2 - fewer // 2
    grid = patches.reshape(1, rows, columns, -1)[:, :, start : start + fewer]
    return torch.cat([special, grid.flatten(1, 2)], dim=1).clone()


def _ast_frames(seconds: float) -> int:
    return max(round(seconds * 100), 16)  # a patch is 16 frames


def _clip(value: Any, processor: Any) -> Waveform:
    return open_audio(value, processor.sampling_rate, processor.max_seconds)


def _features(clip: Waveform, processor: Any) -> Features:
    made = processor(clip, sampling_rate=processor.sampling_rate, return_tensors="np")
    return {name: value[0] if name == "attention_mask" else value[0].astype(np.float32) for name, value in made.items()}


def _repeated(values: np.ndarray[Any, Any], length: int) -> np.ndarray[Any, Any]:
    return values if len(values) == length else np.resize(values, (length, *values.shape[1:]))
