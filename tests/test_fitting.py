"""What happens within a training: draws, seeds, the best epoch, class weights, collapse, divergence."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import ClassVar

import numpy as np
import pandas as pd
import pytest
import torch
import transformers
from safetensors.torch import load_file
from scipy import stats
from transformers import TrainerCallback

from hf_smalldata import bundle, fitting, pipeline
from hf_smalldata.data.made import with_made
from hf_smalldata.errors import UserError
from hf_smalldata.fitting import Fitting
from hf_smalldata.recipe import Recipe
from hf_smalldata.run import Run
from hf_smalldata.tasks import get_task
from hf_smalldata.technique import Technique
from hf_smalldata.testing import TOPICS, text_rows, tiny_text_model
from hf_smalldata.training.selection import CRITERIA

TASK = "text-classification"


@pytest.fixture(scope="module")
def bert(tmp_path_factory):
    return tiny_text_model(tmp_path_factory.mktemp("models") / "bert")


@pytest.fixture(scope="module")
def rows(tmp_path_factory) -> str:
    """36 rows a class in a csv."""
    table = text_rows(36)
    file = tmp_path_factory.mktemp("rows") / "topics.csv"
    names = [list(TOPICS)[label] for label in table["label"]]
    pd.DataFrame({"text": table["text"], "label": names}).to_csv(file, index=False)
    return str(file)


@pytest.fixture(autouse=True)
def _unproven(monkeypatch):
    """Without the proof that the saved folder reloads: that is tested in test_pipeline."""
    monkeypatch.setattr(bundle, "prove", lambda *_: 0.0)


@pytest.fixture
def train(bert, rows, tmp_path):
    """Train on few rows; settings by section."""

    def run(out="out", techniques=(), seeds=(0,), train=(), objects=None, **data) -> Run:
        settings = {"learning_rate": 1e-3, "num_train_epochs": 3, **dict(train)}
        made = Recipe.parse({"task": TASK, "data": {"name": rows, **data}, "model": {"name": str(bert)},
                             "techniques": list(techniques), "train": settings, "seeds": list(seeds)})  # fmt: skip
        return pipeline.train(made, tmp_path / out, objects=objects)

    return run


class Own(Technique):
    """A technique of a test; its class attributes are what the test looks at."""

    name = "own"
    tasks = frozenset({TASK})


def test_no_test_or_validation_row_is_among_the_training_rows(train):
    record = train(validation_fraction=0.2, labels_per_class=4, seeds=(0, 1), train={"num_train_epochs": 1}).rows
    drawn = {row for ids in record["train"].values() for row in ids}
    parts = [drawn, set(record["validation"]), set(record["test"])]
    assert all(parts)
    assert sum(map(len, parts)) == len(set.union(*parts))


def test_each_seed_draws_its_own_rows_and_as_many_of_each_class(train, rows):
    run = train(labels_per_class=4, seeds=(0, 1), train={"num_train_epochs": 1})
    labels = pd.read_csv(rows)["label"]
    for ids in run.rows["train"].values():
        assert Counter(labels[int(row.rpartition(":")[2])] for row in ids) == dict.fromkeys(TOPICS, 4)
    assert set(run.rows["train"]["0"]) != set(run.rows["train"]["1"])
    assert [fact["train_rows"] for fact in run.metrics["runs"]] == [12, 12]


def test_several_seeds_give_t_intervals_and_the_model_of_the_first(train, rows):
    run = train(labels_per_class=8, seeds=(3, 1, 2), train={"num_train_epochs": 4})
    losses = [fact["log_loss"] for fact in run.metrics["runs"]]
    found = run.metrics["results"]["model"]["log_loss"]
    half = stats.t.ppf(0.975, 2) * np.std(losses, ddof=1) / np.sqrt(3)
    assert found["value"] == pytest.approx(np.mean(losses))
    assert found["high"] - found["value"] == pytest.approx(half)
    assert "Student's t over seeds" in run.metrics["interval"]
    texts = pd.read_csv(rows)["text"]
    classify = transformers.pipeline(TASK, model=str(run.folder))
    differences = {}
    for seed, part in run.predictions.groupby("seed"):
        answers = classify([texts[int(row.rpartition(":")[2])] for row in part["id"]], top_k=3)
        ours = [{one["label"]: one["score"] for one in answer}["food"] for answer in answers]
        differences[seed] = np.abs(np.array(ours) - part["score: food"]).max()
    assert differences[3] < 1e-4
    assert min(differences[1], differences[2]) > 1e-3


def test_rows_of_another_run_are_used_again_exactly(train):
    first = train("first", labels_per_class=4, seeds=(0, 1), validation_fraction=0.1, split_seed=5)
    second = train("second", rows=str(first.part("rows.json")), seeds=(0, 1))
    assert second.rows == first.rows
    assert sorted(second.predictions["id"]) == sorted(first.predictions["id"])
    with pytest.raises(UserError, match="no draw of seed 2"):
        train("third", rows=str(first.part("rows.json")), seeds=(2,))


def test_objects_of_pandas_are_trained_on_like_files(train, rows):
    table = pd.read_csv(rows)
    from_file, from_memory = train("file"), train("memory", objects={"train": table})
    assert len(from_memory.predictions) == len(from_file.predictions)
    held_out = train("both", objects={"train": table[:60], "test": table[60:70]})
    assert (held_out.metrics["rows"]["train"], held_out.metrics["rows"]["test"]) == (60, 10)


class Watch(TrainerCallback):
    def __init__(self, seen):
        self.seen = seen

    def on_evaluate(self, args, state, control, metrics, **kwargs):
        self.seen.append(metrics["eval_log_loss"])


class Watched(Own):
    seen: ClassVar[list] = []

    def callbacks(self):
        return [Watch(self.seen)]


def validation_loss(run: Run) -> float:
    """Log-loss of the saved model on the validation rows, computed by plain transformers."""
    made = Recipe.read(run.part("recipe.yaml"))
    held = pipeline.read_rows(made, get_task(TASK)).validation
    tokenizer = transformers.AutoTokenizer.from_pretrained(run.folder)
    model = transformers.AutoModelForSequenceClassification.from_pretrained(run.folder)
    with torch.no_grad():
        logits = model(**tokenizer(held["text"][:], padding=True, return_tensors="pt")).logits
    return torch.nn.functional.cross_entropy(logits, torch.tensor(held["label"][:])).item()


def test_early_stopping_ends_training_and_restores_the_best_epoch(train, monkeypatch):
    monkeypatch.setattr(Watched, "seen", [])
    monkeypatch.setattr(Recipe, "to_yaml", lambda self: original(self.model_copy(update={"techniques": ()})))
    settings = {"learning_rate": 1e-2, "num_train_epochs": 30, "metric_for_best_model": "log_loss",
                "early_stopping_patience": 2}  # fmt: skip
    run = train(techniques=[Watched()], validation_fraction=0.3, train=settings)
    best = int(np.argmin(Watched.seen))
    assert len(Watched.seen) == best + 1 + 2 < 30
    assert run.metrics["runs"][0]["epochs"] == len(Watched.seen)
    assert validation_loss(run) == pytest.approx(Watched.seen[best], abs=1e-4)
    assert Watched.seen[-1] > Watched.seen[best] + 1e-3


@pytest.mark.parametrize(("criterion", "best_of"), [("entropy", min), ("mutual_information", max)])
def test_unlabelled_rows_tell_the_best_epoch(train, tmp_path, criterion, best_of, caplog, monkeypatch):
    monkeypatch.setattr(Fitting, "_collapsed", lambda *_: False)
    texts = [f"{text} again" for text in text_rows(8, seed=9)["text"]]
    asked = tmp_path / "asked.csv"
    pd.DataFrame({"text": texts}).to_csv(asked, index=False)
    caplog.set_level("INFO")

    class Answers(TrainerCallback):
        def on_evaluate(self, args, state, control, metrics, **kwargs):
            seen.append(metrics[f"eval_{criterion}"])

    class Looked(Own):
        def callbacks(self):
            return [Answers()]

    seen, settings = [], {"learning_rate": 3e-2, "num_train_epochs": 8, "max_grad_norm": 0.0, "select_by": criterion}
    run = train(techniques=[Looked()], unlabelled=str(asked), validation_fraction=0.2, train=settings)
    classify = transformers.pipeline(TASK, model=str(run.folder))
    answers = [{one["label"]: one["score"] for one in answer} for answer in classify(texts, top_k=None)]
    scores = np.array([[answer[name] for name in TOPICS] for answer in answers])
    assert CRITERIA[criterion](scores) == pytest.approx(best_of(seen), abs=1e-4)
    assert len(seen) == 8
    assert best_of(seen) != seen[-1]
    words = f"the epoch with the best {criterion.replace('_', ' ')} on unlabelled rows"
    assert words in run.metrics["runs"][0]["weights_of"]
    assert words in (run.folder / "README.md").read_text()
    assert words in caplog.text


def test_entropy_tells_nothing_of_rows_that_have_no_one_class(train, tmp_path):
    table = pd.DataFrame({"text": [f"row {at}" for at in range(30)], "label": np.linspace(0, 1, 30)})
    asked = tmp_path / "asked.csv"
    pd.DataFrame({"text": [f"other {at}" for at in range(20)]}).to_csv(asked, index=False)
    with pytest.raises(UserError, match=r"select_by: entropy is of rows with one class each, not for regression"):
        train(objects={"train": table}, unlabelled=str(asked), train={"select_by": "entropy"})


original = Recipe.to_yaml


@pytest.fixture
def weights_used(monkeypatch):
    """The class weights that reach the Trainer."""
    monkeypatch.setattr(Fitting, "_collapsed", lambda *_: False)
    seen: ClassVar[list] = []
    trainer = fitting.SmallDataTrainer
    monkeypatch.setattr(
        fitting, "SmallDataTrainer", lambda **given: seen.append(given["class_weights"]) or trainer(**given)
    )
    return seen


def test_class_weights_are_balanced_by_the_training_rows_or_as_named(train, weights_used):
    skewed = {
        "text": [f"cat {n}" for n in range(30)] + [f"soup {n}" for n in range(10)],
        "label": ["a"] * 30 + ["b"] * 10,
    }
    held = {"text": ["cat", "soup"], "label": ["a", "b"]}
    for number, chosen in enumerate(("auto", {"b": 2.5}, "none")):
        train(str(number), objects={"train": skewed, "test": held}, class_weights=chosen, train={"num_train_epochs": 1})
    auto, named, none = weights_used
    assert auto.tolist() == pytest.approx([40 / (2 * 30), 40 / (2 * 10)])
    assert named.tolist() == [1.0, 2.5]
    assert none is None


def test_class_weights_of_several_labels_are_negatives_for_each_positive(train, weights_used):
    labels = [["a"]] * 6 + [["a", "b"]] * 2 + [[]] * 2
    many = {"text": [f"cat {n}" for n in range(10)], "label": labels}
    others = {"text": [f"dog {n}" for n in range(10)], "label": labels}
    train(objects={"train": many, "test": others}, class_weights="auto", train={"num_train_epochs": 1})
    assert weights_used[0].tolist() == pytest.approx([2 / 8, 8 / 2])


@pytest.mark.parametrize(
    ("weights", "more", "said"),
    [
        ({"foood": 2.0}, {}, "no label foood; found animals, food, weather"),
        ("auto", {"problem_type": "regression", "objects": True}, "regression has no classes"),
    ],
)
def test_class_weights_that_fit_no_label_are_refused(train, tmp_path, weights, more, said):
    numbers = {"train": {"text": list("abcdefgh"), "label": [0.1 * n for n in range(8)]}}
    more = {**more, "objects": numbers} if more else more
    with pytest.raises(UserError, match=said):
        train(class_weights=weights, **more)
    assert list(tmp_path.iterdir()) == []


class Mute(Own):
    """Makes a network answer alike to everything, as often as `times` says."""

    times: ClassVar[int] = 1
    starts: ClassVar[list] = []

    def model(self, model, ctx):
        type(self).starts.append(torch.initial_seed())
        if len(self.starts) <= self.times:
            for name, parameter in model.named_parameters():
                parameter.requires_grad_(name == "classifier.bias")
            torch.nn.init.zeros_(model.classifier.weight)
        return model


@pytest.mark.parametrize(("times", "starts", "collapsed"), [(0, [0], False), (1, [0, 1], False), (9, [0, 1], True)])
def test_a_collapsed_training_starts_once_more_from_the_next_seed(train, monkeypatch, times, starts, collapsed):
    monkeypatch.setattr(Mute, "times", times)
    monkeypatch.setattr(Mute, "starts", [])
    (fact,) = train(techniques=[Mute()], train={"num_train_epochs": 8}).metrics["runs"]
    assert Mute.starts == starts
    assert fact["restarts"] == len(starts) - 1
    assert fact["collapsed"] is collapsed
    assert fact["seed"] == 0


def test_a_frozen_bottom_is_computed_once_and_changes_nothing(train, monkeypatch):
    freeze = [{"freeze": {"blocks": 1}}]
    cached = train("cached", techniques=freeze, validation_fraction=0.2)
    monkeypatch.setattr(fitting, "inputs_change", lambda _: "it is not wanted")
    plain = train("plain", techniques=freeze, validation_fraction=0.2)
    assert cached.metrics["runs"][0]["prefix_cache"].startswith("on")
    assert plain.metrics["runs"][0]["prefix_cache"] == "off: it is not wanted"
    for label in TOPICS:
        column = f"score: {label}"
        np.testing.assert_allclose(cached.predictions[column], plain.predictions[column], atol=1e-4)


def test_without_frozen_blocks_nothing_is_cached(train):
    assert train(train={"num_train_epochs": 1}).metrics["runs"][0]["prefix_cache"] == "off: nothing is frozen"


@pytest.mark.parametrize("validation_fraction", [0.0, 0.2])
def test_a_diverged_training_is_an_error_that_names_the_learning_rate(train, tmp_path, validation_fraction):
    with pytest.raises(UserError, match=r"(diverged|not finite).*lower train\.learning_rate"):
        train(train={"learning_rate": 1e9, "max_grad_norm": 0.0}, validation_fraction=validation_fraction)
    assert list(tmp_path.iterdir()) == []


def test_no_epochs_leave_the_pretrained_body_with_a_new_head(train, bert):
    run = train(train={"num_train_epochs": 0})
    assert run.metrics["runs"][0]["steps"] == 0
    ours, theirs = (load_file(folder / "model.safetensors") for folder in (run.folder, bert))
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours if name.startswith("bert."))
    assert ours["classifier.weight"].shape == (3, 32)


def test_the_same_seed_gives_the_same_predictions_and_another_seed_others(train):
    runs = [train(str(number), seeds=(seed,)).predictions for number, seed in enumerate((0, 0, 1))]
    pd.testing.assert_frame_equal(runs[0], runs[1])
    assert not np.allclose(runs[0]["score: food"], runs[2]["score: food"])


def test_metrics_hold_no_value_that_is_not_json(train):
    text = train(train={"num_train_epochs": 1}).part("metrics.json").read_text()
    assert json.loads(text, parse_constant=lambda word: pytest.fail(f"{word} in metrics.json"))


def test_work_in_progress_lies_beside_the_output_and_goes(train, tmp_path, monkeypatch):
    seen: ClassVar[list] = []
    attempt = Fitting.attempt
    monkeypatch.setattr(Fitting, "attempt", lambda self, *given: seen.append(Path(self.work)) or attempt(self, *given))
    train(train={"num_train_epochs": 1})
    assert seen[0] == tmp_path / ".out.partial" / "work"
    assert [file.name for file in tmp_path.iterdir()] == ["out"]


def test_a_teacher_of_the_same_rows_is_trained_once_and_leaves_torchs_generator_as_it_was(train, monkeypatch):
    trained, attempt = [], Fitting.attempt

    def counted(self, rows, *more):
        trained.append(len(rows))
        return attempt(self, rows, *more)

    monkeypatch.setattr(Fitting, "attempt", counted)

    class Asks(Technique):
        name: ClassVar[str] = "asks"
        tasks: ClassVar = frozenset({TASK})

        def rows(self, rows, ctx):
            before = torch.get_rng_state()
            first, second, other = ctx.fit(rows)(rows), ctx.fit(rows)(rows), ctx.fit(rows.select(range(6)))(rows)
            np.testing.assert_array_equal(first, second)
            assert np.abs(first - other).max() > 0
            assert torch.equal(torch.get_rng_state(), before)
            return rows

    train(techniques=[Asks()], labels_per_class=4, test_fraction=0.5)
    assert trained == [12, 12, 6]


class Swaps(Technique):
    """Twenty rows of each that say another class's words."""

    name = "swaps"
    tasks = frozenset({TASK})

    def rows(self, rows, ctx):
        made = [{"text": row["text"], "label": (row["label"] + 1) % 3} for row in rows for _ in range(20)]
        return with_made(rows, made, self.name)


@pytest.mark.parametrize("head", ["logistic_head", "ridge_head", "prototypes", "linear_probe_then_finetune"])
def test_a_head_that_is_computed_learns_from_made_rows_too(train, head):
    scores = [
        train(str(len(more)), techniques=[*more, head], train={"num_train_epochs": 0}, labels_per_class=4)
        .predictions.filter(like="score").to_numpy()
        for more in ([], [Swaps()])
    ]  # fmt: skip
    assert np.abs(scores[0] - scores[1]).max() > 1e-2


def test_a_body_that_learns_before_training_learns_from_made_rows_too(train):
    bodies = [
        load_file(
            train(str(len(more)), techniques=[*more, {"contrastive": {"epochs": 1}}], labels_per_class=4,
                  train={"num_train_epochs": 0}).folder / "model.safetensors"
        )
        for more in ([], [Swaps()])
    ]  # fmt: skip
    name = "bert.encoder.layer.0.attention.self.query.weight"
    assert not torch.equal(bodies[0][name], bodies[1][name])
