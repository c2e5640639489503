"""Passes by hand against autograd, exact fractions, and one network at a time."""

from fractions import Fraction
from itertools import pairwise, product
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from stability.catalogue.activations import ACTIVATIONS
from stability.kernels import backprop
from stability.kernels.backprop import CROSS_ENTROPY, SQUARED, Network, Parameters

LOSSES = {"squared": SQUARED, "cross_entropy": CROSS_ENTROPY}
WIDTHS = [5, 7, 3, 4]
BATCH, DECAY = 11, 0.3
TIGHT: dict[str, Any] = {"rtol": 1e-12, "atol": 1e-14}
"""Sums of at most 11 terms through three layers: some 100 u."""

cases = pytest.mark.parametrize(
    ("activation", "loss", "bias"), list(product(ACTIVATIONS, LOSSES, (False, True)))
)


def draw(seed: int, *lead: int, bias: bool = True) -> Parameters:
    g = torch.Generator().manual_seed(seed)
    fans = list(pairwise(WIDTHS))
    weights = [torch.randn((*lead, m, n), generator=g, dtype=torch.float64) / 2 for m, n in fans]
    biases = [torch.randn((*lead, 1, n), generator=g, dtype=torch.float64) for _, n in fans]
    return Parameters(weights, biases if bias else [])


def data() -> tuple[Tensor, Tensor]:
    g = torch.Generator().manual_seed(9)
    inputs = torch.randn((BATCH, WIDTHS[0]), generator=g, dtype=torch.float64)
    labels = torch.randint(WIDTHS[-1], (BATCH,), generator=g)
    return inputs, functional.one_hot(labels, WIDTHS[-1]).double()


def network(activation: str, loss: str, parameters: Parameters, decay: float = DECAY) -> Network:
    entry = ACTIVATIONS[activation]
    functions = entry.forward, entry.derivative, entry.second_derivative
    return Network(parameters, *functions, LOSSES[loss], decay)


class Reference:
    """The same network under autograd."""

    def __init__(self, activation: str, loss: str, parameters: Parameters) -> None:
        self.leaves = [
            t.clone().requires_grad_() for t in (*parameters.weights, *parameters.biases)
        ]
        inputs, target = data()
        weights, biases = self.leaves[:3], self.leaves[3:] or [torch.zeros(())] * 3
        self.z, self.h, signal = list[Tensor](), list[Tensor](), inputs
        for layer, (weight, bias) in enumerate(zip(weights, biases, strict=True)):
            self.z.append(signal @ weight + bias)
            if layer < 2:
                signal = ACTIVATIONS[activation].forward(self.z[-1])
                self.h.append(signal)
        if loss == "squared":
            self.fit = functional.mse_loss(self.z[-1], target, reduction="sum") / (2 * BATCH)
        else:
            self.fit = functional.cross_entropy(self.z[-1], target.argmax(1))
        self.objective = self.fit + DECAY / 2 * sum(w.square().sum() for w in weights)


def flat(parameters: Parameters) -> list[Tensor]:
    return [*parameters.weights, *parameters.biases]


def assert_equal(mine: Any, theirs: Any) -> None:
    assert len(mine) == len(theirs)
    for one, other in zip(mine, theirs, strict=True):
        torch.testing.assert_close(one, other, **TIGHT)


@cases
def test_both_passes_are_autograds(activation: str, loss: str, bias: bool) -> None:
    parameters, reference = draw(0, bias=bias), Reference(activation, loss, draw(0, bias=bias))
    net = network(activation, loss, parameters)
    passed = backprop.forward(net, *data())
    found = backprop.backward(net, passed, data()[1])
    torch.testing.assert_close(passed.objective, reference.objective.detach(), **TIGHT)
    torch.testing.assert_close(passed.fit, reference.fit.detach(), **TIGHT)
    wanted = [*reference.z, *reference.h, *reference.leaves]
    theirs = torch.autograd.grad(reference.objective, wanted)
    assert_equal([*found.z, *found.h, *flat(found.parameters)], theirs)


@cases
def test_hessian_vector_products_are_those_of_double_backward(
    activation: str, loss: str, bias: bool
) -> None:
    parameters, way = draw(0, bias=bias), draw(1, bias=bias)
    reference = Reference(activation, loss, parameters)
    first = torch.autograd.grad(reference.objective, reference.leaves, create_graph=True)
    theirs = torch.autograd.grad(first, reference.leaves, grad_outputs=flat(way))
    net = network(activation, loss, parameters)
    passed = backprop.forward(net, *data())
    found = backprop.backward(net, passed, data()[1])
    assert_equal(flat(backprop.hessian_vector(net, passed, found, way)), theirs)


NET = network("tanh", "squared", draw(0))


@pytest.mark.parametrize(
    "wrong",
    [NET._replace(slope=torch.ones_like), NET._replace(bend=torch.zeros_like),
     NET._replace(decay=0.0), NET._replace(loss=CROSS_ENTROPY)],
)  # fmt: skip
def test_a_wrong_part_is_noticed(wrong: Network) -> None:
    def turned(net: Network) -> Tensor:
        passed = backprop.forward(net, *data())
        found = backprop.backward(net, passed, data()[1])
        return backprop.hessian_vector(net, passed, found, draw(1)).weights[0]

    assert not torch.allclose(turned(NET), turned(wrong), rtol=1e-3)


