"""A search by Optuna finds what theory knows."""

import math
import re
from importlib.util import find_spec
from pathlib import Path

import pytest
from running import Run
from scipy.stats import t

import stability as package

SEARCH = ("-m", "hydra/sweeper=optuna", "hydra.sweeper.sampler.seed=0", "hydra.sweeper.n_jobs=1",
          "experiment=gradient_flow", "experiment.activation=relu", "experiment.init=he",
          "experiment.depth=10", "experiment.width=64", "experiment.batch=2",
          "experiment.sigma_w=interval(0.5,2)")  # fmt: skip
OBJECTIVE = ("objective=gradient_decades_per_layer", "target=0")


@pytest.mark.optuna
def test_optuna_finds_the_critical_weight_variance(stability: Run, tmp_path: Path) -> None:
    """He's variance, sigma_w = 1, up to what theory states of finite width and of its error.

    ReLU is homogeneous: with the same draws, log10 sigma_w shifts the decades a layer by itself,
    so what the search finds differs from 1 by the prediction there, the sampling error (Student's
    t at 1e-6, two-sided), and what the search leaves of its objective.
    """
    if find_spec("hydra_plugins.hydra_optuna_sweeper") is None:
        pytest.skip("needs pip install 'stability[optuna]'")
    words = (*SEARCH, *OBJECTIVE, "experiment.replicates=20", "hydra.sweeper.n_trials=25")
    done = stability(*words)
    assert done.returncode == 0, done.stderr
    found = re.search(r"best: experiment.sigma_w=(\S+) with an objective of (\S+)", done.stdout)
    assert found is not None, done.stdout
    sigma, left = map(float, found.groups())
    table = package.load(tmp_path / "runs")
    rows = table[table["quantity"] == "gradient_decades_per_layer"].set_index("sigma_w")
    assert len(rows) == 25
    best = rows.loc[sigma]
    assert abs(best["measured"]) == pytest.approx(left, rel=1e-3)
    at_one = best["predicted"] - math.log10(sigma)
    error = t.ppf(1 - 5e-7, best["n_samples"] - 1) * best["stderr"]
    allowed = abs(at_one) + error + left
    assert abs(math.log10(sigma)) <= allowed
    assert allowed < math.log10(1.15), "the answer would say nothing"
    assert rows["measured"].abs().min() == abs(best["measured"])
    again = stability(*words)
    assert again.stdout.count("stored result reused") == 25


@pytest.mark.optuna
def test_a_search_without_a_known_objective_is_refused(stability: Run, tmp_path: Path) -> None:
    if find_spec("hydra_plugins.hydra_optuna_sweeper") is None:
        pytest.skip("needs pip install 'stability[optuna]'")
    done = stability(*SEARCH, "objective=gradient", "experiment.replicates=2")
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].startswith("stability: objective='gradient': must be one")
    assert not list((tmp_path / "runs").glob("sweeps/*/optimization_results.yaml"))


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (SEARCH, "objective: must be given in a search, a quantity of the table"),
        (("-m", "seed=0,1", *OBJECTIVE), "objective: is for a search; add -m hydra/sweeper=optuna"),
        (OBJECTIVE, "objective: is for a search; add -m hydra/sweeper=optuna"),
        (("objective=3",), "objective=3: must name a quantity, or be null"),
        (("target=3",), "target=3: has no effect without an objective"),
        (("target=inf",), "target=inf: must be a finite number, or null"),
    ],
)
def test_an_objective_and_a_search_need_each_other(
    stability: Run, tmp_path: Path, words: tuple[str, ...], line: str
) -> None:
    done = stability(*words)
    assert (done.returncode, done.stderr) == (2, f"stability: {line}\n")
    assert not list(tmp_path.iterdir())
