"""Every backbone of the README's table: trained whole, by adapters and frozen, saved, and reloaded by a pipeline."""

from __future__ import annotations

import importlib.util
import tempfile
from collections.abc import Collection
from pathlib import Path

import pytest
import torch
from torch import nn

from hf_smalldata import bundle
from hf_smalldata.errors import UserError
from hf_smalldata.nn.blocks import blocks
from hf_smalldata.nn.heads import head_names
from hf_smalldata.techniques.peft.lora import target_names

_spec = importlib.util.spec_from_file_location("backbones", Path(__file__).with_name("backbones.py"))
backbones = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(backbones)

UNUSED = ("mask_token", "masked_spec_embed", "contact_head", "inv_freq")  # of pretraining, and constants
LARGE = ("Inception v4 (timm)", "Inception v3 (timm)")  # 41 and 24 million weights, and no way to build them smaller
TWINS = ("EfficientNet-B0 (timm)", "MobileNetV2 (timm)", "VGG-11 (timm)")  # what differs is learnt of others
OF_EACH_KIND = ("BERT", "ESM-2", "ViT", "ResNet", "wav2vec 2.0")


def backbones_of(always: Collection[str]) -> pytest.MarkDecorator:
    """All backbones, those besides `always` under `-m slow`."""
    names = [pytest.param(name, marks=() if name in always else pytest.mark.slow) for name in backbones.BACKBONES]
    return pytest.mark.parametrize("name", names)


each_but_twins = backbones_of(backbones.BACKBONES.keys() - {*LARGE, *TWINS})


@pytest.fixture(scope="module")
def root():
    """Hundreds of megabytes of models in all: gone with the tests."""
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder)


@pytest.fixture(scope="module")
def try_out(root):
    """Name of a backbone and of a setting -> the trial."""
    rows = {}

    def run(name, setting, work):
        backbone, model = backbones.BACKBONES[name], root / name
        if not model.exists():
            torch.manual_seed(0)
            backbone.save(model)
        if backbone.task not in rows:
            rows[backbone.task] = backbones.rows_for(backbone.task, root / backbone.task)
        return backbones.attempt(backbone, setting, model, rows[backbone.task], work)

    return run


@pytest.fixture
def trial(name, setting, try_out):
    with tempfile.TemporaryDirectory() as work:
        yield try_out(name, setting, Path(work))


def prefixes(model: nn.Module) -> list[str]:
    """Full names of the blocks."""
    names = {id(module): name for name, module in model.named_modules()}
    return [f"{names[id(block.module)]}." for block in blocks(model)]


def statistics(model: nn.Module) -> set[str]:
    return {name for name, _ in model.named_buffers() if name.endswith(("running_mean", "running_var"))}


def check_reload(trial) -> None:
    assert trial.expected.std(0).max() > 1e-3, "the rows are not told apart, so nothing was tested"
    assert trial.difference() <= trial.tolerance


@backbones_of(OF_EACH_KIND)
@pytest.mark.parametrize("setting", ["full"])
def test_full_fine_tuning_moves_every_weight_and_all_statistics_and_reloads(trial):
    check_reload(trial)
    weights = {name for name, _ in trial.before.named_parameters()} | statistics(trial.before)
    assert not {name for name in weights - trial.changed if not any(part in name for part in UNUSED)}


@each_but_twins
@pytest.mark.parametrize("setting", ["lora"])
def test_adapters_move_and_of_the_rest_only_the_head_and_both_folders_reload(trial):
    check_reload(trial)
    fitting = trial.fitting
    bundle.prove(trial.folders[1], fitting.task, fitting.processor, fitting.data.train, trial.expected,
                 fitting.data.labels, tolerance=trial.tolerance)  # fmt: skip
    assert trial.adapters
    assert all(largest > 0 for largest in trial.adapters.values())
    heads = tuple(head_names(trial.before))
    assert trial.changed
    assert all(name.startswith(heads) for name in trial.changed)


@backbones_of(OF_EACH_KIND)
@pytest.mark.parametrize("setting", ["frozen"])
def test_of_a_frozen_network_the_head_alone_moves_and_it_reloads(trial):
    check_reload(trial)
    heads = tuple(head_names(trial.before))
    assert trial.changed >= {name for name, _ in trial.before.named_parameters() if name.startswith(heads)}
    assert all(name.startswith(heads) for name in trial.changed)


@each_but_twins
@pytest.mark.parametrize("setting", ["bottom"])
def test_a_frozen_bottom_block_stays_with_its_statistics_and_all_above_moves(trial):
    check_reload(trial)
    bottom, *above = prefixes(trial.before)
    assert not any(name.startswith(bottom) for name in trial.changed)
    for block in above:
        mine = {name for name, _ in trial.before.named_parameters() if name.startswith(block)}
        assert mine <= trial.changed
    assert all(name in trial.changed for name in statistics(trial.before) if name.startswith(tuple(above)))


def test_a_stem_that_lies_below_the_frozen_block_is_frozen_with_it(try_out, tmp_path):
    trial = try_out("ResNet-10t (timm)", "bottom", tmp_path)
    stem = ("timm_model.conv1", "timm_model.bn1")
    assert any(name.startswith(stem) for name in statistics(trial.before))
    assert not any(name.startswith(stem) for name in trial.changed)


@pytest.mark.parametrize(
    ("name", "cached"),
    [
        ("BERT", True),
        ("ResNet", True),
        ("VGG-11 (timm)", True),
        ("AST", True),
        ("wav2vec 2.0", True),
        ("ALBERT", False),
    ],
)
def test_frozen_parts_are_computed_once_where_no_layer_is_run_twice(name, cached, try_out, tmp_path):
    assert try_out(name, "bottom", tmp_path).facts["prefix_cache"].startswith("on") == cached


def test_layers_that_pad_by_themselves_get_no_adapter(timm):
    model = timm("tf_efficientnetv2_b0")
    inside = [module for block in blocks(model) for module in block.module.modules() if isinstance(module, nn.Conv2d)]
    chosen = [model.get_submodule(name) for name in target_names(model, "all")]
    assert any(type(module) is not nn.Conv2d for module in inside)
    assert {type(module) for module in chosen} == {nn.Conv2d}


def test_a_network_of_standardised_convolutions_is_refused_by_lora(timm):
    with torch.device("meta"):
        model = timm("resnetv2_50x1_bit")
    with pytest.raises(UserError, match=r"^lora: TimmWrapperForImageClassification has no linear layer or plain conv"):
        target_names(model, "all")
