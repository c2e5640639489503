"""Networks of one hidden layer on one input: fitted by hand, by least squares, by training.

Shape suffixes: M points, N units, R networks.
"""

from typing import NamedTuple

import torch
from torch import Tensor


class Fit(NamedTuple):
    """What a network computes at M points, and the size of what was summed there."""

    values_M: Tensor
    size: float


def interpolant(x_M: Tensor, knots: Tensor, values: Tensor) -> Fit:
    """f(x_0) + sum_i c_i relu(x - x_i), c_i the change of slope at each of N knots but the last."""
    slopes = values.diff() / knots.diff()
    changes = torch.cat([slopes[:1], slopes.diff()])
    hidden_MN = torch.relu(x_M[:, None] - knots[:-1])
    size = values.abs().max() + (hidden_MN @ changes.abs()).max()
    return Fit(values[0] + hidden_MN @ changes, float(size))


def least_squares(x_M: Tensor, weight_M: Tensor, knots: Tensor, target_M: Tensor) -> Fit:
    """The best a + sum_i c_i relu(x - x_i) in the mean square weighted by ``weight_M``.

    By QR; ``size``: ||A||_F ||c|| + ||y||, which times u bounds the fit's loss (Higham 2002,
    theorem 20.3).
    """
    hidden_MN = torch.relu(x_M[:, None] - knots[:-1])
    columns = torch.cat([torch.ones_like(x_M)[:, None], hidden_MN], dim=1)
    root_M1 = weight_M.sqrt()[:, None]
    scaled, goal = root_M1 * columns, root_M1 * target_M[:, None]
    best = torch.linalg.lstsq(scaled, goal, driver="gels").solution
    size = float(torch.linalg.matrix_norm(scaled) * best.norm() + goal.norm())
    return Fit((columns @ best).squeeze(1), size)


def staircase(x_M: Tensor, places_N: Tensor, steps_N: Tensor, start: float, slope: float) -> Fit:
    """start + sum_i step_i sigmoid(slope (x - place_i))."""
    hidden_MN = torch.sigmoid(slope * (x_M[:, None] - places_N))
    return Fit(start + hidden_MN @ steps_N, abs(start) + float(steps_N.abs().sum()))


def cosine_average(x_MD: Tensor, frequencies_ND: Tensor) -> Tensor:
    """The mean over N units of cos(w x), (M,)."""
    return torch.cos(x_MD @ frequencies_ND.T).mean(dim=1)


def train(
    x_M: Tensor, target_M: Tensor, first_RN: Tensor, bias_RN: Tensor, last_RN: Tensor, steps: int,
    rate: float,
) -> Tensor:  # fmt: skip
    """ReLU networks after ``steps`` of Adam on the mean square over all points, at x_M: (R, M)."""
    shift_R1 = torch.zeros_like(first_RN[:, :1])
    parameters = [p.clone().requires_grad_() for p in (first_RN, bias_RN, last_RN, shift_R1)]

    def network() -> Tensor:
        first, bias, last, shift = parameters
        hidden_RMN = torch.relu(x_M[:, None] * first[:, None] + bias[:, None])
        return torch.einsum("rmn,rn->rm", hidden_RMN, last) + shift

    optimizer = torch.optim.Adam(parameters, lr=rate)
    for _ in range(steps):
        optimizer.zero_grad()
        (network() - target_M).square().mean(dim=1).sum().backward()
        optimizer.step()
    return network().detach()
