"""The page as a reader meets it: Chromium, file://, the network off."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from stability.report.render import write
from stability.store import StoredRun


class Opened:
    """A page with everything that it asked for and complained about."""

    def __init__(self, page: Any) -> None:
        self.page = page
        self.requests: list[str] = []
        self.complaints: list[str] = []
        page.on("request", lambda request: self.requests.append(request.url))
        page.on("console", lambda message: self.complaints.append(message.text))
        page.on("pageerror", lambda error: self.complaints.append(str(error)))


@pytest.fixture
def opened(browser: Any, runs: list[StoredRun], tmp_path: Path) -> Iterator[Any]:
    """A function that opens the report with Chromium's options of a new context."""
    path = write(runs, tmp_path / "page", "Report")
    contexts = []

    def open_page(**options: Any) -> Opened:
        context = browser.new_context(offline=True, **options)
        contexts.append(context)
        seen = Opened(context.new_page())
        seen.page.goto(path.as_uri())
        seen.page.wait_for_selector(".table tbody tr")
        return seen

    yield open_page
    for context in contexts:
        context.close()


def column(page: Any, name: str) -> list[str]:
    table = page.locator("#run0 .table table")
    heads = table.locator("th").all_inner_texts()
    at = heads.index(name) + 1
    return list(table.locator(f"tbody td:nth-child({at})").all_inner_texts())


def test_it_opens_from_disk_without_a_request_or_a_complaint(opened: Any) -> None:
    seen = opened()
    outside = [u for u in seen.requests if not u.startswith(("file:", "data:", "blob:"))]
    assert outside == []
    assert len([u for u in seen.requests if u.startswith("file:")]) == 1
    assert seen.complaints == []
    assert seen.page.title() == "Report · stability"


def test_a_table_sorts_by_number_with_infinity_last_and_nan_after(opened: Any) -> None:
    page = opened().page
    head = page.locator("#run0 .table th button", has_text="measured")
    head.click()
    head.click()
    top = column(page, "measured")
    assert top[:3] == ["∞", "75", "73.75"]
    assert page.locator("#run0 .table th[aria-sort=descending]").count() == 1
    head.click()
    assert column(page, "measured")[:3] == ["0.333333", "1.25", "5"]


def test_a_table_filters_and_turns_pages(opened: Any) -> None:
    page = opened().page
    box = page.locator("#run0 .table")
    assert "1–15 of 61" in box.inner_text()
    box.get_by_role("button", name="Next").click()
    assert "16–30 of 61" in box.inner_text()
    box.get_by_role("searchbox").fill("k1 size")
    assert "1–15 of 20" in box.inner_text()
    assert all(kind.startswith("k1") for kind in column(page, "kind"))
    box.get_by_role("searchbox").fill("no such row")
    assert "no rows" in box.inner_text()


def test_the_csv_is_what_is_shown_in_full_precision(opened: Any, tmp_path: Path) -> None:
    page = opened(accept_downloads=True).page
    box = page.locator("#run0 .table")
    box.get_by_role("searchbox").fill("other")
    with page.expect_download() as waiting:
        box.get_by_role("button", name="Download CSV").click()
    target = tmp_path / "table.csv"
    waiting.value.save_as(target)
    header, row = target.read_text().splitlines()
    assert header == "n,kind,quantity,measured,predicted,stderr,n_samples"
    assert row == "1,,other,0.3333333333333333,nan,0,1"


def luminance(rgb: str) -> float:
    parts = [int(part) / 255 for part in rgb[rgb.index("(") + 1 : -1].split(",")[:3]]
    linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_and_verdicts_have_contrast(opened: Any, scheme: str, tmp_path: Path) -> None:
    """At least 4.5 to 1, the threshold of WCAG 2.2, criterion 1.4.3."""
    page = opened(color_scheme=scheme).page
    style = "(e, name) => getComputedStyle(e).getPropertyValue(name)"
    back = luminance(page.locator("body").evaluate(style, "background-color"))
    assert (back < 0.5) == (scheme == "dark")
    for selector in ("body", ".verdict.holds", ".verdict.fails", ".question", "figcaption"):
        front = luminance(page.locator(selector).first.evaluate(style, "color"))
        light, dark = max(front, back), min(front, back)
        assert (light + 0.05) / (dark + 0.05) >= 4.5, selector
    label = page.locator("svg.figure text").first
    ink = luminance(label.evaluate(style, "fill"))
    assert (ink < 0.5) == (scheme == "light")
    page.screenshot(path=tmp_path / f"{scheme}.png")
    assert (tmp_path / f"{scheme}.png").stat().st_size > 10_000


def test_a_phone_scrolls_down_only(opened: Any, tmp_path: Path) -> None:
    page = opened(viewport={"width": 375, "height": 812}, device_scale_factor=2).page
    assert page.evaluate("document.documentElement.scrollWidth") <= 375
    page.screenshot(path=tmp_path / "phone.png")
    assert (tmp_path / "phone.png").stat().st_size > 10_000


def test_print_hides_the_controls_and_keeps_the_figures(opened: Any) -> None:
    page = opened().page
    page.emulate_media(media="print")
    assert not page.locator("nav").is_visible()
    assert not page.locator("#run0 .table").is_visible()
    assert page.locator("#run0 svg.figure").first.is_visible()
