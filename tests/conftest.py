"""Tiny models, rows and contexts for all tests: built in code, two layers, 32 wide, nothing is downloaded."""

from __future__ import annotations

import gc
import importlib.util
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from datasets import Dataset
from torch import nn
from transformers import (
    AutoModelForImageClassification,
    AutoModelForSequenceClassification,
    CLIPConfig,
    CLIPImageProcessor,
    CLIPModel,
    TimmWrapperConfig,
)

from hf_smalldata import bundle, cli, report
from hf_smalldata.data.table import FILE
from hf_smalldata.evaluation.arrays import ragged
from hf_smalldata.tasks import get_task
from hf_smalldata.tasks.task import Batch, ModelSpec, Task
from hf_smalldata.technique import Context, Technique
from hf_smalldata.testing import (
    COLOURS,
    TOPICS,
    audio_folder,
    image_folder,
    image_of,
    sequence_rows,
    text_rows,
    tiny_audio_model,
    tiny_causal_model,
    tiny_image_model,
    tiny_masked_model,
    tiny_sequence_model,
    tiny_text_model,
    token_rows,
)

torch.set_num_threads(1)


def pytest_runtest_setup() -> None:
    """Set aside what is there: each training ends in a full collection, which would take longer than all else in it."""
    gc.collect()
    gc.freeze()


@dataclass(frozen=True)
class Kit:
    """A task with a tiny model folder and rows of three classes that can be learnt."""

    task: Task
    folder: Path
    processor: Any
    rows: Dataset  # 12
    labels: tuple[str, ...]
    work: Path
    problem_type: str = "single_label_classification"
    template: str | None = None
    prompt_tokens: int | None = None

    @property
    def spec(self) -> ModelSpec:
        return ModelSpec(name=str(self.folder), template=self.template, prompt_tokens=self.prompt_tokens)

    def settled(self, technique: Technique) -> Kit:
        """With the model's settings as a technique needs them."""
        spec = technique.settled(self.spec)
        if spec == self.spec:
            return self
        return replace(self, prompt_tokens=spec.prompt_tokens, processor=self.task.load_processor(spec))

    def network(self, seed: int = 0) -> Any:
        """A fresh pretrained network; a seed fixes its head."""
        torch.manual_seed(seed)
        return self.task.load_model(self.spec, self.labels, self.problem_type)

    def batch(self, count: int = 4) -> Batch:
        return self.task.collate(self.task.encode(self.rows.select(range(count)), self.processor), self.processor)

    def context(self, seed: int = 0) -> Context:
        def fit(rows: Dataset) -> Any:
            """A teacher that says of all rows what their labels say."""
            if self.problem_type == "token_classification":
                return lambda others: ragged([np.eye(len(self.labels))[label] for label in others["label"]])
            return lambda others: np.eye(len(self.labels))[others["label"][:]]

        return Context(
            task=self.task,
            model=self.spec,
            processor=self.processor,
            train=self.rows,
            unlabelled=None,
            labels=self.labels,
            problem_type=self.problem_type,
            seed=seed,
            work_dir=self.work,
            fit=fit,
        )


def image_rows(per_class: int, seed: int = 0) -> Dataset:
    rng = np.random.default_rng(seed)
    rows = [{"id": f"{seed}:{at}", "image": image_of(at % 3, rng), "label": at % 3} for at in range(3 * per_class)]
    return Dataset.from_list(rows)


def _kit(task_name: str, folder: Path, rows: Dataset, labels: Any, work: Path, **more: Any) -> Kit:
    task = get_task(task_name)
    spec = ModelSpec(name=str(folder), template=more.get("template"))
    return Kit(task, folder, task.load_processor(spec), rows, tuple(labels), work, **more)


@pytest.fixture(scope="session")
def text(tmp_path_factory: pytest.TempPathFactory) -> Kit:
    place = tmp_path_factory.mktemp("text")
    return _kit("text-classification", tiny_text_model(place / "model"), text_rows(4), TOPICS, place)


