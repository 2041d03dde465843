"""Sounds: files that libsndfile reads."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from datasets import Dataset

from hf_smalldata.data import audio
from hf_smalldata.data.modalities.files import FilesModality
from hf_smalldata.data.similar import Pair
from hf_smalldata.data.similar_sounds import similar_sounds
from hf_smalldata.data.table import FILE

_HASH_RATE_HZ = 8000


class Sounds(FilesModality):
    """Rows with `audio`."""

    kind = "audio"
    feature = FILE
    input_names = (
        ("audio", "sound", "wav", "clip", "recording", "speech"),
        ("audio_path", "file_name", "filename", "audio_file", "path", "file", "wav_path"),
    )
    a_file_each = "audio files"

    def encoded(self, value: Any) -> Mapping[str, Any]:
        """Paths, bytes and {"bytes", "path"} as they are; waveforms as the bytes of a wav file."""
        return audio.as_file(value)

    def check(self, rows: Dataset, where: str) -> list[str]:
        """Every file opens and holds a sound."""
        return audio.check_sounds(rows["audio"], rows["id"], where)

    def accepts(self, file: Path) -> bool:
        """By its ending."""
        return file.suffix.lower() in audio.SUFFIXES

    def similar(self, rows: Dataset) -> list[Pair]:
        """By an acoustic fingerprint."""
        return similar_sounds((audio.open_audio(value, _HASH_RATE_HZ) for value in rows["audio"]), _HASH_RATE_HZ)

    def shown(self, row: Mapping[str, Any]) -> Any:
        """The sound, decoded for a player."""
        return audio.for_player(row["audio"])
