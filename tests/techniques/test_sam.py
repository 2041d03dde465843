"""SAM: the gradient of the highest loss nearby, whatever stands in the way, and flatter minima."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from hf_smalldata.errors import UserError
from hf_smalldata.techniques.regularise.sam import Sam, climb


class Bowl(nn.Module):
    """Loss of Σ slopes w² / 2; a frozen weight beside it."""

    def __init__(self) -> None:
        super().__init__()
        self.w, self.frozen = nn.Parameter(torch.tensor([3.0, 2.0])), nn.Parameter(torch.ones(1), requires_grad=False)
        self.slopes = torch.tensor([1.0, 2.0])

    def backward(self) -> torch.Tensor:
        loss = (self.slopes * self.w.square()).sum() / 2
        loss.backward()
        return loss.detach()


def test_the_way_up_has_length_rho_over_all_tensors():
    way = climb([torch.tensor([3.0]), torch.tensor([[4.0]])], 0.5)
    torch.testing.assert_close(torch.cat([each.ravel() for each in way]), torch.tensor([0.3, 0.4]))


@pytest.mark.parametrize("value", [0.0, float("inf"), float("nan")])
def test_without_a_direction_there_is_no_climb(value):
    assert climb([torch.tensor([value, 0.0])], 0.1)[0].tolist() == [0, 0]


def test_the_gradient_is_that_of_the_top_and_the_weights_stay():
    bowl = Bowl()
    loss = Sam(rho=0.5).step(bowl.backward, bowl)
    g = torch.tensor([3.0, 4.0])  # length 5
    torch.testing.assert_close(bowl.w.grad, bowl.slopes * (torch.tensor([3.0, 2.0]) + 0.5 * g / 5))
    assert bowl.w.tolist() == [3.0, 2.0]
    assert loss.item() == (9 + 2 * 4) / 2
    assert bowl.frozen.grad is None


def test_gradients_of_earlier_parts_of_a_batch_are_added_to_and_do_not_lead():
    once, after = Bowl(), Bowl()
    Sam().step(once.backward, once)
    after.w.grad = torch.tensor([100.0, -100.0])
    Sam().step(after.backward, after)
    torch.testing.assert_close(after.w.grad, once.w.grad + torch.tensor([100.0, -100.0]))


def test_both_passes_see_the_same_draws_and_the_next_step_sees_others():
    bowl, seen = Bowl(), []

    def backward() -> torch.Tensor:
        seen.append(torch.rand(1).item())
        return bowl.backward()

    for _ in range(2):
        Sam().step(backward, bowl)
    assert seen[0] == seen[1] != seen[2] == seen[3]


def test_statistics_are_those_of_one_pass():
    torch.manual_seed(0)
    rows, norm = torch.randn(8, 3), nn.BatchNorm1d(3)
    norm(rows)
    expected, momentum = norm.running_mean.clone(), norm.momentum
    norm.reset_running_stats()

    def backward() -> torch.Tensor:
        loss = norm(rows).square().mean()
        loss.backward()
        return loss

    Sam().step(backward, norm)
    torch.testing.assert_close(norm.running_mean, expected)
    assert norm.momentum == momentum


def test_weights_that_are_out_of_sight_are_refused():
    with pytest.raises(UserError, match="not for sharded weights"):
        Sam().step(lambda: torch.zeros(()), Bowl())


def sharpness(rho: float | None) -> float:
    """The trace of the Hessian, 2 (u² + v²), where descent of (u v - 1)² ends; at u = v = 1 it has its least, 4."""
    weights = nn.ParameterList([torch.tensor(3.0), torch.tensor(0.5)])
    optimizer = torch.optim.SGD(weights.parameters(), 0.05)

    def backward() -> torch.Tensor:
        loss = (weights[0] * weights[1] - 1) ** 2
        loss.backward()
        return loss.detach()

    for _ in range(300):
        optimizer.zero_grad()
        loss = backward() if rho is None else Sam(rho=rho).step(backward, weights)
        optimizer.step()
    assert loss < 1e-2
    return 2 * sum(weight.item() ** 2 for weight in weights)


def test_of_minima_with_equal_loss_a_flatter_one_is_found_the_larger_rho_is():
    assert sharpness(0.1) < sharpness(0.05) < 0.8 * sharpness(None)


@pytest.mark.parametrize("rho", [0, -0.1])
def test_rho_is_positive(rho):
    with pytest.raises(ValueError, match="rho"):
        Sam(rho=rho)
