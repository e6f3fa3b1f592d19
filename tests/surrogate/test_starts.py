"""Given start dates on a store in memory: gaps, runs that share dates, and the last state."""

import numpy as np
import pytest
import xarray as xr

from seaice_lab.errors import InputError
from seaice_lab.surrogate.settings import ForecastConfig
from seaice_lab.surrogate.starts import start_positions
from seaice_lab.surrogate.windows import WINDOWS, Window

WINDOW = WINDOWS["self_consistent"]
# Hours since the first time; a gap before 72 h, and no state from 96 h on.
HOURS = np.array([*range(0, 48, 6), *range(72, 126, 6)])


@pytest.fixture
def store():
    start = np.datetime64("2021-03-01", "ns")
    return xr.Dataset(
        coords={
            "time": start + HOURS * np.timedelta64(1, "h"),
            "segment": ("time", np.where(HOURS < 60, 0, 1).astype("int32")),
            "split": ("time", np.where(HOURS < 96, 2, -1).astype("int8")),
            "has_state": ("time", HOURS < 96, {"variables": "sit"}),
        }
    )


def positions(store, *starts, window=WINDOW, **settings):
    return start_positions(store, window, ForecastConfig(starts=starts, **settings))


def test_each_offset_of_the_window_is_found_in_the_series_of_the_start(store):
    found = positions(store, "2021-03-01", "2021-03-04T18:00Z", steps=2)
    assert {offset: at.tolist() for offset, at in found.items()} == {
        0.0: [0, 11], 6.0: [1, 12], 12.0: [2, 13], 18.0: [3, 14], 24.0: [4, 15]}  # fmt: skip
    assert positions(store, "latest", steps=2)[0.0].tolist() == [11]
    assert positions(store, "latest", "2021-03-01", steps=2, every=2)[0.0].tolist() == [0]


GAPS = {
    "a start in the gap": (
        ("2021-03-03T00",),
        "the nearest are 2021-03-02T18:00 and 2021-03-04T00",
    ),
    "a forecast into the gap": (
        ("2021-03-02T12",),
        r"lacks forcing at \+12 h from it \(its series goes on to 2021-03-02T18:00 in steps of",
    ),
    "one of two starts": (
        ("2021-03-01", "2021-03-02T18"),
        "start 2021-03-02T18:00: .* for 0 steps",
    ),
    "a start without state": (
        ("2021-03-05",),
        "its states go from 2021-03-01T00:00 to 2021-03-04T18",
    ),
}


@pytest.mark.parametrize("case", GAPS)
def test_a_start_that_lacks_something_is_refused_with_what_is_possible(store, case):
    starts, message = GAPS[case]
    with pytest.raises(InputError, match=message) as caught:
        positions(store, *starts, steps=1)
    assert "\n" not in str(caught.value)


def test_forcing_between_the_records_is_refused_with_the_step_of_the_store(store):
    odd = Window(inputs=(("sit", 0.0), ("u10", 5.0)))
    with pytest.raises(InputError, match=r"lacks forcing at \+5 h .* in steps of 6 h\), which is"):
        positions(store, "2021-03-01", window=odd, steps=1)


def test_a_past_state_in_the_gap_is_refused_with_the_first_possible_start(store):
    past = Window(inputs=(("sit", 0.0), ("sit", -12.0)))
    with pytest.raises(
        InputError, match="the state -12 h from it, .* starts from 2021-03-04T12:00"
    ):
        positions(store, "2021-03-04T06", window=past, steps=1)
    found = positions(store, "2021-03-04T12", window=past, steps=99)
    assert found[-12.0].tolist() == [8]
