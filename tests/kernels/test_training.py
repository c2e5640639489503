"""Nets trained side by side against each one trained by torch.nn and torch.optim alone."""

import math
from itertools import pairwise

import pytest
import torch
from torch import Tensor, nn

from stability.kernels.training import cross_entropy, preactivations, train

NETS, SAMPLES, FEATURES, CLASSES, STEPS, BATCH = 3, 31, 5, 11, 13, 2
FANS = [(FEATURES, 7), (7, 17), (17, CLASSES)]
Problem = tuple[list[Tensor], list[Tensor], Tensor, Tensor, Tensor]


def problem(dtype: torch.dtype = torch.float64) -> Problem:
    g = torch.Generator().manual_seed(1)
    weights = [torch.randn((NETS, *fan), generator=g, dtype=dtype) for fan in FANS]
    biases = [torch.randn((NETS, fan[1]), generator=g, dtype=dtype) for fan in FANS]
    inputs = torch.randn((SAMPLES, FEATURES), generator=g, dtype=dtype)
    labels = torch.randint(CLASSES, (SAMPLES,), generator=g)
    batches = torch.randint(SAMPLES, (STEPS, BATCH), generator=g)
    return weights, biases, inputs, labels, batches


def reference(net: int, learning_rate: float) -> tuple[list[float], list[Tensor]]:
    """Losses and final parameters of one net, by the book."""
    weights, biases, inputs, labels, batches = problem()
    layers: list[nn.Module] = []
    for weight, bias in zip(weights, biases, strict=True):
        linear = nn.Linear(weight.shape[1], weight.shape[2], dtype=torch.float64)
        linear.weight.data = weight[net].T.clone()
        linear.bias.data = bias[net].clone()
        layers += [linear, nn.Tanh()]
    model = nn.Sequential(*layers[:-1])
    optimizer = torch.optim.SGD(model.parameters(), lr=learning_rate)
    losses = []
    for batch in batches:
        optimizer.zero_grad()
        loss = nn.CrossEntropyLoss()(model(inputs[batch]), labels[batch])
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses, [p.detach() for p in model.parameters()]