@pytest.mark.parametrize("loss", LOSSES)
def test_networks_side_by_side_are_each_alone(loss: str) -> None:
    many, way = draw(2, 3), draw(3, 3)
    net = network("gelu", loss, many)
    passed = backprop.forward(net, *data())
    found = backprop.backward(net, passed, data()[1])
    turned = backprop.hessian_vector(net, passed, found, way)
    assert passed.objective.shape == (3,)
    for at in range(3):
        one = network("gelu", loss, Parameters(*([t[at] for t in group] for group in many)))
        alone = backprop.forward(one, *data())
        back = backprop.backward(one, alone, data()[1])
        own = Parameters(*([t[at] for t in group] for group in way))
        torch.testing.assert_close(passed.objective[at], alone.objective, **TIGHT)
        assert_equal([t[at] for t in flat(found.parameters)], flat(back.parameters))
        again = backprop.hessian_vector(one, alone, back, own)
        assert_equal([t[at] for t in flat(turned)], flat(again))


@pytest.mark.parametrize("loss", LOSSES)
def test_a_complex_step_gives_the_derivative(loss: str) -> None:
    parameters, way, (inputs, target) = draw(0), draw(1), data()
    net = network("tanh", loss, parameters)
    found = backprop.backward(net, backprop.forward(net, inputs, target), target)
    moved = Parameters(*([p + 1e-30j * v for p, v in zip(*pair, strict=True)]
                         for pair in zip(parameters, way, strict=True)))  # fmt: skip
    ahead = backprop.forward(network("tanh", loss, moved), inputs.to(torch.complex128), target)
    slope = sum((g * v).sum() for g, v in zip(flat(found.parameters), flat(way), strict=True))
    torch.testing.assert_close(ahead.objective.imag / 1e-30, slope, **TIGHT)


def test_d2ls_equations_in_fractions() -> None:
    """x = (1, 2), W1 = ((1, -1), (1/2, 1/2)), ReLU, W2 = (1, 2), y = 1, lambda = 1/10."""
    x, y, decay = [Fraction(1), Fraction(2)], Fraction(1), Fraction(1, 10)
    w1, w2 = [[Fraction(1), Fraction(-1)], [Fraction(1, 2)] * 2], [Fraction(1), Fraction(2)]
    z = [sum(a * b for a, b in zip(row, x, strict=True)) for row in w1]
    h = [max(value, Fraction(0)) for value in z]
    o = sum(a * b for a, b in zip(w2, h, strict=True))
    by_h = [(o - y) * w for w in w2]
    by_z = [g if value > 0 else Fraction(0) for g, value in zip(by_h, z, strict=True)]
    by_w2 = [(o - y) * value + decay * w for value, w in zip(h, w2, strict=True)]
    by_w1 = [[g * value + decay * w for value, w in zip(x, row, strict=True)]
             for g, row in zip(by_z, w1, strict=True)]  # fmt: skip
    penalty = decay / 2 * sum(w * w for w in (*w1[0], *w1[1], *w2))
    objective = (o - y) ** 2 / 2 + penalty
    assert (objective, by_w2, by_w1[1]) == (Fraction(19, 8), [Fraction(1, 10), Fraction(16, 5)],
                                            [Fraction(81, 20), Fraction(161, 20)])  # fmt: skip

    def tensor(values: Any) -> Tensor:
        return torch.tensor([[float(v) for v in row] for row in values], dtype=torch.float64)

    net = network("relu", "squared", Parameters([tensor(w1).T, tensor([w2]).T]), float(decay))
    passed = backprop.forward(net, tensor([x]), tensor([[y]]))
    found = backprop.backward(net, passed, tensor([[y]]))
    assert_equal(passed.z, [tensor([z]), tensor([[o]])])
    assert_equal(found.z, [tensor([by_z]), tensor([[o - y]])])
    assert_equal(found.h, [tensor([by_h])])
    assert_equal(found.parameters.weights, [tensor(by_w1).T, tensor([by_w2]).T])
    assert passed.objective.item() == float(objective)


def test_cross_entropy_does_not_overflow() -> None:
    output = torch.tensor([[1e4, 0.0, -1e4]], dtype=torch.float64)
    target = torch.tensor([[0.0, 1.0, 0.0]], dtype=torch.float64)
    assert CROSS_ENTROPY.value(output, target).item() == 1e4
    assert CROSS_ENTROPY.gradient(output, target).tolist() == [[1.0, -1.0, 0.0]]
    assert torch.isfinite(CROSS_ENTROPY.curvature(output, target)).all()


def test_a_single_layer_has_no_hidden_states() -> None:
    inputs, target = data()
    short = Parameters([draw(0).weights[0][:, :4]])
    net = network("tanh", "squared", short)
    passed = backprop.forward(net, inputs, target)
    found = backprop.backward(net, passed, target)
    assert (len(passed.h), len(passed.z), found.h) == (1, 1, [])
    assert found.parameters.biases == []
    expected = inputs.T @ (inputs @ short.weights[0] - target) / BATCH + DECAY * short.weights[0]
    torch.testing.assert_close(found.parameters.weights[0], expected, **TIGHT)
