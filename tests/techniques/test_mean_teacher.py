"""Mean teacher: disagreement, the ramp, an average that predicts and is kept, and moons with six labels."""

from __future__ import annotations

import math
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from transformers import TrainerControl

from hf_smalldata.errors import UserError
from hf_smalldata.techniques.selftrain.mean_teacher import TEACHERS, MeanTeacher, disagreement, predicted, ramp
from hf_smalldata.training.best import learnt


def test_the_disagreement_is_the_squared_distance_of_predictions_and_teaches_the_student_alone():
    torch.manual_seed(0)
    student, teacher = torch.randn(5, 3, requires_grad=True), torch.randn(5, 3, requires_grad=True)
    found = disagreement(student, teacher)
    torch.testing.assert_close(found, (student.softmax(-1) - teacher.softmax(-1)).pow(2).sum(1).mean())
    found.backward()
    assert student.grad.any()
    assert teacher.grad is None


def test_the_ramp_is_the_papers():
    assert [ramp(0, 0.3), ramp(0.15, 0.3), ramp(0.3, 0.3), ramp(1, 0.3)] == pytest.approx(
        [math.exp(-5), math.exp(-1.25), 1, 1]
    )


def test_the_teacher_predicts_with_averaged_weights_without_dropout_and_the_model_stays(text):
    network, other, batch = text.network(0).train(), text.network(1), text.batch(4)
    before = {name: tensor.clone() for name, tensor in learnt(network).items()}
    found = predicted(network, learnt(other), batch)
    torch.testing.assert_close(found, other.eval()(**batch).logits)
    assert network.training
    assert all(torch.equal(tensor, before[name]) for name, tensor in learnt(network).items())


def test_the_penalty_begins_when_there_is_an_average_and_grows(text):
    network, batch = text.network().train(), {"unlabelled": text.batch(4)}
    technique = MeanTeacher(weight=2.0, ramp=0.5)
    (callback,) = technique.callbacks()
    args, state = SimpleNamespace(), SimpleNamespace(global_step=0, max_steps=10)
    callback.on_train_begin(args, state, None, model=network)
    assert technique.penalty(network, batch, None).item() == 0
    callback.on_step_end(args, state, TrainerControl(), model=network)
    with torch.no_grad():
        network.classifier.weight.add_(1.0)  # the student goes on
        network.classifier.bias.add_(torch.tensor([2.0, 0.0, -2.0]))
    early, late = [], []
    for step, found in ((1, early), (9, late)):
        state.global_step = step
        callback.on_step_begin(args, state, None, model=network)
        torch.manual_seed(0)
        found.append(technique.penalty(network, batch, None).item())
    assert late[0] / early[0] == pytest.approx(1 / ramp(0.1, 0.5), rel=1e-4)
    callback.on_train_end(args, state, None, model=network)
    assert network not in TEACHERS
    assert network.classifier.bias.abs().max() < 1  # the average is kept


def test_few_labels_and_many_rows_without_are_more_than_few_labels(few_moons):
    assert few_moons(MeanTeacher(strong={"eda": {}}), 4) > 0.03


def test_rows_without_one_class_are_refused(text):
    with pytest.raises(UserError, match="mean_teacher: for rows of one class each"):
        MeanTeacher().model(text.network(), replace(text.context(), problem_type="regression"))
