"""When an answer ends, and what a page takes."""

from __future__ import annotations

from pathlib import Path

import pytest

from slackwater.kit.json_format import RESPONSE_BYTES
from slackwater.settings import Settings
from slackwater.web.delivery import Delivery
from slackwater.web.streams.bounds import (
    AFTER_FIRST_SECONDS,
    GATEWAY_RESERVE_SECONDS,
    LIVE_BYTES,
    PAGE_BYTES,
    RESERVE_SECONDS,
    Bounds,
    Page,
    PageFit,
)

BEGAN = 1000.0


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    monkeypatch.chdir(tmp_path)  # nobody's .env
    return Settings.load(stream_page_seconds=20, gateway_limit_seconds=29)


@pytest.mark.parametrize(
    ("seconds", "live", "wait", "page"),
    [
        (900, False, 29 - GATEWAY_RESERVE_SECONDS, 20),
        (25, False, 25 - RESERVE_SECONDS, 20),
        (10, False, 10 - RESERVE_SECONDS, 10 - RESERVE_SECONDS),
        (900, True, 900 - RESERVE_SECONDS, 900 - RESERVE_SECONDS),
    ],
)
def test_an_answer_ends_at_whatever_comes_first(
    settings: Settings, seconds: float, live: bool, wait: float, page: float
) -> None:
    bounds = Bounds.of(Delivery(until=BEGAN + seconds, live=live), settings, BEGAN)
    assert bounds == Bounds(live, BEGAN + seconds, BEGAN + wait, BEGAN + page)


def test_a_collected_page_ends_a_second_after_its_first_event_and_a_live_one_does_not() -> None:
    page = Page(False, BEGAN + 20)
    assert not page.is_over(BEGAN + 19)
    page.add(10, BEGAN + 5)
    page.add(10, BEGAN + 5.5)
    assert not page.is_over(BEGAN + 5.9)
    assert page.is_over(BEGAN + 5 + AFTER_FIRST_SECONDS)
    live = Page(True, BEGAN + 20)
    live.add(10, BEGAN + 5)
    assert not live.is_over(BEGAN + 19.9)
    assert live.is_over(BEGAN + 20)


def test_the_first_event_never_makes_a_page_longer() -> None:
    page = Page(False, BEGAN + 20)
    page.add(10, BEGAN + 19.5)
    assert page.is_over(BEGAN + 20)


@pytest.mark.parametrize(
    ("live", "has", "size", "fit"),
    [
        (False, 0, PAGE_BYTES + 1, PageFit.FITS),
        (False, 1, PAGE_BYTES - 1, PageFit.FITS),
        (False, 1, PAGE_BYTES, PageFit.NEXT_PAGE),
        (False, 0, RESPONSE_BYTES, PageFit.FITS),
        (False, 0, RESPONSE_BYTES + 1, PageFit.TOO_LARGE),
        (False, 1, RESPONSE_BYTES + 1, PageFit.TOO_LARGE),
        (True, 0, RESPONSE_BYTES + 1, PageFit.FITS),
        (True, 1, LIVE_BYTES, PageFit.NEXT_PAGE),
    ],
)
def test_what_becomes_of_the_next_event(live: bool, has: int, size: int, fit: PageFit) -> None:
    page = Page(live, BEGAN + 20)
    if has:
        page.add(has, BEGAN)
    assert page.judge(size) is fit


def test_a_page_that_is_full_is_over() -> None:
    page = Page(False, BEGAN + 20)
    page.add(PAGE_BYTES, BEGAN)
    assert page.is_over(BEGAN)
