"""Readers on files that nobody meant to write: what comes back is rows or one clear error, never a traceback or a hang.

Some forty files each here; `HF_SMALLDATA_FUZZ=10000 scripts/test tests/data/test_fuzz.py` tries as many of each.
"""

from __future__ import annotations

import json
import os
from contextlib import suppress
from pathlib import Path

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hf_smalldata.data.load import load
from hf_smalldata.data.spec import DataSpec
from hf_smalldata.errors import UserError
from hf_smalldata.recipe import Recipe
from hf_smalldata.yaml_text import read_yaml

MANY = int(os.environ.get("HF_SMALLDATA_FUZZ", "0"))
fuzzed = settings(
    max_examples=MANY or 40, derandomize=not MANY, database=None, deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)  # fmt: skip

TEXTS = [("a fine day", "good"), ("rain again", "bad"), ("sun, at last", "good"), ('he said "no"', "bad")] * 2
CONLL = "John B-PER\nSmith I-PER\nsang O\n\nParis B-LOC\nis O\nfar O\n\nAnna B-PER\nleft O\n\n" * 2
FASTA = ">a label=yes\nACGTACGTAC\n>b label=no\nTTGACATATA\nTTAA\n>c label=yes\nGGCCGGCCAA\n>d label=no\nATATATATGC\n"
RECIPE = {
    "task": "text-classification", "data": {"name": "rows.csv", "labels_per_class": 8}, "model": {"name": "encoder"},
    "techniques": [{"freeze": {"blocks": 3}}, "lora"], "train": {"learning_rate": 1e-3}, "seeds": [0, 1],
}  # fmt: skip
FILES = {
    "rows.csv": ("text", "text,label\n" + "".join(f'"{text.replace(chr(34), 2 * chr(34))}",{label}\n'
                                                  for text, label in TEXTS)),
    "rows.tsv": ("text", "text\tlabel\n" + "".join(f"{text}\t{label}\n" for text, label in TEXTS)),
    "rows.jsonl": ("text", "".join(json.dumps({"text": text, "label": label}) + "\n" for text, label in TEXTS)),
    "rows.json": ("text", json.dumps([{"text": text, "label": label} for text, label in TEXTS])),
    "spans.jsonl": ("tokens", "".join(json.dumps({"text": text, "spans": [{"start": 0, "end": 4, "label": label}]})
                                      + "\n" for text, label in TEXTS)),
    "rows.conll": ("tokens", CONLL),
    "rows.fasta": ("sequence", FASTA),
    "stars.jsonl": ("text", "".join(json.dumps({"text": text, "label": at + 0.5}) + "\n"
                                    for at, (text, _) in enumerate(TEXTS))),
    "words.csv": ("tokens", "tokens,tags\n" + '"[""we"", ""saw"", ""Ann""]","[""O"", ""O"", ""B-PER""]"\n' * 4),
}  # fmt: skip
PIECES = [
    b"", b"\0", b"\xff", b"\xe9", b'"', b"'", b",", b"\t", b"\n", b"\r", b"\n\n", b"{", b"}", b"[", b"]", b":", b">",
    b"null", b"NaN", b"1e999", b"-1", b"B-", b"I-X", b"label", b"text,label", b"\\u0000", b"\\ud800", b"\xe2\x80\xa8",
    b"\xef\xbb\xbf", b"9" * 400, b"9" * 5000, b"[" * 70_000, b"a" * 70_000,
    b"&a [*a]", b"!!python/object:os.system", b"<script>", b"=1+1",
]  # fmt: skip
changes = st.lists(st.tuples(st.floats(0, 1), st.integers(0, 12), st.sampled_from(PIECES)), min_size=1, max_size=6)


def changed(content: bytes, how: list[tuple[float, int, bytes]]) -> bytes:
    """The content with pieces at places (a share of its length) instead of so many bytes."""
    for place, gone, piece in how:
        at = int(place * len(content))
        content = content[:at] + piece + content[at + gone :]
    return content


def reads_or_refuses(file: Path, kind: str) -> None:
    with suppress(UserError):
        splits = load(DataSpec(train=str(file)), kind)
        assert len(splits.train) == len(set(splits.train["id"])) > 0


@pytest.fixture(autouse=True)
def quiet():
    datasets.disable_progress_bars()


@pytest.mark.parametrize("name", FILES)
@fuzzed
@given(how=changes)
def test_a_damaged_file_of_text_is_read_or_refused(name, how, tmp_path):
    kind, content = FILES[name]
    (tmp_path / name).write_bytes(changed(content.encode(), how))
    reads_or_refuses(tmp_path / name, kind)


@fuzzed
@given(content=st.binary(max_size=300), name=st.sampled_from(list(FILES)))
def test_any_bytes_are_read_or_refused(content, name, tmp_path):
    (tmp_path / name).write_bytes(content)
    reads_or_refuses(tmp_path / name, FILES[name][0])


@fuzzed
@given(how=changes)
def test_a_damaged_parquet_file_is_read_or_refused(how, tmp_path):
    file = tmp_path / "rows.parquet"
    pq.write_table(pa.table({"text": [text for text, _ in TEXTS], "label": [label for _, label in TEXTS]}), file)
    file.write_bytes(changed(file.read_bytes(), how))
    reads_or_refuses(file, "text")


@fuzzed
@given(how=changes)
def test_a_damaged_recipe_is_read_or_refused(how, tmp_path):
    file = tmp_path / "recipe.yaml"
    file.write_bytes(changed(yaml.safe_dump(RECIPE).encode(), how))
    with suppress(UserError):
        Recipe.parse(read_yaml(file))


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.sampled_from(list(RECIPE)),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)


@fuzzed
@given(section=st.sampled_from(list(RECIPE)), value=values)
def test_a_recipe_with_any_value_in_a_section_is_read_or_refused(section, value):
    with suppress(UserError):
        Recipe.parse({**RECIPE, section: value})
