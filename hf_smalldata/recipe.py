"""A recipe: one frozen, validated YAML of task, data, model, techniques (in order), training and seeds."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

import yaml
from pydantic import BaseModel, ConfigDict, SerializeAsAny

from hf_smalldata.data.spec import DataSpec
from hf_smalldata.destination import PublishSpec
from hf_smalldata.errors import Problems, UserError, did_you_mean
from hf_smalldata.evaluation.metrics import MAIN_METRIC, metric_names
from hf_smalldata.sections import section
from hf_smalldata.tasks import TASKS
from hf_smalldata.tasks.task import ModelSpec
from hf_smalldata.technique import Technique
from hf_smalldata.techniques import REGISTRY, get_technique
from hf_smalldata.training.arguments import DEFAULTS, OURS, check
from hf_smalldata.training.tracking import reports
from hf_smalldata.yaml_text import parse_yaml, read_yaml

MOST_SEEDS = 2**31  # numpy and torch both take them

# Overriding the source of the rows drops what the recipe said of other sources.
REPLACES = {"data.train": ("name",), "data.name": ("train", "validation", "test")}


class Recipe(BaseModel):
    """What is trained on what, and how. `train` holds every setting that matters, defaults included."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    task: str
    data: DataSpec
    model: ModelSpec
    techniques: tuple[SerializeAsAny[Technique], ...] = ()
    train: dict[str, Any] = {}
    seeds: tuple[int, ...] = (0,)
    publish: PublishSpec | None = None

    @classmethod
    def read(cls, file: str | Path, overrides: Sequence[str] = ()) -> Recipe:
        """A recipe file with `key=value` overrides.

        Raises:
            UserError: no such file, not YAML, or (as `Problems`, all at once) wrong settings.
        """
        return cls.parse(override(read_yaml(file), overrides), where=Path(file).name)

    @classmethod
    def parse(cls, content: Mapping[str, Any], where: str = "the recipe") -> Recipe:
        """A recipe from plain dicts and lists; techniques may be `Technique` objects as well.

        Raises:
            Problems: everything that is wrong with it.
        """
        problems: list[str] = []
        for key in content:
            if key not in cls.model_fields:
                problems.append(f"{key}: unknown section{did_you_mean(str(key), cls.model_fields)}")
        task = content.get("task")
        if not isinstance(task, str) or task not in TASKS:
            problems.append("task: missing; known: " + ", ".join(TASKS) if task is None
                            else f"task: unknown task '{task}'{did_you_mean(str(task), TASKS)}")  # fmt: skip
        data = section(DataSpec, content.get("data"), "data", problems)
        model = section(ModelSpec, content.get("model"), "model", problems)
        techniques = _techniques(content.get("techniques") or (), str(task), data, problems)
        given = content.get("train") or {}
        train, wrong = (
            check(given) if isinstance(given, Mapping) else ({}, [f"train: expected settings, got {given!r}"])
        )
        publish = None if (goal := content.get("publish")) is None else section(PublishSpec, goal, "publish", problems)
        problems += wrong + _validation(train, data) + _seeds(content.get("seeds", (0,)))
        if problems or data is None or model is None:
            raise Problems(where, problems)
        defaults = {**DEFAULTS, "learning_rate": _learning_rate(techniques),
                    "per_device_train_batch_size": 8, "lr_scheduler_type": "linear", "max_grad_norm": 1.0,
                    "gradient_accumulation_steps": 1, **OURS}  # fmt: skip
        if reports(train):
            defaults["logging_strategy"] = "epoch"  # else a tracker would see nothing
        seeds = content.get("seeds", (0,))
        return cls(task=str(task), data=data, model=model, techniques=tuple(techniques), train={**defaults, **train},
                   seeds=tuple(seeds) if isinstance(seeds, Iterable) else (seeds,), publish=publish)  # fmt: skip

    def with_techniques(self, techniques: Sequence[Technique]) -> Recipe:
        """This recipe with other techniques; a learning rate that its techniques suggested is suggested anew."""
        suggested = self.train["learning_rate"] == _learning_rate(self.techniques)
        rate = _learning_rate(techniques) if suggested else self.train["learning_rate"]
        changes = {"techniques": tuple(techniques), "train": {**self.train, "learning_rate": rate}}
        return self.model_copy(update=changes)

    def settled(self) -> Recipe:
        """This recipe with the model's settings as its techniques need them."""
        model = self.model
        for technique in self.techniques:
            model = technique.settled(model)
        return self.model_copy(update={"model": model})

    def as_dict(self) -> dict[str, Any]:
        """Plain dicts and lists that `parse` reads back to the same recipe."""
        return {
            "task": self.task,
            "data": self.data.model_dump(mode="json"),
            "model": self.model.model_dump(mode="json"),
            "techniques": [{each.name: each.model_dump(mode="json")} for each in self.techniques],
            "train": {name: getattr(value, "value", value) for name, value in self.train.items()},
            "seeds": list(self.seeds),
            **({} if self.publish is None else {"publish": self.publish.model_dump(mode="json")}),
        }

    def to_yaml(self) -> str:
        """The recipe with every default spelled out."""
        return yaml.safe_dump(self.as_dict(), sort_keys=False, allow_unicode=True, default_flow_style=False)


