"""When events were sent, remembered in bounded memory and never understated."""

from hypothesis import given
from hypothesis import strategies as st

from pipeline.sdk.segment import Entry
from pipeline.sdk.send_times import RESOLUTION_SECONDS, SendTimes, Stretch

# Seconds from one event to the next; who waited for room was sent before those who did not.
PAUSES = st.lists(st.sampled_from([0.0, 0.0001, 0.0049, 0.0051, 0.02, 5.0, -0.0004, -3.0]), min_size=1, max_size=200)


def entries(numbers: list[int]) -> list[Entry]:
    return [Entry(number, b"") for number in numbers]


def sent(times: SendTimes, pauses: list[float]) -> list[float]:
    """Send events 1, 2, ... and return when each was, as the sender does it."""
    moments, now, marked = [], 100.0, (0.0, 0.0)
    for number, pause in enumerate(pauses, start=1):
        now += pause
        moments.append(now)
        if not marked[0] <= now < marked[1]:
            marked = times.mark(number, now)
    return moments


def told(times: SendTimes, numbers: list[int]) -> dict[int, float | None]:
    found = times.stretches(entries(numbers))
    assert [0, *(stretch.end for stretch in found)] == [*(stretch.start for stretch in found), len(numbers)]
    return {numbers[place]: stretch.sent_at for stretch in found for place in range(stretch.start, stretch.end)}


@given(PAUSES, st.data())
def test_each_event_has_its_moment_to_within_the_resolution(pauses: list[float], data: st.DataObject) -> None:
    times = SendTimes()
    moments = sent(times, pauses)
    some = data.draw(st.sets(st.integers(1, len(pauses)), min_size=1).map(sorted))
    for number, sent_at in told(times, some).items():
        assert sent_at is not None
        assert 0.0 <= moments[number - 1] - sent_at < RESOLUTION_SECONDS


@given(PAUSES, st.integers(2, 9))
def test_with_too_many_marks_moments_are_coarser_but_never_too_late(pauses: list[float], marks_max: int) -> None:
    times = SendTimes(marks_max=marks_max)
    moments = sent(times, pauses)
    assert len(times._firsts) <= marks_max
    for number, sent_at in told(times, list(range(1, len(pauses) + 1))).items():
        assert sent_at is not None
        assert sent_at <= moments[number - 1]


@given(PAUSES, PAUSES, st.integers(2, 300), st.data())
def test_what_is_forgotten_takes_nothing_of_the_rest_with_it(
    before: list[float], after: list[float], marks_max: int, data: st.DataObject
) -> None:
    times = SendTimes(marks_max=marks_max)
    moments = sent(times, before)
    times.needed_from = data.draw(st.integers(1, len(before)))
    for number, pause in enumerate(after, start=len(before) + 1):
        moments.append(moments[-1] + pause)
        times.mark(number, moments[-1])
    rest = range(times.needed_from, len(moments) + 1)
    for number, sent_at in told(times, list(rest)).items():
        assert sent_at is not None
        assert sent_at <= moments[number - 1]


def test_marks_are_let_go_of_while_events_are_answered() -> None:
    times = SendTimes()
    for number in range(1, 100_000):
        times.needed_from = number - 10
        times.mark(number, float(number))
    assert len(times._firsts) < 200
    assert [Stretch(0, 1, 99_990.0)] == times.stretches(entries([99_990]))


def test_events_of_an_earlier_process_have_no_moment() -> None:
    times = SendTimes()
    assert [Stretch(0, 2, None)] == times.stretches(entries([3, 4]))
    times.mark(5, 100.0)
    assert [Stretch(0, 2, None), Stretch(2, 3, 100.0)] == times.stretches(entries([3, 4, 7]))


def test_once_the_backlog_is_gone_moments_are_fine_again() -> None:
    times = SendTimes(marks_max=8)
    moments = sent(times, [1.0] * 100)
    coarse = [moments[number - 1] - (sent_at or 0.0) for number, sent_at in told(times, list(range(1, 101))).items()]
    times.needed_from = 100
    for number in range(101, 200):
        times.needed_from = number - 1
        marked = times.mark(number, float(number))
    assert max(coarse) > 1.0
    assert [Stretch(0, 1, 198.0), Stretch(1, 2, 199.0)] == times.stretches(entries([198, 199]))
    assert marked[1] - marked[0] < 2 * RESOLUTION_SECONDS
