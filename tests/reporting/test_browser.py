"""The report in Chromium: quiet, alone, and readable on a phone, in the dark and on paper."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.reporting.browser import Browser, needs_chromium
from tests.reporting.test_report import num_points, rows

pytestmark = [pytest.mark.slow, needs_chromium]
CURVES = """
[...document.querySelectorAll('.wide g[class*="mark-line"][class*="loss_"] path')]
    .map(path => path.getAttribute('d'))
"""


@pytest.fixture(scope="module")
def browser(finished: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with Browser(tmp_path_factory.mktemp("profile")) as opened:
        opened.show(1000)
        opened.open((finished / "results" / "report.html").as_uri())
        yield opened


def test_the_page_is_quiet_and_asks_for_nothing(browser: Browser, finished: Path) -> None:
    for width in (360, 1000):
        browser.show(width)
        browser.evaluate("scrollTo(0, document.body.scrollHeight)")
    assert browser.complaints == []
    assert browser.requests == [(finished / "results" / "report.html").as_uri()]


def test_every_link_leads_to_a_place_in_the_page(browser: Browser) -> None:
    dead = browser.evaluate(
        "[...document.querySelectorAll('a')].map(it => it.getAttribute('href'))"
        ".filter(it => !it.startsWith('#') || !document.getElementById(it.slice(1)))"
    )
    assert dead == []
    browser.evaluate(
        "document.querySelector('svg a[href=\"#stage-retrain\"]').dispatchEvent("
        "new MouseEvent('click', {bubbles: true, cancelable: true}))"
    )
    assert browser.evaluate("location.hash") == "#stage-retrain"


def test_a_drawn_curve_has_as_many_points_as_the_records(browser: Browser, finished: Path) -> None:
    recorded = [
        sum("loss" in row for row in rows(finished, stage))
        for stage in ("pretrain", "longer", "retrain")
    ]
    assert [num_points(path) for path in browser.evaluate(CURVES)] == recorded


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", [360, 800, 1400])
def test_nothing_is_wider_than_the_window(browser: Browser, width: int, dark: bool) -> None:
    browser.show(width, dark=dark)
    assert browser.evaluate("document.documentElement.scrollWidth") == width
    too_wide = browser.evaluate(
        "[...document.querySelectorAll('main *')].filter(it => !it.closest('.scroll, pre, svg')"
        f" && it.getBoundingClientRect().right > {width}).map(it => it.outerHTML.slice(0, 80))"
    )
    assert too_wide == []
    num_shown = (
        "[...document.querySelectorAll('figure svg')].filter(it => it.getClientRects().length)"
    )
    assert browser.evaluate(f"{num_shown}.length") == 3


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_text_and_curves_stand_out_from_the_page(browser: Browser, dark: bool) -> None:
    """Contrast of at least 4.5 for text and 3 for curves (WCAG 2)."""
    browser.show(1000, dark=dark)
    page = luminance(browser.evaluate("getComputedStyle(document.body).backgroundColor"))
    text = luminance(browser.evaluate("getComputedStyle(document.body).color"))
    assert contrast(page, text) > 4.5
    soft = browser.evaluate("getComputedStyle(document.querySelector('figcaption')).color")
    assert contrast(page, luminance(soft)) > 4.5
    strokes = browser.evaluate(
        "[...document.querySelectorAll('.wide g[class*=\"mark-line\"] path')]"
        ".map(it => getComputedStyle(it).stroke)"
    )
    assert len(set(strokes)) >= 3
    assert min(contrast(page, luminance(it)) for it in strokes) > 3


def luminance(color: str) -> float:
    parts = [int(it) / 255 for it in re.findall(r"\d+", color)[:3]]
    linear = [it / 12.92 if it <= 0.03928 else ((it + 0.055) / 1.055) ** 2.4 for it in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(a: float, b: float) -> float:
    return (max(a, b) + 0.05) / (min(a, b) + 0.05)


def test_on_paper_everything_is_shown(browser: Browser) -> None:
    browser.show(700, media="print")
    shown = "document.querySelector('details pre').getBoundingClientRect().height"
    assert browser.evaluate(shown) > 100
    printed = browser.printed()
    assert printed.startswith(b"%PDF")
    assert 2 <= len(re.findall(rb"/Type\s*/Page\b", printed)) <= 12