@pytest.fixture(scope="session")
def masked(tmp_path_factory: pytest.TempPathFactory) -> Kit:
    """Texts for a masked language model, with a template."""
    place = tmp_path_factory.mktemp("masked")
    folder, template = tiny_masked_model(place / "model"), "It was {mask}. {text}"
    return _kit("text-classification", folder, text_rows(4), TOPICS, place, template=template)


@pytest.fixture(scope="session")
def image(tmp_path_factory: pytest.TempPathFactory) -> Kit:
    place = tmp_path_factory.mktemp("image")
    return _kit("image-classification", tiny_image_model(place / "model"), image_rows(4), COLOURS, place)


TAGS = ("O", "B-animals", "I-animals", "B-food", "I-food")
MOVES = ("falling", "rising", "steady")


@pytest.fixture(scope="session")
def tokens(tmp_path_factory: pytest.TempPathFactory) -> Kit:
    place = tmp_path_factory.mktemp("tokens")
    folder = tiny_text_model(place / "model")
    return _kit("token-classification", folder, token_rows(12), TAGS, place, problem_type="token_classification")


@pytest.fixture(scope="session")
def audio(tmp_path_factory: pytest.TempPathFactory) -> Kit:
    place = tmp_path_factory.mktemp("audio")
    folder = audio_folder(place / "clips", 4)
    files = [folder / name / f"{at}.wav" for at in range(4) for name in MOVES]
    rows = Dataset.from_dict({
        "id": [str(at) for at in range(12)], "audio": [{"bytes": None, "path": str(file)} for file in files],
        "label": [at % 3 for at in range(12)],
    }).cast_column("audio", FILE)  # fmt: skip
    return _kit("audio-classification", tiny_audio_model(place / "model"), rows, MOVES, place)


@pytest.fixture(scope="session")
def sequence(tmp_path_factory: pytest.TempPathFactory) -> Kit:
    place = tmp_path_factory.mktemp("sequence")
    folder = tiny_sequence_model(place / "model", "letters")
    return _kit("sequence-classification", folder, sequence_rows(6), ("background", "promoter"), place)


@pytest.fixture(scope="session")
def kits(text: Kit, image: Kit, tokens: Kit, audio: Kit, sequence: Kit) -> dict[str, Kit]:
    """Kits by the name of their task."""
    return {kit.task.name: kit for kit in (text, image, tokens, audio, sequence)}


