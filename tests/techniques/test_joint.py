"""Joint training: domains in balance, source rows told apart, and few target rows that gain by them."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

from hf_smalldata.data.made import real
from hf_smalldata.pipeline import train
from hf_smalldata.recipe import Recipe
from hf_smalldata.techniques.domain.joint import Joint, repeats
from hf_smalldata.testing import TOPICS, text_rows


def test_small_domains_are_repeated_as_often_as_balance_says():
    counts = {"": 10, "large": 160, "middle": 40}
    assert repeats(counts, 1.0) == {"": 16, "large": 1, "middle": 4}
    assert repeats(counts, 0.5) == {"": 4, "large": 1, "middle": 2}
    assert repeats(counts, 0.0) == {"": 1, "large": 1, "middle": 1}


def source_of(rows, domain="shop"):
    return rows.map(lambda row: {"id": f"source/{domain}/{row['id']}"}).add_column("domain", [domain] * len(rows))


def test_an_epoch_holds_as_many_rows_of_the_target_as_of_the_source_each_with_its_label(text):
    source = source_of(text_rows(20, seed=3))
    context = replace(text.context(), source=source, facts={})
    made = Joint().rows(text.rows, context)
    texts = Counter(made["text"][:])
    assert len(made) == 60 + 60
    assert all(texts[row["text"]] == 5 for row in text.rows)
    assert len(real(made)) == 12
    labels = {row["text"]: row["label"] for rows in (text.rows, source) for row in rows}
    assert all(row["label"] == labels[row["text"]] for row in made)
    assert "domain" not in made.column_names
    assert context.facts["joint"]["repeats"] == {"target": 5, "shop": 1}


def accuracy(text, folder, techniques, sources):
    names = list(TOPICS)
    for name, per_class, seed in (("train", 2, 0), ("test", 20, 1), ("other", 40, 2)):
        frame = text_rows(per_class, seed).to_pandas()
        frame.assign(label=[names[at] for at in frame["label"]])[["text", "label"]].to_csv(
            folder / f"{name}.csv", index=False
        )
    run = train(Recipe.parse({
        "task": "text-classification", "model": text.spec.model_dump(),
        "data": {"train": str(folder / "train.csv"), "test": str(folder / "test.csv"),
                 **({"source": str(folder / "other.csv")} if sources else {})},
        "techniques": techniques,
        "train": {"num_train_epochs": 4, "learning_rate": 3e-3, "per_device_train_batch_size": 8, "disable_tqdm": True},
    }), folder / f"run-{len(techniques)}")  # fmt: skip
    return run.metrics["runs"][0]["accuracy"], run.metrics["rows"]


def test_few_target_rows_gain_by_many_of_a_source(text, tmp_path, no_page):
    alone, _ = accuracy(text, tmp_path, [], False)
    together, rows = accuracy(text, tmp_path, ["joint"], True)
    assert together > alone + 0.2
    assert rows == {"train": 6, "pool": 6, "validation": 0, "test": 60, "source": 120}
