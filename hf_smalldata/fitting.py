"""One seed of a recipe: from its training rows to a model, through the hooks in the order in which data meets them."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import PartialState
from accelerate.utils import release_memory
from datasets import Dataset
from torch import nn
from transformers import TrainingArguments, set_seed

from hf_smalldata.audit import audit_labels
from hf_smalldata.data.domains import REST, rest, with_labels
from hf_smalldata.data.load import Splits
from hf_smalldata.errors import UserError
from hf_smalldata.evaluation.arrays import ragged, stacked
from hf_smalldata.evaluation.metrics import score
from hf_smalldata.kept import EMBEDDED_BYTES, Kept
from hf_smalldata.memory import keep_few_kernels, peak_bytes, peak_gpu_bytes, reset_peak
from hf_smalldata.nn.heads import scale_logits
from hf_smalldata.nn.losses import probabilities
from hf_smalldata.recipe import Recipe
from hf_smalldata.tasks import get_task
from hf_smalldata.tasks.pretrained import load_config
from hf_smalldata.tasks.task import Predictions, Task
from hf_smalldata.technique import Context, Predictor, using
from hf_smalldata.training.arguments import learning_rate_of, training_arguments
from hf_smalldata.training.batching import EncodedRows, collator, to_device
from hf_smalldata.training.compact_embedding import compact_embedding
from hf_smalldata.training.predict import embedded_once, predict_logits
from hf_smalldata.training.prefix_cache import NOTHING_FROZEN, inputs_change, prefix_cache
from hf_smalldata.training.selection import CRITERIA, LAST, best_of, rows_that_tell, selects
from hf_smalldata.training.tracking import Tracking, tracked
from hf_smalldata.training.trainer import SmallDataTrainer
from hf_smalldata.training.unlabelled import riders
from hf_smalldata.training.weights import class_weights

logger = logging.getLogger(__name__)

COLLAPSE_ROWS = 512  # training rows looked at when a constant answer is suspected


@dataclass(frozen=True)
class Learnt:
    """What one seed left: a model, and how its training went."""

    model: nn.Module
    facts: dict[str, Any]  # seconds, epochs, restarts, …


@dataclass(frozen=True)
class Fitting:
    """All that the seeds of a recipe share; what is kept may serve other recipes on the same rows and model too."""

    recipe: Recipe
    task: Task
    processor: Any
    data: Splits
    work: Path
    resume: bool = False
    kept: Kept = field(default_factory=Kept)
    embedded: Kept = field(default_factory=partial(Kept, EMBEDDED_BYTES))  # also of rows without lasting ids
    tracking: Tracking | None = None

    @classmethod
    def of(cls, recipe: Recipe, data: Splits, work: Path, **more: Any) -> Fitting:
        """A recipe on its rows, with what these decide of the model's settings."""
        keep_few_kernels()
        task, recipe = get_task(recipe.task), recipe.settled()
        processor = task.load_processor(recipe.model)
        model = task.settled(recipe.model, processor, data.train)
        if model != recipe.model:
            recipe, processor = recipe.model_copy(update={"model": model}), task.load_processor(model)
        return cls(recipe, task, processor, data, work, **more)

    def learn(self, drawn: Dataset, seed: int) -> Learnt:
        """Train on the rows of a seed; once more from the next seed if the model collapsed to one constant answer."""
        learnt = self.attempt(drawn, seed, seed)
        collapsed = learnt.facts["steps"] > 0 and self._collapsed(learnt.model, drawn)
        if collapsed:
            following = max(self.recipe.seeds) + 1 + self.recipe.seeds.index(seed)
            logger.warning(
                "seed %d: all training rows get one answer; starting once more from seed %d", seed, following
            )
            release_memory(learnt.model)
            learnt = replace(self, resume=False).attempt(drawn, seed, following)
            learnt.facts["restarts"] = 1
            collapsed = self._collapsed(learnt.model, drawn)
        if collapsed:
            logger.warning("seed %d: collapsed again; change train.learning_rate, or train longer", seed)
        return Learnt(learnt.model, {"seed": seed, **learnt.facts, "collapsed": collapsed})

    def attempt(self, drawn: Dataset, seed: int, start: int) -> Learnt:
        """One training. `seed` drew the rows; `start` seeds weights, dropout and order."""
        recipe, work = self.recipe, self.work / f"seed-{seed}"
        work.mkdir(parents=True, exist_ok=True)
        with tracked(self.tracking, recipe.train) as more:
            return self._train(drawn, seed, start, work, self._arguments(work / "checkpoints", start, more))

    def _train(self, drawn: Dataset, seed: int, start: int, work: Path, arguments: TrainingArguments) -> Learnt:
        recipe, data, task, processor = self.recipe, self.data, self.task, self.processor
        set_seed(start)
        context = self.context(drawn, seed, work)
        for technique in recipe.techniques:
            technique.check(drawn, context)
        model = task.load_model(recipe.model, data.labels, data.problem_type).to(arguments.device)
        reset_peak()
        begun = time.perf_counter()
        rows = drawn
        for technique in using(recipe.techniques, "rows"):
            rows = technique.rows(rows, context)
        context = replace(context, train=rows)
        for technique in using(recipe.techniques, "model"):
            model = technique.model(model, context)
        model.to(arguments.device)
        hook_seconds = time.perf_counter() - begun
        audit_labels(rows, context, using(recipe.techniques, "example"))
        found, beside = context.facts, riders(recipe.techniques, context)
        tellers = rows_that_tell(recipe.train["select_by"], data.validation, context)
        del context  # and with it the models that techniques had it fit
        collate = collator(task, processor, self.width, data.problem_type)
        given, rows = rows, task.cut(rows, processor)
        own = self.kept.features(rows, task, processor) if given is drawn else None  # made rows have no lasting id
        train_rows = EncodedRows(rows, task, processor, using(recipe.techniques, "example"), start, own, beside)
        judges = None if tellers is None else self._encoded(task.cut(tellers, processor))
        met = arguments.num_train_epochs * len(rows)
        off = inputs_change(recipe.techniques) or ("" if beside is None else beside.change(met))
        parts = [train_rows, judges, None if beside is None else beside.encoded]
        cacheable = [] if off else [part for part in parts if part is not None]
        which = f"; the weights kept are those of {self.weights_of}" if arguments.num_train_epochs > 0 else ""
        logger.info("seed %d: training on %d rows%s", seed, len(rows), which)
        started = time.perf_counter()
        with (
            compact_embedding(model, cacheable) as compact,
            prefix_cache(model, cacheable, collate, work, self.kept, off=off) as fed,
        ):
            if fed.off != NOTHING_FROZEN:
                logger.info("seed %d: prefix cache %s", seed, fed)
            trainer = SmallDataTrainer(
                model=model,
                args=arguments,
                techniques=recipe.techniques,
                problem_type=data.problem_type,
                class_weights=class_weights(rows, recipe.data.class_weights, data.labels, data.problem_type),
                data_collator=collate,
                train_dataset=train_rows,
                eval_dataset=judges,
                compute_metrics=None if judges is None else partial(self._scores, judges),
                callbacks=[] if judges is None else [best_of(recipe.train, data.problem_type)],
            )
            if arguments.num_train_epochs > 0 or arguments.max_steps > 0:
                trainer.train(resume_from_checkpoint=self._checkpoint(work / "checkpoints"))
            seconds = hook_seconds + time.perf_counter() - started
            used = trainer.utilisation(seconds, sum(each.get("model_flops", 0.0) for each in found.values()))
        begun = time.perf_counter()
        for technique in using(recipe.techniques, "trained"):
            model = technique.trained(model.eval(), replace(self.context(drawn, seed, work), train=given, facts=found))
        seconds += time.perf_counter() - begun
        sizes = [(parameter.numel(), parameter.requires_grad) for parameter in model.parameters()]
        facts = {
            "train_rows": len(rows),
            "learning_rate": arguments.learning_rate,
            "train_seconds": round(seconds, 2),
            "epochs": round(float(trainer.state.epoch or 0), 2),
            **({"weights_of": self.weights_of} if trainer.state.global_step else {}),
            "steps": trainer.state.global_step,
            "parameters": sum(size for size, _ in sizes),
            "trained_parameters": sum(size for size, learns in sizes if learns),
            "prefix_cache": str(fed),
            "compact_embedding": compact,
            **used,
            "peak_memory_bytes": peak_bytes(),
            "peak_gpu_bytes": peak_gpu_bytes(),
            "restarts": 0,
            "techniques": found,
        }
        return Learnt(model, facts)

    def beside(self, work: Path, drawn: Dataset, seed: int, test: Dataset) -> dict[str, Predictions]:
        """What techniques' `baseline` hooks say of the test rows, by the name of their row.

        Args:
            work: a folder that all seeds share.
            drawn: the rows of the seed.
            seed: of draws and of torch's global generator.
            test: of which the labels are not shown to the techniques.
        """
        work.mkdir(parents=True, exist_ok=True)
        context, unlabelled = self.context(drawn, seed, work), test.remove_columns("label")
        found: dict[str, Predictions] = {}
        for technique in using(self.recipe.techniques, "baseline"):
            set_seed(seed)
            found[technique.baseline_name(context)] = technique.baseline(unlabelled, context)
        return found

    def predict(self, model: nn.Module, rows: Dataset) -> Predictions:
        """Probabilities (N, C) of rows; values (N, 1) for regression; for tokens (N,) of probabilities (words, C).

        Raises:
            UserError: training diverged.
        """
        rows = with_labels(rows, self.data.labels, self.data.problem_type)
        windows = self.task.cut(rows, self.processor)
        encoded = self._encoded(windows)
        collate = collator(self.task, self.processor, self.width, self.data.problem_type)
        batch_size = int(self.recipe.train["per_device_eval_batch_size"])
        alone = PartialState().num_processes == 1  # several share the batches out: each would compute all states
        run = embedded_once(model, encoded, collate, self.embedded) if alone and self._still else None
        with prefix_cache(model, [encoded], collate, self.work, self.kept) if alone else nullcontext():
            logits = predict_logits(model, encoded, collate, batch_size, run)
        if not all(np.isfinite(each).all() for each in logits):
            raise UserError("training diverged: the model's output is not a number; lower train.learning_rate")
        return self.task.merge(self._probabilities(logits), windows, rows)

    def context(self, drawn: Dataset, seed: int, work: Path) -> Context:
        """What techniques may know of the training of one seed on `drawn`."""
        recipe, data = self.recipe, self.data
        unlabelled = rest(data.train, drawn) if recipe.data.unlabelled == REST else data.unlabelled
        return Context(self.task, recipe.model, self.processor, drawn, unlabelled, data.labels, data.problem_type, seed,
                       work, self._fit_others(seed), data.source, data.source_labels, kept=self.embedded)  # fmt: skip

    def _probabilities(self, logits: Predictions) -> Predictions:
        problem = self.data.problem_type
        if logits.dtype == object:
            return ragged([probabilities(torch.from_numpy(each), problem).numpy() for each in logits])
        return probabilities(torch.from_numpy(logits), problem).numpy()

    def scale(self, model: nn.Module, temperature: float) -> bool:
        """Divide the model's logits by a temperature, in its weights; whether its architecture has a place for that."""
        few = self.data.train.select(range(min(2, len(self.data.train))))
        rows = self._encoded(self.task.cut(few, self.processor))
        batch = collator(self.task, self.processor, self.width, self.data.problem_type)([rows[0], rows[len(rows) - 1]])
        inputs = to_device(batch, next(model.parameters()).device)
        del inputs["labels"]
        return scale_logits(model, temperature, lambda network: network(**inputs).logits)

    @property
    def width(self) -> int:
        """Outputs of the model: C, or 1 for regression."""
        return max(len(self.data.labels), 1)

    @property
    def _still(self) -> bool:
        """Whether no step is trained: all seeds may then have one body."""
        return bool(self.recipe.train["num_train_epochs"] == 0 and self.recipe.train.get("max_steps", -1) <= 0)

    @property
    def weights_of(self) -> str:
        """The epoch whose weights are kept."""
        return selects(self.recipe.train["select_by"], self.data.validation)

    def _encoded(self, rows: Dataset) -> EncodedRows:
        """Rows of the data set as they are, encoded once."""
        features = self.kept.features(rows, self.task, self.processor)
        return EncodedRows(rows, self.task, self.processor, features=features)

    def _arguments(self, folder: Path, start: int, more: Mapping[str, Any]) -> TrainingArguments:
        evaluates = self.weights_of != LAST and self.recipe.train["eval_strategy"] == "no"
        given = {**self.recipe.train, **({"eval_strategy": "epoch"} if evaluates else {}), **more}
        if given["learning_rate"] == "auto":
            given["learning_rate"] = learning_rate_of(load_config(self.task.model_class, self.recipe.model))
        return training_arguments(given, folder, start)

    def _checkpoint(self, folder: Path) -> str | None:
        """The last whole one, if training goes on: the Trainer writes a checkpoint's state last."""
        whole = [file.parent for file in folder.glob("checkpoint-*/trainer_state.json")] if self.resume else []
        return str(max(whole, key=lambda made: int(made.name.rpartition("-")[2]))) if whole else None

    def _fit_others(self, seed: int) -> Any:
        """`Context.fit`: this recipe, less its `rows` hooks, on other rows, each set once; their ids need not last."""
        techniques = tuple(each for each in self.recipe.techniques if "rows" not in each.hooks())
        plain = replace(self, recipe=self.recipe.model_copy(update={"techniques": techniques}), work=self.work / "fit",
                        resume=False, kept=Kept(cap_bytes=0), tracking=None)  # fmt: skip
        learnt: dict[str, Predictor] = {}  # several techniques may ask one teacher

        def fit(rows: Dataset) -> Predictor:
            key = repr((rows["id"][:], rows["label"][:]))
            if key not in learnt:
                with torch.random.fork_rng():
                    learnt[key] = partial(plain.predict, plain.attempt(rows, seed, seed).model)
            return learnt[key]

        return fit

    def _scores(self, rows: EncodedRows, result: Any) -> dict[str, float]:
        """Of rows that tell the best epoch (windows of long ones) during training; the Trainer keeps their order."""
        problem, logits = self.data.problem_type, np.asarray(result.predictions)
        chosen = [self.task.select(one, features) for one, features in zip(logits, rows.features, strict=True)]
        scores = self._probabilities(stacked(chosen))
        if (select_by := self.recipe.train["select_by"]) in CRITERIA:
            return {select_by: CRITERIA[select_by](scores)}
        return score(scores[:, 0] if problem == "regression" else scores, rows.raw_labels, problem)

    def _collapsed(self, model: nn.Module, drawn: Dataset) -> bool:
        """One constant answer on training rows of more than one class."""
        rows = drawn.select(range(min(len(drawn), COLLAPSE_ROWS)))
        problem = self.data.problem_type
        if problem == "token_classification":
            return all((values.argmax(-1) == 0).all() for values in self.predict(model, rows))
        if problem != "single_label_classification" or len(set(rows["label"][:])) < 2:
            return False
        answers = self.predict(model, rows).argmax(-1)
        return bool((answers == answers[0]).all())