@pytest.fixture(scope="session")
def clip(text: Kit, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a tiny CLIP for 32 x 32 pixels, with the words of the text model."""
    folder = tmp_path_factory.mktemp("clip") / "clip"
    body = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
    words = {**body, "vocab_size": len(text.processor), "max_position_embeddings": 64, "eos_token_id": 3}
    torch.manual_seed(0)
    pixels = {**body, "image_size": 32, "patch_size": 8}
    CLIPModel(CLIPConfig(text_config=words, vision_config=pixels, projection_dim=16)).save_pretrained(folder)
    CLIPImageProcessor(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}).save_pretrained(folder)
    text.processor.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def there_and_back(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """The folders of two translators: what comes back has other words of the same topics."""
    spec = importlib.util.spec_from_file_location("translators", Path(__file__).with_name("translators.py"))
    translators = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(translators)
    return translators.there_and_back(tmp_path_factory.mktemp("translators"))


@pytest.fixture(scope="session")
def causal(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The folder of a causal language model."""
    return str(tiny_causal_model(tmp_path_factory.mktemp("causal") / "model"))


@pytest.fixture(scope="session")
def image_pipeline(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The folder of a text-to-image pipeline."""
    spec = importlib.util.spec_from_file_location("image_pipeline", Path(__file__).with_name("image_pipeline.py"))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return str(module.tiny_image_pipeline(tmp_path_factory.mktemp("pipeline") / "pipeline"))


@pytest.fixture
def classifier() -> Callable[[Any], Any]:
    """Config -> a classifier with random weights in evaluation mode."""

    def build(config: Any) -> Any:
        torch.manual_seed(0)
        auto = AutoModelForSequenceClassification if hasattr(config, "vocab_size") else AutoModelForImageClassification
        return auto.from_config(config).eval()

    return build


@pytest.fixture
def timm(classifier: Callable[[Any], Any]) -> Callable[..., Any]:
    """Architecture of timm -> a classifier of three classes with random weights."""

    def build(architecture: str, **arguments: Any) -> nn.Module:
        config = TimmWrapperConfig(architecture=architecture, model_args=arguments, do_pooling=True, num_labels=3)
        return classifier(config)

    return build


@pytest.fixture(scope="session")
def sources(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, str]]:
    """Files of training and test rows by the name of their task, as `data:` takes them."""
    place = tmp_path_factory.mktemp("rows")
    names = list(TOPICS)
    for part, per_class, seed in (("train", 4, 0), ("test", 3, 1)):
        frame = text_rows(per_class, seed).to_pandas()
        frame["label"] = [names[index] for index in frame["label"]]
        frame[["text", "label"]].to_csv(place / f"{part}.csv", index=False)
        image_folder(place / f"{part}-images", per_class, seed)
        audio_folder(place / f"{part}-audio", per_class, seed)
        sequences = sequence_rows(3 * per_class // 2, seed).to_pandas()
        sequences["label"] = [("background", "promoter")[index] for index in sequences["label"]]
        sequences[["sequence", "label"]].to_csv(place / f"{part}-dna.csv", index=False)
        sentences = token_rows(3 * per_class, seed)
        (place / f"{part}.conll").write_text("\n\n".join(
            "\n".join(f"{word}\t{TAGS[tag]}" for word, tag in zip(row["tokens"], row["label"], strict=True))
            for row in sentences
        ))  # fmt: skip
    return {
        "text-classification": {"train": str(place / "train.csv"), "test": str(place / "test.csv")},
        "image-classification": {"train": str(place / "train-images"), "test": str(place / "test-images")},
        "token-classification": {"train": str(place / "train.conll"), "test": str(place / "test.conll")},
        "audio-classification": {"train": str(place / "train-audio"), "test": str(place / "test-audio")},
        "sequence-classification": {"train": str(place / "train-dna.csv"), "test": str(place / "test-dna.csv")},
    }


@pytest.fixture(scope="session", autouse=True)
def _reload_here() -> Iterator[None]:
    """`bundle.prove` runs its script in this process: all of it but the fresh interpreter, which costs seconds."""

    def run(command: list[str], **_: Any) -> subprocess.CompletedProcess[str]:
        script, arguments = command[3], command[4:]
        alone = 'assert "hf_smalldata" not in sys.modules\n'
        assert alone in script
        with pytest.MonkeyPatch.context() as patched, warnings.catch_warnings():
            patched.setattr(sys, "argv", ["-c", *arguments])
            exec(script.replace(alone, ""), {})
        return subprocess.CompletedProcess(command, 0, "", "")

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(bundle, "subprocess", SimpleNamespace(run=run))
        yield


@pytest.fixture
def fresh_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """The fresh interpreter after all."""
    monkeypatch.setattr(bundle, "subprocess", subprocess)


@pytest.fixture
def no_page(monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs and studies without their report.html: drawing its plots costs as much as a tiny training."""
    monkeypatch.setattr(report, "html", lambda *_: "")


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """Run the command line in this process -> exit code, standard output, standard error."""

    def run(*words: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["hf-smalldata", *map(str, words)])
        monkeypatch.setenv("COLUMNS", "160")
        capsys.readouterr()
        with pytest.raises(SystemExit) as left:
            cli.main()
        output, errors = capsys.readouterr()
        return int(left.value.code or 0), output, errors

    return run
