import pytest
import torch

from stability.catalogue.ensembles import ENSEMBLES

SAMPLES, N = 500, 7


def draw(name: str, seed: int = 0) -> torch.Tensor:
    return ENSEMBLES[name].draw(SAMPLES, N, torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("name", ENSEMBLES)
def test_entries_have_mean_zero_and_unit_second_moment(name: str) -> None:
    """Bounds of 6 standard errors: false alarm 2e-9."""
    entry, matrices = ENSEMBLES[name], draw(name)
    assert matrices.shape == (SAMPLES, N, N)
    assert matrices.is_complex() == entry.complex
    assert matrices.dtype in (torch.float32, torch.complex64)
    moment = 1 / N if name == "orthogonal" else 1.0
    count = matrices.numel()
    assert abs(matrices.mean().abs().item()) < 6 * (moment / count) ** 0.5
    squares = matrices.abs().square()
    bound = 6 * squares.std().item() / count**0.5 + 1e-6
    assert squares.mean().item() == pytest.approx(moment, abs=bound)


@pytest.mark.parametrize("name", ["gaussian", "uniform", "rademacher"])
def test_the_excess_kurtosis(name: str) -> None:
    fourth = draw(name).pow(4)
    expected = 3 + (ENSEMBLES[name].excess or 0.0)
    bound = 6 * fourth.std().item() / fourth.numel() ** 0.5 + 1e-6
    assert fourth.mean().item() == pytest.approx(expected, abs=bound)


def test_uniform_entries_stay_within_root_three() -> None:
    assert draw("uniform").abs().max().item() <= 3**0.5 * (1 + 1e-6)


def test_rademacher_entries_are_signs_and_some_matrices_singular() -> None:
    entry = ENSEMBLES["rademacher"]
    signs = entry.draw(SAMPLES, 2, torch.Generator().manual_seed(1))
    assert set(signs.flatten().tolist()) == {-1.0, 1.0}
    # P(det = 0) is 1/2 at n = 2; 6 standard errors.
    share = (torch.linalg.det(signs).abs() < 0.5).double().mean().item()
    assert abs(share - 0.5) < 6 * 0.5 / SAMPLES**0.5
    assert entry.singular


def test_orthogonal_matrices_are_orthogonal_and_haar() -> None:
    q = draw("orthogonal").double()
    gram = q.mT @ q - torch.eye(N, dtype=torch.float64)
    # Entries rounded to float32: n u to first order, twice.
    assert gram.abs().max().item() < 2 * N * 2.0**-24
    # E (tr Q)^2 = 1 under Haar (Diaconis & Shahshahani 1994); without the signs it is not.
    traces = torch.diagonal(q, dim1=1, dim2=2).sum(dim=1)
    assert abs(traces.mean().item()) < 6 / SAMPLES**0.5
    assert abs(traces.square().mean().item() - 1) < 6 * 2**0.5 / SAMPLES**0.5


@pytest.mark.parametrize("name", ENSEMBLES)
def test_the_generator_decides(name: str) -> None:
    assert torch.equal(draw(name, 3), draw(name, 3))
    assert not torch.equal(draw(name, 3), draw(name, 4))