def override(content: Mapping[str, Any], pairs: Sequence[str]) -> dict[str, Any]:
    """Content with `key.sub=value` settings put in; values are YAML.

    A technique is addressed by its name (`techniques.lora.rank=16`) and added when it is not there. `data.train` takes
    the place of `data.name`, and the other way round.

    Raises:
        Problems: pairs that are not `key=value`.
    """
    result: dict[str, Any] = {key: _copy(value) for key, value in content.items()}
    problems = []
    for pair in pairs:
        key, separator, text = pair.partition("=")
        try:
            value = parse_yaml(text) if separator else _refuse(pair)
            path = key.split(".")
            if path[0] == "techniques" and len(path) > 1:
                _override_technique(result, path[1:], value)
                continue
            place = result
            for part in path[:-1]:
                place[part] = place = _settings(part, place.get(part))
            place[path[-1]] = value
            for other in REPLACES.get(key, ()):
                if f"data.{other}" not in [each.partition("=")[0] for each in pairs]:
                    place.pop(other, None)
        except (yaml.YAMLError, ValueError, TypeError) as error:
            problems.append(f"{pair}: {' '.join(str(error).split())}")
    if problems:
        raise Problems("the command line", problems)
    return result


def _refuse(pair: str) -> NoReturn:
    raise ValueError("expected key=value, such as train.learning_rate=1e-3")


def _settings(name: str, value: Any) -> dict[str, Any]:
    if value is not None and not isinstance(value, Mapping):
        raise ValueError(f"{name} is not a section but {value!r}")
    return dict(value or {})


def _override_technique(result: dict[str, Any], path: Sequence[str], value: Any) -> None:
    given = result.get("techniques") or []
    if not isinstance(given, list):
        raise ValueError(f"techniques is not a list but {given!r}")
    items = [dict([_named(item)]) if not isinstance(item, Technique) else item for item in given]
    name = path[0]
    place = next((item for item in items if isinstance(item, dict) and name in item), None)
    if place is None:
        place = {name: {}}
        items.append(place)
    for part in path[:-1]:
        place[part] = place = _settings(part, place.get(part))
    place[path[-1]] = value
    result["techniques"] = items


def _named(item: Any) -> tuple[str, Any]:
    """`lora`, `{lora: null}` or `{lora: {rank: 8}}` -> ("lora", parameters)."""
    if isinstance(item, str):
        return item, {}
    if isinstance(item, Mapping) and len(item) == 1:
        ((name, parameters),) = item.items()
        return str(name), parameters or {}
    raise ValueError(f"expected a technique such as `lora` or `lora: {{rank: 8}}`, got {item!r}")


