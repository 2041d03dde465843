"""What holds for every technique on each of its tasks; a new line in the registry is tested without more."""

from __future__ import annotations

import re
import sys
import zlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from datasets import Dataset, concatenate_datasets

from hf_smalldata import bundle
from hf_smalldata.evaluation.arrays import ragged
from hf_smalldata.pipeline import train
from hf_smalldata.recipe import Recipe
from hf_smalldata.run import Run
from hf_smalldata.tasks import TASKS
from hf_smalldata.tasks.task import ModelSpec
from hf_smalldata.technique import HOOKS, Context, Predictor, Technique
from hf_smalldata.techniques import REGISTRY, get_technique
from hf_smalldata.techniques.augment import back_translation, paraphrase
from hf_smalldata.techniques.fewshot import zero_shot
from hf_smalldata.techniques.synthesis import diffusion_edit, keep, language_model, learning, mels, text_vae
from hf_smalldata.training.arguments import training_arguments
from hf_smalldata.training.batching import EncodedRows, collator
from hf_smalldata.training.trainer import SmallDataTrainer

PROBLEM = "single_label_classification"
LITTLE = {
    "vae": {"steps": 2, "channels": 8},
    "gan": {"steps": 2, "channels": 4},
    "diffusion_scratch": {"steps": 2, "channels": 8, "sampling_steps": 2},
    "diffusion_edit": {"per_row": 1, "strengths": (0.5, 1.0), "sampling_steps": 2},
}
HERE = [name for name in REGISTRY if "gpu" not in get_technique(name).needs or torch.cuda.is_available()]
PAIRS = [(name, task) for name in HERE for task in TASKS if task in get_technique(name).tasks]
each_pair = pytest.mark.parametrize(("name", "task"), PAIRS, ids=[f"{name} {task}" for name, task in PAIRS])
each_task = pytest.mark.parametrize(  # sequences are texts, and sounds differ in nothing that is asked here
    "task",
    [pytest.param(task, marks=pytest.mark.slow) if task in ("sequence-classification", "audio-classification") else task
     for task in TASKS],
)  # fmt: skip
each_name = pytest.mark.parametrize("name", REGISTRY)


def having(*hooks: str) -> list[tuple[str, str]]:
    """Pairs with techniques that have one of these hooks."""
    return [(name, task) for name, task in PAIRS if set(hooks) & set(get_technique(name)().hooks())]


def task_of(name: str) -> str:
    """One of a technique's tasks, by its name."""
    tasks = [task for each, task in PAIRS if each == name]
    return tasks[zlib.crc32(name.encode()) % len(tasks)]


def shortly(name: str, task: str) -> bool:
    """Whether trainings test the technique on this task every time, and not only under `-m slow`.

    One task of each technique; of those that leave the network as it is, have the same hooks and this task, one.
    """
    hooks = get_technique(name)().hooks()
    alike = [each for each in HERE if get_technique(each)().hooks() == hooks and task_of(each) == task]
    return task_of(name) == task and ("model" in hooks or name == alike[0])


each_training = pytest.mark.parametrize(
    ("name", "task"),
    [pytest.param(*pair, id=" ".join(pair), marks=() if shortly(*pair) else pytest.mark.slow) for pair in PAIRS],
)
each_model = pytest.mark.parametrize(
    ("name", "task"),
    [pytest.param(*pair, id=" ".join(pair), marks=() if shortly(*pair) else pytest.mark.slow)
     for pair in having("model")],
)  # fmt: skip


@pytest.fixture
def kits(kits, masked, request):
    """A technique that fills in words has a masked language model, and mostly a template for classes of texts."""
    callspec = getattr(request.node, "callspec", None)
    name = None if callspec is None else callspec.params.get("name")
    if name in REGISTRY:
        kits = {task: kit.settled(get_technique(name)()) if task in get_technique(name).tasks else kit
                for task, kit in kits.items()}  # fmt: skip
    if name not in ("pattern", "mlm_substitution", "continued_pretraining"):
        return kits
    tokens = kits["token-classification"]
    processor = tokens.task.load_processor(ModelSpec(name=str(masked.folder)))
    filling = replace(tokens, folder=masked.folder, processor=processor)
    texts = masked if name != "continued_pretraining" else replace(masked, template=None, processor=processor)
    return {**kits, masked.task.name: texts, tokens.task.name: filling}


class Copies(Technique):
    """A `rows` hook: every training row once more, marked as made."""

    name = "copies"
    tasks = frozenset(TASKS)

    def rows(self, train: Dataset, ctx: Context) -> Dataset:
        made = train.map(lambda row: {"id": f"copy:{row['id']}"})
        return concatenate_datasets([
            train.add_column("source", [None] * len(train), feature=None),
            made.add_column("source", [self.name] * len(made)),
        ])  # fmt: skip