@pytest.mark.parametrize("net", range(NETS))
def test_losses_and_parameters_are_those_of_torch(net: int) -> None:
    last: dict[str, list[Tensor]] = {}

    def observe(_step: int, weights: list[Tensor], biases: list[Tensor]) -> None:
        last["weights"] = [w.clone() for w in weights]
        last["biases"] = [b.clone() for b in biases]

    weights, biases, inputs, labels, batches = problem()
    losses = train(weights, biases, torch.tanh, inputs, labels, batches, 0.2, observe)
    expected, parameters = reference(net, 0.2)
    assert losses.shape == (NETS, STEPS)
    torch.testing.assert_close(losses[net], torch.tensor(expected, dtype=torch.float64),
                               rtol=1e-12, atol=1e-12)  # fmt: skip
    for layer in range(len(FANS)):
        mine, bias = last["weights"][layer][net], last["biases"][layer][net]
        torch.testing.assert_close(mine.T, parameters[2 * layer], rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(bias, parameters[2 * layer + 1], rtol=1e-12, atol=1e-12)


def test_another_learning_rate_is_noticed() -> None:
    losses = train(problem()[0], problem()[1], torch.tanh, *problem()[2:], 0.21)
    expected = torch.tensor(reference(0, 0.2)[0], dtype=torch.float64)
    assert not torch.allclose(losses[0], expected, rtol=1e-4)


def test_a_step_follows_the_finite_difference_of_the_loss() -> None:
    """Central differences of step h: error h^2 |f'''| / 6 + u |f| / h, below 1e-8 at h = 1e-5."""
    weights, biases, inputs, labels, batches = problem()
    moved: list[Tensor] = []
    train(weights, biases, torch.tanh, inputs, labels, batches[:1], 0.5,
          lambda _step, w, _b: moved.append(w[1].clone()))  # fmt: skip
    gradient = (moved[0] - moved[1])[2, 3, 5].item() / 0.5

    def loss(shift: float) -> float:
        nudged = [w.clone() for w in weights]
        nudged[1][2, 3, 5] += shift
        logits = preactivations(nudged, biases, torch.tanh, inputs[batches[0]])[-1]
        return cross_entropy(logits, labels[batches[0]])[2].item()

    assert gradient == pytest.approx((loss(1e-5) - loss(-1e-5)) / 2e-5, abs=1e-8)
    assert abs(gradient) > 1e-6


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_diverged_net_does_not_touch_its_neighbours(dtype: torch.dtype) -> None:
    weights, biases, inputs, labels, batches = problem(dtype)
    well = train(weights, biases, torch.relu, inputs, labels, batches, 0.1)
    weights[0][1] = torch.finfo(dtype).max / 4
    biases[1][1] = torch.inf
    sick = train(weights, biases, torch.relu, inputs, labels, batches, 0.1)
    assert well.isfinite().all()
    assert not sick[1].isfinite().any()
    assert torch.equal(sick[[0, 2]], well[[0, 2]])


def test_the_arguments_stay_as_they_were() -> None:
    weights, biases, inputs, labels, batches = problem()
    train(weights, biases, torch.tanh, inputs, labels, batches, 0.5)
    fresh = problem()
    assert all(torch.equal(a, b) for a, b in zip(weights + biases, fresh[0] + fresh[1],
                                                 strict=True))  # fmt: skip
    assert not any(p.requires_grad for p in weights + biases)


@pytest.mark.parametrize("steps", [0, 1, STEPS])
def test_observe_sees_every_state_without_gradients(steps: int) -> None:
    weights, biases, inputs, labels, batches = problem()
    seen: list[int] = []
    first: list[Tensor] = []

    def observe(step: int, w: list[Tensor], b: list[Tensor]) -> None:
        seen.append(step)
        first.append(w[0].clone())
        assert not torch.is_grad_enabled()
        assert not any(p.requires_grad for p in w + b)

    losses = train(weights, biases, torch.tanh, inputs, labels, batches[:steps], 0.1, observe)
    assert losses.shape == (NETS, steps)
    assert seen == list(range(steps + 1))
    assert torch.equal(first[0], weights[0])
    assert all(not torch.equal(a, b) for a, b in pairwise(first))


def test_nets_do_not_learn_at_rate_zero_and_zero_nets_start_at_ln_k() -> None:
    weights, biases, inputs, labels, batches = problem()
    zeros = [torch.zeros_like(w) for w in weights], [torch.zeros_like(b) for b in biases]
    losses = train(*zeros, torch.tanh, inputs, labels, batches, 0.0)
    torch.testing.assert_close(losses, torch.full_like(losses, math.log(CLASSES)))


def test_cross_entropy_neither_overflows_nor_averages_over_nets() -> None:
    logits = torch.tensor([[[1e4, 0.0, 0.0]], [[0.0, 0.0, 0.0]]], dtype=torch.float64)
    assert cross_entropy(logits, torch.tensor([1])).tolist() == [1e4, pytest.approx(math.log(3))]


def test_preactivations_have_the_layers_shapes_and_a_linear_end() -> None:
    weights, biases, inputs, _, _ = problem()
    z = preactivations(weights, biases, torch.tanh, inputs)
    assert [tuple(layer.shape) for layer in z] == [(NETS, SAMPLES, fan[1]) for fan in FANS]
    hidden = torch.tanh(inputs @ weights[0][1] + biases[0][1])
    hidden = torch.tanh(hidden @ weights[1][1] + biases[1][1])
    torch.testing.assert_close(z[2][1], hidden @ weights[2][1] + biases[2][1])


def test_weights_without_their_biases_are_refused() -> None:
    weights, biases, inputs, labels, batches = problem()
    with pytest.raises(ValueError, match=r"3 weights but 2 biases"):
        train(weights, biases[:2], torch.tanh, inputs, labels, batches, 0.1)
