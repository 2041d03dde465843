"""Waveform: noise, echoes, other speeds and pitches, poorer microphones and lines, drawn anew for each training clip.

Helps when few clips were recorded in a quiet room and those to predict come from other rooms, devices and voices: give
recordings of such noise and rooms where you have them. Does little where all clips come from one place. Hurts when the
label is what it changes: no pitch or speed for notes, birds and engines, no shift for what happens once at the edge.
Each epoch encodes anew: frozen blocks are not computed once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Annotated, Any, Self

import numpy as np
from datasets import Dataset
from pydantic import AfterValidator, Field, model_validator

from hf_smalldata.data.audio import Waveform as Samples
from hf_smalldata.technique import Context, Technique
from hf_smalldata.techniques.augment.sounds import (
    Codec,
    coded,
    decaying,
    echoed,
    faster,
    higher,
    later,
    louder,
    noisy,
    recording,
    recordings,
    stretch_of,
)

Span = tuple[float, float]


def _ordered(span: Span) -> Span:
    if span[0] > span[1]:
        raise ValueError(f"expected [least, most], got {list(span)}")
    return span


ORDERED = AfterValidator(_ordered)
Times = Annotated[float, Field(ge=0.5, le=2)]
Semitones = Annotated[float, Field(ge=-12, le=12)]
Seconds = Annotated[float, Field(ge=0, le=10)]
Shift = Annotated[float, Field(ge=-60, le=60)]
Ratio = Annotated[float, Field(ge=-20, le=100)]
Gain = Annotated[float, Field(ge=-60, le=60)]


class Waveform(Technique):
    """Changes of the waveform in the order of nature: source, room, noise, microphone, line.

    Each has a span, from which its strength is drawn, every value alike likely; a default that says "off" changes
    nothing. Whisper, AST and most wav2vec 2.0 extractors scale each clip: a gain then matters before a codec only.
    """

    name = "waveform"
    tasks = frozenset({"audio-classification"})
    extra = "audio"
    paper = "https://doi.org/10.21437/Interspeech.2015-711"  # of the speed; the others are older
    paths = ("noise", "rooms")

    probability: float = Field(default=0.5, ge=0, le=1)  # of each change, apart from the others
    speed: Annotated[tuple[Times, Times], ORDERED] = (0.9, 1.1)  # times as fast, pitch goes along; off: [1, 1]
    pitch_semitones: Annotated[tuple[Semitones, Semitones], ORDERED] = (0.0, 0.0)  # at the same speed
    shift_seconds: Annotated[tuple[Shift, Shift], ORDERED] = (0.0, 0.0)  # later; < 0: earlier
    reverb_seconds: Annotated[tuple[Seconds, Seconds], ORDERED] = (0.0, 0.0)  # until a made-up echo has lost 60 dB
    rooms: str | None = None  # a folder of recorded impulse responses, in place of made-up echoes
    noise_snr_db: Annotated[tuple[Ratio, Ratio], ORDERED] | None = (10.0, 30.0)  # None: off
    noise: str | None = None  # a folder of recorded noise, in place of white noise
    gain_db: Annotated[tuple[Gain, Gain], ORDERED] = (0.0, 0.0)
    codecs: tuple[Codec, ...] = ()  # one of them

    @model_validator(mode="after")
    def _check_pairs(self) -> Self:
        if self.rooms is not None and any(self.reverb_seconds):
            raise ValueError("expected `rooms` or `reverb_seconds`, got both; leave one out")
        if self.noise is not None and self.noise_snr_db is None:
            raise ValueError("`noise` needs `noise_snr_db`, such as [10, 30]")
        return self

    def check(self, train: Dataset, ctx: Context) -> None:
        """Folders are looked through."""
        for field in self.paths:
            if (folder := getattr(self, field)) is not None:
                recordings(folder, f"waveform.{field}")

    def example(self, example: dict[str, Any]) -> dict[str, Any]:
        """A row with its decoded sound changed."""
        sound, rng = example["audio"], example["rng"]
        samples = sound["array"]
        for change in self._changes(sound["sampling_rate"], rng):
            if rng.random() < self.probability:
                samples = change(samples)
        return {**example, "audio": {**sound, "array": samples}}

    def _changes(self, rate_hz: int, rng: np.random.Generator) -> Iterator[Callable[[Samples], Samples]]:
        """Those that are on; each draws its strength when it is called."""

        def drawn(span: Span) -> float:
            return float(rng.uniform(*span))

        if self.speed != (1, 1):
            yield lambda samples: faster(samples, drawn(self.speed), rate_hz)
        if any(self.pitch_semitones):
            yield lambda samples: higher(samples, drawn(self.pitch_semitones), rate_hz, int(rng.integers(2**31)))
        if any(self.shift_seconds):
            yield lambda samples: later(samples, round(drawn(self.shift_seconds) * rate_hz))
        if (rooms := self.rooms) is not None:
            yield lambda samples: echoed(samples, recording(rooms, rate_hz, rng))
        if any(self.reverb_seconds):
            yield lambda samples: echoed(samples, decaying(drawn(self.reverb_seconds), rate_hz, rng))
        if (ratio := self.noise_snr_db) is not None:
            yield lambda samples: noisy(samples, self._noise(len(samples), rate_hz, rng), drawn(ratio))
        if any(self.gain_db):
            yield lambda samples: louder(samples, drawn(self.gain_db))
        if self.codecs:
            yield lambda samples: coded(samples, self.codecs[rng.integers(len(self.codecs))], rate_hz)

    def _noise(self, count: int, rate_hz: int, rng: np.random.Generator) -> Samples:
        if self.noise is None:
            return rng.standard_normal(count, np.float32)
        return stretch_of(recording(self.noise, rate_hz, rng), count, rng)