class Undecided(Technique):
    """A `baseline` hook: every class is alike likely."""

    name = "undecided"
    tasks = frozenset(TASKS)

    def baseline(self, test: Dataset, ctx: Context) -> np.ndarray:
        assert "label" in ctx.train.column_names
        assert "label" not in test.column_names
        even = np.full(len(ctx.labels), 1 / len(ctx.labels))
        if ctx.task.kind == "tokens":
            return ragged([np.tile(even, (len(words), 1)) for words in test["tokens"]])
        return np.tile(even, (len(test), 1))

    def baseline_name(self, ctx: Context) -> str:
        return f"undecided between {len(ctx.labels)}"


@pytest.fixture(scope="module", autouse=True)
def generators_learn_little():
    """A few steps of small networks: by default they take minutes."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(mels, "PHASE_STEPS", 2)
        yield from _with_defaults()


def _with_defaults():
    defaults = {(name, field): get_technique(name).model_fields[field].default for name, given in LITTLE.items()
                for field in given}  # fmt: skip
    for settings in ({(name, field): value for name, given in LITTLE.items() for field, value in given.items()}, None):
        for (name, field), value in (settings or defaults).items():
            get_technique(name).model_fields[field].default = value
        for name in LITTLE:
            get_technique(name).model_rebuild(force=True)
        if settings:
            yield


@pytest.fixture(autouse=True)
def teachers_agree(monkeypatch):
    """Two epochs of a tiny network make no teacher: the keeper asks it, and whatever it says is right."""
    monkeypatch.setattr(keep, "agreed", lambda predicted, labels, problem: np.ones((2, len(predicted))))


@pytest.fixture(autouse=True)
def names_are_read_by_tiny_models(text, clip, there_and_back, causal, image_pipeline, tmp_path, monkeypatch):
    """In place of the large ones on the Hub that techniques ask by default."""
    tiny = {"text-classification": str(text.folder), "image-classification": str(clip)}
    monkeypatch.setattr(zero_shot, "MODELS", tiny)
    monkeypatch.setattr(back_translation, "MODELS", there_and_back)
    monkeypatch.setattr(back_translation, "cached_assets_path", lambda *_: tmp_path)
    monkeypatch.setattr(language_model, "MODEL", causal)
    monkeypatch.setattr(text_vae, "MODEL", causal)
    monkeypatch.setattr(text_vae, "cached_assets_path", lambda *_: tmp_path)
    monkeypatch.setattr(paraphrase, "MODEL", causal)
    monkeypatch.setattr(paraphrase, "cached_assets_path", lambda *_: tmp_path)
    monkeypatch.setattr(language_model, "cached_assets_path", lambda *_: tmp_path)
    monkeypatch.setattr(learning, "cached_assets_path", lambda *_: tmp_path)
    monkeypatch.setattr(diffusion_edit, "cached_assets_path", lambda *_: tmp_path)
    monkeypatch.setattr(diffusion_edit, "CHECKPOINT", image_pipeline)


def context_for(technique: Technique, kit, seed: int = 0) -> Context:
    """A kit's context, with the rows beside the labelled ones that the technique needs."""
    context, named = kit.context(seed), kit.rows.select(range(9)).add_column("domain", ["here"] * 9)
    known = dict(zip(kit.rows["id"], kit.rows["label"], strict=True))

    def fit(rows: Dataset) -> Predictor:
        teacher = context.fit(rows)
        return lambda others: teacher(
            others if "label" in others.column_names else others.add_column("label", [known[i] for i in others["id"]])
        )

    more = {"unlabelled": named.remove_columns("label"), "source": named}
    return replace(context, fit=fit, **{name: rows for name, rows in more.items() if name in technique.needs})


def recipe_for(techniques: Sequence[object], task: str, kits, sources, **train_settings) -> Recipe:
    needs = set().union(*(get_technique(each).needs for each in techniques if isinstance(each, str)))
    beside = {name: sources[task]["train"] for name in ("unlabelled", "source") if name in needs}
    return Recipe.parse({
        "task": task, "data": {**sources[task], **beside}, "model": kits[task].spec.model_dump(),
        "techniques": techniques,
        "train": {"num_train_epochs": 2, "per_device_train_batch_size": 4, "disable_tqdm": True, **train_settings},
    })  # fmt: skip


def scores(run: Run) -> np.ndarray:
    table = run.predictions
    if "scores" in table:
        return np.concatenate(table["scores"].to_list()).reshape(-1, len(run.metrics["labels"]))
    return table[[column for column in table if column.startswith("score: ")]].to_numpy()


