"""The estimate of the time that is left, by a clock that the test winds."""

from __future__ import annotations

import pytest

from lnqtools.cli._forecast import Forecast, rounded_time


class Clock:
    def __init__(self):
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_the_first_patch_is_not_timed():
    clock = Clock()
    forecast = Forecast(clock)
    forecast.begin(10)
    assert str(forecast) == "0 %"
    clock.now += 500  # reading, resampling, and the first patch
    forecast.advance(2)
    assert forecast.seconds_left is None
    assert str(forecast) == "20 %"
    clock.now += 6
    forecast.advance(3)  # 2 s a unit
    assert forecast.seconds_left == 10
    assert str(forecast) == "50 %, about 10 s left"


def test_the_speed_serves_the_next_case_before_its_first_patch():
    clock = Clock()
    forecast = Forecast(clock)
    forecast.begin(2)
    forecast.advance(1)
    clock.now += 4
    forecast.advance(1)
    assert forecast.seconds_left == 0
    clock.now += 1000
    forecast.begin(60)
    assert str(forecast) == "0 %, about 4 min left"
    clock.now += 1000
    forecast.advance(30)
    clock.now += 56
    forecast.advance(29)  # 60 s for 30 units in all
    assert forecast.seconds_left == pytest.approx(2)


def test_less_work_than_was_announced_is_never_a_negative_time():
    clock = Clock()
    forecast = Forecast(clock)
    forecast.begin(1)
    for _ in range(3):
        clock.now += 1
        forecast.advance(1)
    assert forecast.seconds_left == 0
    assert forecast.share == 1


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.4, "0 s"),
        (89.4, "89 s"),
        (90, "2 min"),
        (725, "12 min"),
        (5400, "1 h 30 min"),
        (12_000, "3 h 20 min"),
    ],
)
def test_times_are_rounded_for_people(seconds, text):
    assert rounded_time(seconds) == text
