import numpy as np
import pytest

from stability import claims
from stability.claims import Claim
from stability.table import mean_rows, rows


def judge(samples: np.ndarray, truth: float, resolution: float = 0.5, bias: float = 0.0) -> Claim:
    table = mean_rows("x", samples, truth)
    return claims.statistical("c", "s", "src", table, resolution=resolution, bias=bias)


def normal(n: int, mean: float = 0.0, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(mean, 1, n)


def test_three_verdicts() -> None:
    assert judge(normal(1000), 0.0).verdict == "holds"
    assert judge(normal(1000), 0.3).verdict == "fails"
    assert judge(normal(5), 0.0).verdict == "undetermined"
    assert judge(normal(1), 0.0).verdict == "undetermined"


def test_a_failure_is_not_hidden_by_a_coarse_resolution() -> None:
    assert judge(normal(20), 100.0, resolution=1e-9).verdict == "fails"


def test_bias_allows_a_stated_deviation_and_no_more() -> None:
    assert judge(normal(10_000), 0.2).verdict == "fails"
    assert judge(normal(10_000), 0.2, bias=0.25).verdict == "holds"
    assert judge(normal(10_000), 0.5, bias=0.25).verdict == "fails"


def test_the_row_that_decides_is_told() -> None:
    table = rows("x", [1.0, 2.0, 3.0], [1.0, 2.5, 3.0], 0.01, 100)
    claim = claims.statistical("c", "s", "src", table, resolution=1)
    assert (claim.measured, claim.predicted, claim.error) == (2.0, 2.5, 0.5)
    assert claim.verdict == "fails"


def test_nan_and_inf_fail_unless_predicted() -> None:
    for measured, predicted, verdict in [
        (np.nan, 1.0, "fails"),
        (np.inf, 1.0, "fails"),
        (np.inf, np.inf, "holds"),
        (1.0, np.nan, "fails"),
    ]:
        table = rows("x", [measured], [predicted], 0.0, 10)
        assert claims.statistical("c", "s", "src", table, resolution=1).verdict == verdict
        assert claims.bounded("c", "s", "src", table, allowed=1.0).verdict == verdict


def test_bounded_is_sharp() -> None:
    table = rows("x", [1.0, 2.0], [1.0, 2.5])
    assert claims.bounded("c", "s", "src", table, allowed=0.5).verdict == "holds"
    assert claims.bounded("c", "s", "src", table, allowed=0.49).verdict == "fails"


def test_a_claim_tells_the_belief_that_it_corrects() -> None:
    table = rows("x", [1.0], [1.0], 0.01, 100)
    said = "it is 2"
    assert claims.bounded("c", "s", "src", table, allowed=0, folk=said).folk == said
    assert claims.statistical("c", "s", "src", table, resolution=1, folk=said).folk == said
    assert claims.bounded("c", "s", "src", table, allowed=0).folk == ""


def test_no_rows_are_refused() -> None:
    empty = rows("x", [1.0], [1.0]).iloc[:0]
    with pytest.raises(ValueError, match="no rows"):
        claims.statistical("c", "s", "src", empty, resolution=1)
    with pytest.raises(ValueError, match="no rows"):
        claims.bounded("c", "s", "src", empty, allowed=1)


def test_the_level_is_what_it_says(monkeypatch: pytest.MonkeyPatch) -> None:
    """At level 0.05 over 8 rows of 6 samples, 4000 true claims fail in about 5 %.

    Bonferroni over independent rows: 1 - (1 - 0.05/8)^8 = 0.0489. Four standard errors of the
    share are 0.0137: a false alarm of this test has probability 6e-5.
    """
    monkeypatch.setattr(claims, "LEVEL", 0.05)
    draws = np.random.default_rng(1).normal(size=(4000, 6, 8))
    fails = sum(
        claims.statistical(
            "c", "s", "src", mean_rows("x", draw, 0.0, k=np.arange(8)), resolution=np.inf
        ).verdict
        == "fails"
        for draw in draws
    )
    assert abs(fails / 4000 - (1 - (1 - 0.05 / 8) ** 8)) < 0.0137


def test_the_family_of_a_report_is_held() -> None:
    assert claims.LEVEL * claims.REPORT_CLAIMS <= 1e-3 * (1 + 1e-12)


def test_tally() -> None:
    made = [judge(normal(1000), 0.0), judge(normal(1000), 0.3), judge(normal(5), 0.0)]
    frame = claims.to_frame(made)
    assert list(frame.columns) == list(Claim.__dataclass_fields__)
    assert claims.tally(frame["verdict"]) == (
        "1 of 3 claims hold (1 failing, 1 undetermined: too few samples)"
    )
    assert claims.tally(frame["verdict"].iloc[:1]) == "1 of 1 claims hold"