def _techniques(items: Any, task: str, data: DataSpec | None, problems: list[str]) -> list[Technique]:
    if isinstance(items, str) or not isinstance(items, Sequence):
        problems.append(f"techniques: expected a list such as [{{lora: {{rank: 8}}}}], got {items!r}")
        return []
    made: list[Technique] = []
    for item in items:
        if isinstance(item, Technique):
            made.append(item)
            continue
        try:
            name, parameters = _named(item)
            kind = get_technique(name)
        except ValueError as error:
            problems.append(f"techniques: {error}")
        except UserError as error:
            problems.append(f"techniques.{name}: {error}")
        else:
            made += filter(None, [section(kind, parameters, f"techniques.{name}", problems)])
    names = [each.name for each in made]
    for each in made:
        where = f"techniques.{each.name}"
        if task in TASKS and task not in each.tasks:
            fitting = [name for name in REGISTRY if task in get_technique(name).tasks]
            family = type(each).__module__.rpartition(".")[0]
            akin = [name for name in fitting if REGISTRY[name].startswith(f"{family}.")] or fitting
            problems.append(f"{where}: not for {task}; those that are: {', '.join(akin)}")
        missing = [need for need in ("source", "unlabelled") if need in each.needs and not getattr(data, need, True)]
        problems += [f"{where}: needs {need} rows; set data.{need}" for need in missing]
        if data is not None and data.source_labels == "own" and "source" in each.needs and not each.takes_own_labels:
            problems.append(f"{where}: learns the target's labels from source rows, and data.source_labels says that "
                            "they have their own; map them, or take source_then_target")  # fmt: skip
        if names.count(each.name) > 1:
            problems.append(f"{where}: given {names.count(each.name)} times; once is enough")
            names = [name for name in names if name != each.name]
    return made


def _validation(train: Mapping[str, Any], data: DataSpec | None) -> list[str]:
    """Settings that only make sense with rows that tell the best epoch, and what they watch."""
    problems = []
    metric = train.get("metric_for_best_model")
    known = sorted({name for problem_type in MAIN_METRIC for name in metric_names(problem_type)})
    if metric is not None and metric not in known:
        problems.append(f"train.metric_for_best_model: unknown metric '{metric}'{did_you_mean(metric, known)}")
    none = data is not None and data.train is not None and not data.validation and not data.validation_fraction
    by_validation = train.get("select_by", "validation") == "validation"
    if none and by_validation and train.get("early_stopping_patience") is not None:
        problems.append("train.early_stopping_patience: needs validation rows; set data.validation or "
                        "data.validation_fraction")  # fmt: skip
    if not by_validation and metric is not None:
        problems.append(f"train.metric_for_best_model: train.select_by is {train['select_by']}; leave one of them out")
    if not by_validation and data is not None and not data.unlabelled:
        problems.append(f"train.select_by: {train['select_by']} is that of unlabelled rows; set data.unlabelled")
    return problems


def _seeds(seeds: Any) -> list[str]:
    given = [seeds] if isinstance(seeds, int) else list(seeds) if isinstance(seeds, Sequence) else None
    if not given or not all(isinstance(seed, int) and not isinstance(seed, bool) and 0 <= seed < MOST_SEEDS
                            for seed in given):  # fmt: skip
        return [f"seeds: expected whole numbers from 0 to {MOST_SEEDS - 1}, such as [0, 1, 2], got {seeds!r}"]
    return [] if len(set(given)) == len(given) else [f"seeds: each seed once, got {seeds!r}"]


def _learning_rate(techniques: Sequence[Technique]) -> float | str:
    """That of the first technique which has one of its own, else what suits the model's width."""
    return next((rate for each in techniques if (rate := each.default_learning_rate()) is not None), "auto")


def _copy(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _copy(each) for key, each in value.items()}
    return [_copy(each) for each in value] if isinstance(value, list) else value
