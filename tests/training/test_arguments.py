"""The `train:` section: names, types and ranges, and all that is wrong at once."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch
from transformers import BertConfig, CLIPConfig, ResNetConfig, TrainingArguments

from hf_smalldata.errors import UserError
from hf_smalldata.training.arguments import (
    DEFAULTS,
    OWNED,
    RETIRED,
    check,
    learning_rate_of,
    precision,
    settings,
    training_arguments,
)


def problems(**train) -> list[str]:
    return check(train)[1]


def test_right_settings_come_back_with_the_types_of_transformers():
    values, wrong = check({"learning_rate": "1e-3", "num_train_epochs": 3, "per_device_train_batch_size": "4"})
    assert wrong == []
    assert values == {"learning_rate": 1e-3, "num_train_epochs": 3.0, "per_device_train_batch_size": 4}
    assert isinstance(values["num_train_epochs"], float)


def test_a_retired_name_is_refused_with_the_one_that_replaced_it():
    assert problems(evaluation_strategy="epoch") == [
        "train.evaluation_strategy: gone from transformers; use eval_strategy"
    ]
    assert problems(warmup_ratio=0.1) == [
        "train.warmup_ratio: gone from transformers; use warmup_steps (a value in [0, 1) is a ratio)"
    ]


def test_what_the_run_sets_itself_is_refused_with_where_to_say_it():
    assert problems(seed=3) == ["train.seed: set by the run itself; use seeds"]
    assert problems(output_dir="x") == ["train.output_dir: set by the run itself; use the command's --output"]


def test_an_unknown_name_is_refused_with_the_nearest():
    assert problems(learnin_rate=1) == ["train.learnin_rate: unknown setting; did you mean 'learning_rate'?"]
    assert check({7: 1})[1][0].startswith("train.7: unknown setting; known: ")


def test_a_wrong_type_is_refused_with_the_value():
    assert problems(num_train_epochs="many") == [
        "train.num_train_epochs: input should be a valid number, unable to parse string as a number, got 'many'"
    ]
    assert problems(gradient_accumulation_steps=1.5)[0].startswith("train.gradient_accumulation_steps: input should be")


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("learning_rate", 0, "greater than 0, got 0.0"),
        ("learning_rate", float("nan"), "greater than 0, got nan"),
        ("per_device_train_batch_size", -4, "greater than 0, got -4"),
        ("early_stopping_patience", 0, "greater than 0, got 0"),
        ("weight_decay", -0.1, "at least 0, got -0.1"),
        ("num_train_epochs", -1, "at least 0, got -1.0"),
    ],
)
def test_a_value_out_of_range_is_refused(name, value, expected):
    assert problems(**{name: value}) == [f"train.{name}: input should be {expected}"]


def test_no_epochs_are_allowed_for_methods_in_closed_form():
    assert problems(num_train_epochs=0) == []


def test_all_that_is_wrong_is_told_at_once():
    found = problems(evaluation_strategy="epoch", seed=1, learnin_rate=1, max_grad_norm="x", weight_decay=-1)
    names = ["evaluation_strategy", "seed", "learnin_rate", "max_grad_norm", "weight_decay"]
    assert [problem.split(":")[0] for problem in found] == [f"train.{name}" for name in names]


def test_what_transformers_refuses_of_the_whole_is_told_too():
    (found,) = problems(save_strategy="eppoch")
    assert found.startswith("train: ")
    assert "eppoch" in found


def test_retired_and_owned_names_are_true_of_the_installed_transformers():
    names = {field.name for field in dataclasses.fields(TrainingArguments)}
    assert not names & set(RETIRED)
    assert not set(OWNED) & set(settings())
    assert set(DEFAULTS) <= set(settings())


def test_arguments_of_a_run_keep_columns_seed_and_our_defaults():
    arguments = training_arguments({"learning_rate": 1e-3, "early_stopping_patience": 2}, Path("out"), seed=7)
    assert (arguments.seed, arguments.data_seed, arguments.learning_rate) == (7, 7, 1e-3)
    assert (arguments.remove_unused_columns, arguments.label_names) == (False, ["labels"])
    assert (arguments.warmup_steps, arguments.weight_decay, arguments.num_train_epochs) == (0.1, 0.01, 10)
    assert arguments.accelerator_config.split_batches
    assert not hasattr(arguments, "early_stopping_patience")


@pytest.mark.parametrize(("gpu", "able", "given", "expected"), [
    (True, True, {}, True), (True, False, {}, False), (False, True, {}, False),
    (True, True, {"bf16": False}, False), (True, True, {"fp16": True}, None), (True, True, {"use_cpu": True}, False),
])  # fmt: skip
def test_half_precision_is_the_default_of_gpus_that_have_it(gpu, able, given, expected, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpu)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: able)
    assert precision(given).get("bf16", given.get("bf16")) == expected


def test_the_model_is_compiled_only_where_asked():
    assert not training_arguments({}, Path("out"), seed=0).torch_compile
    values, wrong = check({"torch_compile": True})
    assert wrong == []
    assert training_arguments(values, Path("out"), seed=0).torch_compile


def test_the_optimiser_is_one_kernel():
    assert training_arguments({}, Path("out"), seed=0).optim == "adamw_torch_fused"


def test_auto_is_a_higher_rate_for_narrower_networks():
    assert learning_rate_of(BertConfig(hidden_size=768)) == 5e-5
    assert learning_rate_of(BertConfig(hidden_size=384)) == pytest.approx(2e-4)
    assert learning_rate_of(BertConfig(hidden_size=32)) == 5e-4
    assert learning_rate_of(CLIPConfig()) == learning_rate_of(
        BertConfig(hidden_size=CLIPConfig().vision_config.hidden_size)
    )
    assert learning_rate_of(ResNetConfig()) == 1e-4


def test_auto_is_no_number_that_transformers_is_given():
    assert check({"learning_rate": "auto"}) == ({"learning_rate": "auto"}, [])
    assert training_arguments({"learning_rate": "auto"}, Path("out"), seed=0).learning_rate > 0
    assert problems(learning_rate="high")[0].startswith("train.learning_rate: ")


def test_processes_that_cannot_see_each_other_are_told_how_to(monkeypatch, tmp_path):
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setattr(TrainingArguments, "world_size", 1)
    with pytest.raises(UserError, match=r"started as 2 processes, of which each .*train\.use_cpu: true"):
        training_arguments({}, tmp_path, seed=0)