@each_pair
def test_defaults_survive_the_round_trip_through_yaml(name, task, kits, sources):
    recipe = recipe_for([name], task, kits, sources)
    again = Recipe.parse(yaml.safe_load(recipe.to_yaml()))
    assert again == recipe
    assert again.techniques == (get_technique(name)(),)


def test_every_task_is_trained_by_the_tests_that_always_run():
    assert {task for name, task in PAIRS if shortly(name, task)} == set(TASKS)


@each_training
def test_same_seed_same_result_without_the_hooks_of_others_and_the_saved_model_reloads_to_it(
    name, task, kits, sources, tmp_path, no_page, monkeypatch
):
    def refuse(self, *args):
        raise AssertionError("called a hook that the technique does not override")

    recipe, overridden = recipe_for([name], task, kits, sources), get_technique(name)().hooks()
    first = train(recipe, tmp_path / "first")
    for hook in HOOKS:
        monkeypatch.setattr(Technique, hook, refuse)
    monkeypatch.setattr(bundle, "prove", lambda *_: 0.0)  # that of the first is asked below
    assert get_technique(name)().hooks() == overridden
    second = train(recipe, tmp_path / "second")
    np.testing.assert_array_equal(scores(first), scores(second))
    assert scores(first).std(0).min() > 0
    (facts,) = first.metrics["runs"]
    assert facts["steps"] == 2 * -(-facts["train_rows"] // 4)
    assert facts["reload"]["."] < 1e-4
    assert all(difference < 1e-4 for difference in facts["reload"].values())


@pytest.mark.parametrize(("name", "task"), having("param_groups", "example", "batch", "penalty", "callbacks"))
def test_evaluation_is_untouched_by_hooks_of_training(name, task, kits, tmp_path):
    kit, technique = kits[task], get_technique(name)()
    network = kit.network()
    if "model" in technique.hooks():
        network = technique.model(network, context_for(technique, kit))
    evaluate = []
    for techniques in ([technique], []):
        trainer = SmallDataTrainer(
            model=network,
            args=training_arguments({"disable_tqdm": True}, tmp_path, 0),
            techniques=techniques,
            problem_type=kit.problem_type,
            data_collator=collator(kit.task, kit.processor, len(kit.labels), kit.problem_type),
            eval_dataset=EncodedRows(kit.rows, kit.task, kit.processor),
        )
        evaluate.append((trainer.evaluate()["eval_loss"], trainer.predict(trainer.eval_dataset).predictions))
    assert evaluate[0][0] == evaluate[1][0]
    np.testing.assert_array_equal(evaluate[0][1], evaluate[1][1])


@each_model
def test_a_model_hook_leaves_a_head_that_learns_and_the_outputs_that_a_task_needs(name, task, kits):
    kit, technique = kits[task], get_technique(name)()
    network = technique.model(kit.network(), context_for(technique, kit))
    logits = network(**kit.batch(4)).logits
    assert logits.shape[:: logits.dim() - 1] == (4, len(kit.labels))
    logits.sum().backward()
    learning = {at for at, parameter in network.named_parameters() if parameter.requires_grad}
    assert any("classifier" in at for at in learning)
    assert any(p.grad is not None and torch.any(p.grad != 0) for at, p in network.named_parameters() if at in learning)


@each_name
def test_the_name_is_that_of_the_registry(name):
    assert get_technique(name).name == name


@each_name
def test_the_paper_is_an_address(name):
    assert re.fullmatch(r"https://\S+\.\S+/\S+", get_technique(name).paper)


@each_name
def test_the_card_says_what_it_is_when_it_helps_and_when_not(name):
    card = sys.modules[get_technique(name).__module__].__doc__ or ""
    what, _, when = card.strip().partition("\n\n")
    assert re.match(r"[A-Z].+: .+\.$", " ".join(what.split()))
    sentences = [part for part in re.split(r"(?<=\.)\s+", " ".join(when.split())) if part]
    assert len(sentences) >= 2
    assert re.match("Helps|Does", sentences[0])
    assert re.search(r"\b(not|nothing|little|hurts|harm|often as good|lower them)\b", when, flags=re.IGNORECASE)


@each_name
def test_every_field_has_a_default_a_type_and_stays_as_given(name):
    technique = get_technique(name)()
    for field in type(technique).model_fields:
        with pytest.raises(ValueError, match="frozen"):
            setattr(technique, field, getattr(technique, field))
    with pytest.raises(ValueError, match=r"Extra inputs are not permitted"):
        get_technique(name)(**{"no_such_field": 1})


@each_name
def test_each_technique_declares_known_tasks_and_uses_a_hook(name):
    kind = get_technique(name)
    assert kind.tasks
    assert kind.tasks <= set(TASKS)
    assert kind().hooks()
    assert set(kind().hooks()) <= set(HOOKS)


@each_name
def test_each_technique_has_a_test_of_its_own(name):
    assert (Path(__file__).parent / "techniques" / f"test_{name}.py").is_file()


def classes_of(rows: Dataset) -> set[int]:
    """Class indices, of tagged rows those of their tags."""
    return set(np.concatenate([np.atleast_1d(label) for label in rows["label"]]).tolist())


def wrong_with_rows(before: Dataset, after: Dataset, held_out: Dataset, column: str) -> list[str]:
    """What a `rows` hook may not do, as far as it did."""
    wrong = []
    if not set(before.column_names) <= set(after.column_names):
        wrong.append("lost a column")
    if not classes_of(after) <= classes_of(before):
        wrong.append("made a label")
    originals = {row["id"]: row["label"] for row in before}
    if any(row["label"] != originals[row["id"]] for row in after if row["id"] in originals):
        wrong.append("changed a label")
    if any(not row.get("source") for row in after if row["id"] not in originals):
        wrong.append("made a row without saying so")
    if set(after["id"]) & set(held_out["id"]):
        wrong.append("emitted a row that is held out")
    if column in ("text", "tokens") and set(after["text"]) & set(held_out["text"]) - set(before["text"]):
        wrong.append("emitted an input that is held out")
    return wrong


@pytest.mark.parametrize(("name", "task"), [*having("rows"), *(("copies", task) for task in TASKS)], ids=str)
def test_a_rows_hook_keeps_columns_and_labels_marks_its_rows_and_emits_none_that_is_held_out(name, task, kits):
    kit = kits[task]
    technique = Copies() if name == "copies" else get_technique(name)()
    learnt, held_out = kit.rows.select(range(9)), kit.rows.select(range(9, 12))
    learnt = concatenate_datasets([learnt, learnt.map(lambda row: {"id": f"again:{row['id']}"})])  # 4 a class and more
    after = technique.rows(learnt, context_for(technique, kit))
    assert wrong_with_rows(learnt, after, held_out, kit.task.kind) == []
    assert len(after) > len(learnt)


def test_the_check_of_rows_finds_each_thing_that_is_forbidden(text):
    learnt, held_out = text.rows.select(range(9)), text.rows.select(range(9, 12))

    def found(after: Dataset) -> list[str]:
        return wrong_with_rows(learnt, after, held_out, "text")

    assert found(learnt) == []
    assert found(learnt.map(lambda row: {"label": (row["label"] + 1) % 3})) == ["changed a label"]
    assert found(learnt.map(lambda row: {"id": f"new:{row['id']}"})) == ["made a row without saying so"]
    leaked = concatenate_datasets([learnt, held_out]).map(lambda row: {"source": "leak"})
    assert found(leaked) == ["emitted a row that is held out", "emitted an input that is held out"]


@each_task
def test_made_rows_are_learnt_from_and_change_neither_test_rows_nor_baselines(task, kits, sources, tmp_path, no_page):
    plain, more = (
        train(recipe_for(techniques, task, kits, sources), tmp_path / f"{len(techniques)}")
        for techniques in ([], [Copies()])
    )
    assert (plain.metrics["runs"][0]["train_rows"], more.metrics["runs"][0]["train_rows"]) == (12, 24)
    assert more.metrics["runs"][0]["steps"] == 2 * plain.metrics["runs"][0]["steps"]
    assert more.metrics["rows"] == plain.metrics["rows"]
    assert more.rows == plain.rows
    assert list(more.predictions["id"]) == list(plain.predictions["id"])
    others = [
        {name: value for name, value in run.metrics["results"].items() if name != "model"} for run in (plain, more)
    ]
    assert others[0] == others[1]


@each_task
def test_a_baseline_hook_is_a_row_of_all_results_and_changes_nothing_else(task, kits, sources, tmp_path):
    plain, more = (
        train(recipe_for(techniques, task, kits, sources), tmp_path / f"{len(techniques)}")
        for techniques in ([], [Undecided()])
    )
    row = f"undecided between {len(kits[task].labels)}"
    for part in ("results", "versus"):
        assert list(more.metrics[part]) == [*plain.metrics[part], row]
        assert {name: more.metrics[part][name] for name in plain.metrics[part]} == plain.metrics[part]
        assert len({tuple(values) for values in more.metrics[part].values()}) == 1
    assert list(more.predictions) == [*plain.predictions, f"baseline: {row}"]
    np.testing.assert_array_equal(scores(plain), scores(more))
    for page in ("README.md", "smalldata/report.html", "smalldata/report.md"):
        assert row in (more.folder / page).read_text(encoding="utf-8")
        assert row not in (plain.folder / page).read_text(encoding="utf-8")
