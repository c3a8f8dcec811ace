"""How far long work is, and the time that is left, by a clock that the test winds."""

from __future__ import annotations

from functools import partial

import pytest

from lnqtools.cli import _batch
from lnqtools.cli._case import Case
from lnqtools.cli._forecast import Forecast, Teller, clock_time
from lnqtools.cli._making import Making
from lnqtools.cli._plan import Plan, Planned
from lnqtools.cli.train import Watch


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
    assert str(forecast) == "50 %, 0:00:10 left"


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
    assert str(forecast) == "0 %, 0:04:00 left"
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


def test_a_first_piece_can_be_timed_and_what_is_skipped_takes_no_time():
    clock = Clock()
    forecast = Forecast(clock)
    forecast.begin(5, timed=True)
    assert forecast.left == ""
    clock.now += 0.1
    forecast.advance(1, timed=False)
    clock.now += 30
    forecast.advance(1)
    clock.now += 0.1
    forecast.advance(1, timed=False)
    assert forecast.left == ", 0:01:00 left"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.4, "0:00:00"),
        (59.6, "0:01:00"),
        (725, "0:12:05"),
        (5400, "1:30:00"),
        (360_001, "100:00:01"),
    ],
)
def test_times_are_in_hours_minutes_and_seconds(seconds, text):
    assert clock_time(seconds) == text


# Telling


def told_each(seconds: int, capsys, *, times: int = 5, **options) -> list[str]:
    """Return what is told of something of which there is news every so many seconds."""
    clock = Clock()
    teller = Teller("lnq-x", clock=clock, **options)
    for number in range(times):
        teller.tell(f"{number}", lasting=True)
        clock.now += seconds
    return capsys.readouterr().err.splitlines()


def test_a_log_gets_at_most_a_line_a_minute(capsys):
    assert told_each(60, capsys, at_once=True) == [f"lnq-x: {k}" for k in range(5)]
    assert told_each(59, capsys, at_once=True) == [f"lnq-x: {k}" for k in (0, 2, 4)]
    assert told_each(20, capsys, at_once=True) == [f"lnq-x: {k}" for k in (0, 3)]
    assert told_each(20, capsys) == ["lnq-x: 3"]  # the first after a minute
    assert told_each(60, capsys, at_once=True, quiet=True) == []


def test_a_terminal_gets_all_and_keeps_what_lasts(capsys, monkeypatch):
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    teller = Teller("lnq-x", clock=Clock())
    teller.tell("a")
    teller.tell("b", lasting=True)
    teller.tell("c")
    start = "\r\x1b[K"
    assert capsys.readouterr().err == f"{start}lnq-x: a{start}lnq-x: b\n{start}lnq-x: c"


def batches_of_a_training(clock: Clock, watch: Watch, *, batch: int, epoch: int) -> None:
    """Have a training of 3 epochs of 4 batches watched, which take so many seconds."""
    for number in range(1, 4):
        for k in range(1, 5):
            clock.now += batch
            watch.batch(number, 3, k, 4)
        clock.now += epoch
        watch.epoch(number, 3, 0.5, 0.25, 100 * (3 - number))


def test_a_log_of_a_training_has_its_first_batches_and_then_epochs(capsys):
    clock = Clock()
    batches_of_a_training(clock, Watch(clock), batch=25, epoch=0)
    known = "loss 0.500, pseudo-Dice of annotated voxels 0.250"
    assert capsys.readouterr() == (
        "",
        "lnq-train: epoch 1 of 3, batch 2 of 4, 0:04:10 left\n"  # 10 batches of 25 s
        f"lnq-train: epoch 2 of 3, {known}, 0:01:40 left\n"  # the first was 50 s after a line
        f"lnq-train: epoch 3 of 3, {known}, 0:00:00 left\n",
    )


def test_what_comes_between_epochs_is_part_of_the_time_left(capsys, monkeypatch):
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    clock = Clock()
    batches_of_a_training(clock, Watch(clock), batch=1, epoch=6)
    said = capsys.readouterr().err.replace("\r\x1b[K", "\n").split("\n")
    of_batches = [line for line in said if "batch " in line]
    assert of_batches[0] == "lnq-train: epoch 1 of 3, batch 2 of 4, 0:00:10 left"
    assert "lnq-train: epoch 1 of 3, batch 4 of 4, 0:00:08 left" in of_batches
    assert "lnq-train: epoch 2 of 3, batch 1 of 4, 0:00:18 left" in of_batches  # 7 of 10 s / 4
    assert len(of_batches) == 11
    assert sum("loss" in line for line in said) == 3


def test_a_long_run_over_cases_is_told_of_in_a_log(capsys, monkeypatch):
    clock = Clock()
    monkeypatch.setattr(_batch, "Teller", partial(Teller, clock=clock))
    monkeypatch.setattr(_batch, "Forecast", partial(Forecast, clock))
    plan = Plan(tuple(Planned(name, name) for name in "abc"))

    def work(case: Case) -> None:
        clock.now += 200

    _batch.Batch(making=Making("lnq-x"), plan=plan).run(work, watched=True)
    assert capsys.readouterr().err == (
        "lnq-x: 1 of 3 done, 0:06:40 left\nlnq-x: 2 of 3 done, 0:03:20 left\n"
    )
    for options in ({"quiet": True}, {}):
        _batch.Batch(making=Making("lnq-x"), plan=plan, **options).run(
            work, watched="quiet" in options
        )
        assert capsys.readouterr().err == ""
