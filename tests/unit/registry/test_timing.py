"""How often and after what time a registry is asked again."""

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from boxshipd.registry.errors import RegistryBusy, Unreachable
from boxshipd.registry.timing import Timing, retry_after, retrying
from hypothesis import given
from hypothesis import strategies as st

AT_ONCE = Timing(first_delay=0, longest_delay=0, patience=2, attempts=3)


class Work:
    def __init__(self, *errors: Exception) -> None:
        self.errors = [*errors]
        self.times = 0

    async def __call__(self) -> str:
        self.times += 1
        if self.errors:
            raise self.errors.pop(0)
        return "done"


async def test_until_it_succeeds():
    work = Work(Unreachable("cut"), RegistryBusy("busy", 503))
    assert await retrying(work, AT_ONCE) == "done"
    assert work.times == 3


@pytest.mark.parametrize(("error", "times"), [(Unreachable("cut"), 3), (Unreachable("nobody there", fatal=True), 1), (RegistryBusy("b", 429, "", 3.0), 1), (ValueError(), 1)])  # fmt: skip
async def test_how_often(error, times):
    work = Work(*[error] * 5)
    with pytest.raises(type(error)):
        await retrying(work, AT_ONCE)
    assert work.times == times


async def test_waits_are_told():
    said: list[str] = []
    timing = Timing(first_delay=0.001, attempts=2)
    assert await retrying(Work(RegistryBusy("b", 503)), timing, said.append) == "done"
    assert said == ["Retrying in 1 second"]


def test_delays_double_up_to_a_bound():
    timing = Timing(first_delay=1, longest_delay=8)
    for attempt, usual in enumerate((1, 2, 4, 8, 8), 1):
        assert 0.8 * usual <= timing.delay(attempt) <= 1.2 * usual
    assert timing.delay(1, 30.0) == 30.0


def test_retry_after():
    assert retry_after("120") == 120
    assert 50 < retry_after(format_datetime(datetime.now(UTC) + timedelta(seconds=60))) <= 60
    assert retry_after(format_datetime(datetime.now(UTC) - timedelta(seconds=60))) == 0
    assert retry_after("soon") is None
    assert retry_after("") is None


@given(st.text(max_size=60))
def test_any_retry_after_is_read(text):
    assert (retry_after(text) or 0) >= 0
