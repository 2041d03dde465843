"""Back-translation: variants of training texts by way of another language and back.

Helps with some tens to hundreds of whole sentences: wording changes, meaning mostly stays. Does little for single words
and tweets, and hurts where the wording is the label, as in tone, dialect or spelling.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Annotated, ClassVar, Literal

from datasets import Dataset
from huggingface_hub import cached_assets_path
from pydantic import Field, PositiveFloat, PositiveInt, model_validator
from tqdm.auto import tqdm

from hf_smalldata.data.made import real, rng_of
from hf_smalldata.tasks.pretrained import locate, told_of
from hf_smalldata.tasks.task import ModelSpec
from hf_smalldata.technique import Context, Technique
from hf_smalldata.techniques.augment.translating import Translator
from hf_smalldata.techniques.augment.variants import Variant, with_variants

MODELS = ("Helsinki-NLP/opus-mt-en-de", "Helsinki-NLP/opus-mt-de-en")  # for English texts
AT_ONCE = 256  # texts, after which what was translated is kept


class BackTranslation(Technique):
    """Each row's text in the words of two translation models; its label stays.

    The paper translates back what only exists in the target language; here there and back are both by a model. Drawn
    translations (`method: sampling`) are more varied and less safe than the best ones, see
    https://arxiv.org/abs/1808.09381. A text has the same variants in all seeds, so that it is translated once: they
    are kept in the Hub's cache of assets (HF_ASSETS_CACHE), by text, models and settings.
    """

    name = "back_translation"
    tasks = frozenset({"text-classification"})
    paper = "https://arxiv.org/abs/1511.06709"
    paths = ("there", "back")
    extra: ClassVar[str | None] = "text"  # for Marian models

    there: str | None = None  # a Hub id or a folder; default: Helsinki-NLP/opus-mt-en-de
    back: str | None = None  # default: Helsinki-NLP/opus-mt-de-en
    revision_there: str | None = None
    revision_back: str | None = None
    n_aug: int = Field(default=1, ge=0)  # variants of a row
    method: Literal["beam", "sampling"] = "beam"
    beams: PositiveInt = 5  # at least n_aug; with beam
    temperature: PositiveFloat = 0.8  # near 0 the likeliest word; with sampling
    top_k: PositiveInt = 20  # tokens that are drawn from; with sampling
    min_similarity: Annotated[float, Field(ge=0, le=1)] = 0.5  # cosine with the row, by the recipe's model; 0: any
    max_length_ratio: float = Field(default=2.0, ge=1)  # of the longer to the shorter of row and variant, in characters

    @model_validator(mode="after")
    def _check_beams(self) -> BackTranslation:
        if self.method == "beam" and self.beams < self.n_aug:
            raise ValueError(f"beams: expected at least n_aug = {self.n_aug}, got {self.beams}")
        return self

    def rows(self, train: Dataset, ctx: Context) -> Dataset:
        """Training rows, and behind them the variants.

        Raises:
            UserError: no such translation model.
        """
        if self.n_aug == 0:
            return train
        return with_variants(self, train, ctx, self.min_similarity, lambda: self._variants(real(train)))

    def _variants(self, originals: Dataset) -> tuple[list[Variant], dict[str, int]]:
        texts = originals["text"][:]
        specs = (ModelSpec(name=self.there or MODELS[0], revision=self.revision_there),
                 ModelSpec(name=self.back or MODELS[1], revision=self.revision_back))  # fmt: skip
        settings = self.model_dump(include={"n_aug", "method", "beams", "temperature", "top_k"})
        with told_of({"model.name:": "techniques.back_translation:"}):
            key = json.dumps([[spec.model_dump(), _state(spec)] for spec in specs] + [settings])
            place = cached_assets_path("hf_smalldata", "translations") / "texts.sqlite"
            found = kept(place, key, texts, lambda some: self._round_trip(specs, some))
        variants = [
            {"parent": row_id, "text": variant}
            for row_id, text in zip(originals["id"], texts, strict=True)
            for variant in found[text]
        ]
        parents = dict(zip(originals["id"], texts, strict=True))
        even = [each for each in variants if ratio(each["text"], parents[each["parent"]]) <= self.max_length_ratio]
        return even, {"uneven": len(variants) - len(even)}

    def _round_trip(self, specs: Sequence[ModelSpec], texts: Sequence[str]) -> Iterator[list[list[str]]]:
        there, back = map(Translator, specs)
        bar = tqdm(range(0, len(texts), AT_ONCE), desc="translating", leave=False, delay=1, disable=None)
        for start in bar:
            some = texts[start : start + AT_ONCE]
            if self.method == "beam":
                middle = [best[0] for best in there.best(some, self.beams)]
                yield back.best(middle, self.beams, self.n_aug)
                continue
            rngs = [rng_of(0, text, number) for text in some for number in range(self.n_aug)]
            draw = self.top_k, self.temperature
            middle = there.drawn([text for text in some for _ in range(self.n_aug)], rngs, *draw)
            ends = back.drawn(middle, rngs, *draw)
            yield [ends[at : at + self.n_aug] for at in range(0, len(ends), self.n_aug)]


def kept(
    file: Path, key: str, texts: Sequence[str], make: Callable[[Sequence[str]], Iterator[list[list[str]]]]
) -> dict[str, list[str]]:
    """What was made of each text: read where it is kept, made where it is not, and kept from then on.

    Args:
        file: a database, made if it is not there; processes may share it.
        key: all that the result depends on besides the text.
        texts: of which some may be alike.
        make: takes texts, and gives lists of strings for one part of them after the other, in their order.
    """
    names = {text: hashlib.sha256(f"{key}\n{text}".encode()).hexdigest() for text in texts}
    with closing(sqlite3.connect(file, timeout=60)) as database:
        with database:
            database.execute("CREATE TABLE IF NOT EXISTS made (name TEXT PRIMARY KEY, texts TEXT NOT NULL)")
        ask = "SELECT texts FROM made WHERE name = ?"
        there = {text: database.execute(ask, (name,)).fetchone() for text, name in names.items()}
        found = {text: json.loads(row[0]) for text, row in there.items() if row}
        missing = [text for text in names if text not in found]
        if missing:
            left = iter(missing)
            for part in make(missing):
                fresh = dict(zip((next(left) for _ in part), part, strict=True))
                with database:
                    rows = [(names[text], json.dumps(each)) for text, each in fresh.items()]
                    database.executemany("INSERT OR REPLACE INTO made VALUES (?, ?)", rows)
                found |= fresh
    return found


def ratio(one: str, other: str) -> float:
    """Characters of the longer text for each of the shorter; infinite beside an empty one."""
    shorter, longer = sorted((len(one), len(other)))
    return longer / shorter if shorter else float("inf")


def _state(spec: ModelSpec) -> list[tuple[str, int, int]]:
    """Of a folder, which may be another model tomorrow: names, sizes and times of its weights; nothing of a Hub id."""
    files = Path(locate(spec.name)).glob("*.safetensors")
    return sorted((file.name, file.stat().st_size, file.stat().st_mtime_ns) for file in files)
