import base64
import gzip
import json
import math
import re
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from stability import table
from stability.report.render import number, packed, render, write
from stability.store import StoredRun


def test_the_same_runs_give_the_same_page_to_the_byte(runs: list[StoredRun]) -> None:
    assert render(runs, "t") == render(runs, "t")


def test_every_string_is_escaped(runs: list[StoredRun]) -> None:
    page = render(runs, "<script>title</script>")
    assert page.count("<script>") == 1
    assert page.count("</script>") == 1
    assert "&lt;script&gt;document.title" in page
    assert "<decay>" not in page


def test_the_claims_come_first_and_the_failing_ones_on_top(runs: list[StoredRun]) -> None:
    page = render(runs, "t")
    assert "4 of 8 claims hold (4 failing)" in page
    summary = page[page.index('id="summary"') : page.index('id="beliefs"')]
    verdicts = re.findall(r'<tr class="(\w+)">', summary)
    assert verdicts == ["fails"] * 4 + ["holds"] * 4
    assert page.index('id="summary"') < page.index('id="run0"') < page.index('id="appendix"')
    assert page.index('id="appendix"') < page.index('id="run1"')


def test_what_people_say_stands_beside_what_is_measured(runs: list[StoredRun]) -> None:
    page = render(runs, "t")
    beliefs = page[page.index('id="beliefs"') : page.index('id="run0"')]
    assert beliefs.count("“they agree") == 4
    assert beliefs.count("these differ") == 4
    older = replace(runs[0], claims=runs[0].claims.drop(columns="folk"))
    assert 'id="beliefs"' not in render([older], "t")


def test_a_crash_in_one_experiment_is_a_notice_and_the_rest_is_drawn(runs: list[StoredRun]) -> None:
    page = render(runs, "t")
    assert "The figures can&#39;t be drawn: ValueError: nothing to draw in 61 rows" in page
    assert "The answer can&#39;t be told: KeyError" in page
    assert "one of the suite&#39;s own" in page
    assert page.count("<svg ") == 2


def test_figures_carry_words_and_no_colours_of_their_own_for_ink(runs: list[StoredRun]) -> None:
    page = render(runs, "t")
    assert 'role="img" aria-label="Alt &lt;script&gt;' in page
    assert "var(--ink)" in page
    assert "#123456" not in page
    ids = re.findall(r'\bid="([^"]+)"', page)
    assert len(ids) == len(set(ids))
    for target in re.findall(r'(?:href="#|url\(#)([^")]+)', page):
        assert target in ids or target == "top", target


def test_the_page_asks_for_nothing_from_elsewhere(runs: list[StoredRun]) -> None:
    page = render(runs, "t")
    assert not re.search(r'(?:src|href)="(?!#|data:)', page.replace("xlink:", ""))
    assert "@import" not in page


def test_the_table_is_kept_to_the_last_bit(runs: list[StoredRun]) -> None:
    frame = runs[0].table
    content = json.loads(gzip.decompress(base64.b64decode(packed(frame))))
    assert content["names"] == list(frame.columns)
    measured = content["columns"][content["names"].index("measured")]
    for there, here in zip(measured, frame["measured"], strict=True):
        assert float(there) == here or (math.isnan(float(there)) and math.isnan(here))
    kinds = content["columns"][content["names"].index("kind")]
    assert kinds[-1] is None


def test_a_lacking_factor_is_no_nan() -> None:
    frame = table.concat([table.rows("q", math.nan, scale=0.5), table.rows("q", 1.0)])
    content = json.loads(gzip.decompress(base64.b64decode(packed(frame))))
    columns = dict(zip(content["names"], content["columns"], strict=True))
    assert columns["scale"] == [0.5, None]
    assert columns["measured"] == ["nan", 1.0]


def test_twenty_thousand_rows_stay_small() -> None:
    import numpy as np

    rng = np.random.default_rng(0)
    frame = table.rows("q", rng.normal(size=20_000), rng.normal(size=20_000), n=np.arange(20_000))
    assert len(packed(frame)) < 1_000_000


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0"),
        (1 / 3, "0.3333"),
        (-1.5, "−1.5"),
        (1e-85, "1e−85"),
        (math.inf, "∞"),
        (-math.inf, "−∞"),
        (math.nan, "—"),
        (123456.0, "1.235e+05"),
    ],
)
def test_numbers(value: float, text: str) -> None:
    assert number(value) == text


def test_the_page_is_written_whole(runs: list[StoredRun], tmp_path: Path) -> None:
    page = write(runs, tmp_path / "out", "t")
    assert page == tmp_path / "out" / "index.html"
    assert page.read_text().rstrip().endswith("</html>")
    assert [path.name for path in page.parent.iterdir()] == ["index.html"]


def test_no_claims_at_all_is_a_page_too(runs: list[StoredRun]) -> None:
    bare = replace(runs[0], claims=runs[0].claims.iloc[:0])
    assert "0 of 0 claims hold" in render([bare], "t")
    assert isinstance(bare.claims, pd.DataFrame)
