"""Reading observations: every layout, days across sensors, and input that is not right."""

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import netCDF4
import numpy as np
import pytest
from published import CASES, DATA

from seaice_lab.emissivity.layouts import fit_first_guess, fit_steps
from seaice_lab.emissivity.observations import (
    READ_CHUNK,
    open_observations,
    prepare,
    read_sensor_tables,
)
from seaice_lab.emissivity.sensors import instruments
from seaice_lab.emissivity.settings import ObservationsConfig
from seaice_lab.errors import InputError

GMI = "gmi/gmi_{}.nc"


@pytest.fixture
def data(tmp_path):
    """The files of version 2, free to be damaged."""
    return shutil.copytree(DATA / "v2_imagers" / "inputs", tmp_path / "data")


def read(data, folder, sensors=CASES["v2_imagers"], chunk=READ_CHUNK, **options):
    config = ObservationsConfig(data=str(data), sensors=sensors, **options)
    return prepare(config, folder, show=False, chunk=chunk)


def change(path, name, edit):
    """Replace the values of a variable."""
    with netCDF4.Dataset(path, "a") as file:
        values = np.array(file[name][:])
        edit(values)
        file[name][:] = values


def test_prepared_columns_are_used_again_until_a_file_changes(data, tmp_path):
    folder = tmp_path / "columns"
    first = read(data, folder)
    written = (folder / "channels.npy").stat().st_mtime_ns
    read(data, folder)
    assert (folder / "channels.npy").stat().st_mtime_ns == written

    change(data / GMI.format("OBSVALUE"), "OBSVALUE", lambda tb: tb.__iadd__(1))
    again = read(data, folder)
    assert again.fingerprint != first.fingerprint
    assert np.nanmean(again.channels[1300:2200, 0]) == pytest.approx(
        np.nanmean(first.channels[1300:2200, 0]) + 1, abs=1e-3
    )


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="needs the list of open files")
def test_no_file_stays_open(data, tmp_path):
    def still_open():
        paths = [os.path.realpath(f"/proc/self/fd/{at}") for at in os.listdir("/proc/self/fd")]
        return [path for path in paths if path.startswith(str(data))]

    columns = read(data, tmp_path / "columns")
    assert columns.size and not still_open()
    change(data / GMI.format("TSFC"), "TSFC", lambda skin: skin.__isub__(273.15))
    with pytest.raises(InputError, match="TSFC runs from") as caught:  # keeps what it was raised in
        read(data, tmp_path / "columns")
    assert caught.tb and not still_open()


def test_small_chunks_give_the_same_columns(data, tmp_path):
    at_once = read(data, tmp_path / "at_once")
    by_chunks = read(data, tmp_path / "by_chunks", chunk=170)
    for expected, columns in zip(at_once[1:5], by_chunks[1:5], strict=True):
        np.testing.assert_array_equal(columns, expected)


def test_sensors_that_start_on_different_days_share_the_days(data, tmp_path):
    plain = read(data, tmp_path / "plain")
    later = data / GMI.format("JULIAN_DAY")
    change(later, "JULIAN_DAY", lambda day: day.__iadd__(1))
    moved = read(data, tmp_path / "moved")
    gmi = plain.index[:, 2] == 1
    assert (moved.index[gmi, 1] == plain.index[gmi, 1] + 1).all()
    assert (moved.index[~gmi, 1] == plain.index[~gmi, 1]).all()


def test_a_first_observation_in_the_afternoon_is_in_step_zero(data, tmp_path):
    """The published rule counts it as step -1."""

    def shift(day):
        day -= day.min() - np.floor(day.min()) - 0.2  # 16:48 UTC

    change(data / GMI.format("JULIAN_DAY"), "JULIAN_DAY", shift)
    columns = read(data, tmp_path / "columns", ["gmi"])
    assert columns.index[:, 1].min() == 0


def test_missing_values_are_missing_for_one_channel_or_one_observation(data, tmp_path):
    def lose(values):
        values[3, 2] = np.nan

    change(data / GMI.format("TAUSFC"), "TAUSFC", lose)
    change(data / GMI.format("TSFC"), "TSFC", lambda skin: skin.__setitem__(5, np.nan))
    columns = read(data, tmp_path / "columns")
    there = np.isfinite(columns.channels[1300:2200, 0])
    positions = list(columns.instruments.positions[1])
    expected = np.zeros(there.shape, bool)
    expected[:, positions] = True
    expected[3, positions[2]] = False
    expected[5] = False
    np.testing.assert_array_equal(there, expected)
    assert np.isfinite(columns.channels[:, 1:]).all()
    assert np.isfinite(columns.scalars[:, :3]).all()  # NaN would spread through the network


@pytest.mark.parametrize(
    ("name", "damage", "sentence"),
    [
        ("TSFC", lambda v: v.__isub__(273.15), "TSFC runs from .* check its units"),
        ("CLOUD_FRACTION", lambda v: v.__imul__(100), "CLOUD_FRACTION runs from"),
        ("JULIAN_DAY", lambda v: v.__setitem__(slice(None), v[::-1].copy()), "not sorted"),
        ("JULIAN_DAY", lambda v: v.__setitem__(7, np.nan), "observation 7 is nan"),
        ("JULIAN_DAY", lambda v: v.__isub__(2.4e6), "expected astronomical Julian days"),
        ("IGRID", lambda v: v.__setitem__(0, 60), "0 to 60.* 60 grid points"),
        ("IGRID", lambda v: v.__setitem__(0, -1), "IGRID runs from -1"),
    ],
)
def test_wrong_values_are_refused(name, damage, sentence, data, tmp_path):
    path = data / GMI.format(name)
    change(path, name, damage)
    with pytest.raises(InputError, match=sentence):
        read(data, tmp_path / "columns")
    assert not (tmp_path / "columns").exists()


def rewrite(path, name, values):
    path.unlink()
    with netCDF4.Dataset(path, "w") as file:
        for axis, length in enumerate(values.shape):
            file.createDimension(f"d{axis}", length)
        variable = file.createVariable(name, values.dtype, [f"d{a}" for a in range(values.ndim)])
        variable[:] = values


@pytest.mark.parametrize(
    ("name", "values", "sentence"),
    [
        ("TUP", np.ones((900, 12), "f4"), r"TUP has shape \(900, 12\), expected \(900, 13\)"),
        ("TUP", np.ones((899, 13), "f4"), "JULIAN_DAY has 900 observations"),
        ("TSFC", np.ones((900, 1), "f4"), r"TSFC has shape \(900, 1\)"),
        ("IGRID", np.full(900, 2.0**24, "f4"), "not exact indices"),
        ("IGRID", np.full(900, 3.5), "not exact indices"),
        ("TSFX", np.ones(900, "f4"), None),
    ],
)
def test_wrong_shapes_are_refused(name, values, sentence, data, tmp_path):
    if sentence is None:
        (data / GMI.format("TSFC")).unlink()
        sentence = r"gmi_TSFC.nc: gmi has no TSFC \(no such file"
    else:
        rewrite(data / GMI.format(name), name, values)
    with pytest.raises(InputError, match=sentence):
        read(data, tmp_path / "columns")


def test_maps_that_do_not_fit_are_refused(data, tmp_path):
    guess = data / "ifs_seaice_initials_year.nc"
    shutil.copy(guess, data / "ifs_seaice_other.nc")
    with pytest.raises(InputError, match="2 files match ifs_seaice"):
        read(data, tmp_path / "columns")
    (data / "ifs_seaice_other.nc").unlink()
    change(guess, "SEAICE", lambda sic: sic.__imul__(100))
    with pytest.raises(InputError, match="SEAICE runs from"):
        read(data, tmp_path / "columns")
    rewrite(guess, "SEAICE", np.zeros((59, 6), "f4"))
    with pytest.raises(InputError, match="positions of the 59 grid points are missing"):
        read(data, tmp_path / "columns")
    rewrite(guess, "OTHER", np.zeros((60, 6), "f4"))
    with pytest.raises(InputError, match="holds no SEAICE, found OTHER"):
        read(data, tmp_path / "columns")


@pytest.mark.parametrize(
    ("columns", "start", "steps", "expected"),
    [
        # of 10 days, and one before them: the column of day d is d + 1
        (11, 0, 10, range(11)),
        (11, 4, 3, (4, 5, 6, 7)),
        (11, 7, 3, (7, 8, 9, 10)),
        # without the day before the first: the column of day d is d
        (10, 0, 10, (0, *range(10))),
        (10, 4, 3, (3, 4, 5, 6)),
        (10, 7, 3, (6, 7, 8, 9)),
        # ending too early
        (9, 7, 3, (6, 7, 8, 8)),
        (6, 7, 3, (5, 5, 5, 5)),
        # of the days of the run alone
        (4, 7, 3, (0, 1, 2, 3)),
        (3, 7, 3, (0, 0, 1, 2)),
        (1, 7, 3, (0, 0, 0, 0)),
    ],
)
def test_a_first_guess_of_any_length_stands_on_its_days(columns, start, steps, expected):
    field = np.arange(columns, dtype="float32")[None].repeat(2, 0)
    fitted = fit_first_guess(field, start, steps, 1, 10)
    np.testing.assert_array_equal(fitted, [list(expected)] * 2)


@pytest.mark.parametrize(
    ("columns", "start", "steps", "expected"),
    [
        (10, 0, 10, range(10)),
        (10, 4, 3, (4, 5, 6)),
        (9, 7, 3, (7, 8, 8)),
        (3, 7, 3, (0, 1, 2)),
        (2, 7, 3, (0, 1, 1)),
    ],
)
def test_a_skin_temperature_of_any_length_stands_on_its_days(columns, start, steps, expected):
    field = np.arange(columns, dtype="float32")[None].repeat(2, 0)
    np.testing.assert_array_equal(fit_steps(field, start, steps), [list(expected)] * 2)


def test_places_that_hold_nothing_are_refused(data, tmp_path):
    with pytest.raises(InputError, match="no such file or folder"):
        read(tmp_path / "nowhere", tmp_path / "columns")
    with pytest.raises(InputError, match="no observation in steps 40 to the end"):
        read(data, tmp_path / "columns", step_start=40)
    (data / GMI.format("TSFC")).write_text("no NetCDF")
    with pytest.raises(InputError, match="gmi_TSFC.nc: cannot be read"):
        read(data, tmp_path / "columns")
    with pytest.raises(InputError, match="holds no prepared observations"):
        open_observations(tmp_path)


def test_the_tables_of_ones_own_sensor_stay_with_the_columns(data, tmp_path):
    (data / "gmi").rename(data / "mine")
    for path in (data / "mine").glob("*.nc"):
        path.rename(path.with_name(path.name.replace("gmi_", "mine_")))
    names = instruments(["gmi"]).channels
    own = tmp_path / "mine.yaml"
    own.write_text(f"sensors: {{mine: {{channels: [{', '.join(names)}], error_k: {{19v: 7.5}}}}}}")
    folder = tmp_path / "columns"
    first = read(data, folder, ["mine"], sensor_tables=str(own))
    own.unlink()
    again = open_observations(folder)
    assert again.instruments.error_k[0, names.index("19v")] == 7.5
    columns = read(data, folder, ["mine"], sensor_tables=read_sensor_tables(folder))
    assert columns.fingerprint == first.fingerprint
    with pytest.raises(InputError, match="mine.yaml: cannot be read"):
        read(data, folder, ["mine"], sensor_tables=str(own))


PREPARE_SLOWLY = """
import sys
from seaice_lab.emissivity.observations import prepare
from seaice_lab.emissivity.settings import ObservationsConfig
data, folder, *sensors = sys.argv[1:]
prepare(ObservationsConfig(data=data, sensors=sensors), folder, show=False, chunk=5)
"""


def test_a_killed_preparation_continues_where_it_stopped(data, tmp_path):
    expected = read(data, tmp_path / "expected")
    folder = tmp_path / "columns"
    words = [sys.executable, "-c", PREPARE_SLOWLY, data, folder, *CASES["v2_imagers"]]
    process = subprocess.Popen(words)
    partial = folder.with_name("columns.partial")
    while process.poll() is None and not (partial / "done" / "0-5").exists():
        time.sleep(0.001)
    process.kill()
    process.wait()
    finished = {path.name for path in (partial / "done").iterdir()}
    assert {"0-0", "0-5"} <= finished and "2-0" not in finished
    # a finished chunk is not written again, so that a mark in it remains
    np.load(partial / "result" / "julian_day.npy", mmap_mode="r+")[0] = -1
    columns = read(data, folder, chunk=5)
    assert columns.julian_day[0] == -1
    np.testing.assert_array_equal(columns.julian_day[1:], expected.julian_day[1:])
    np.testing.assert_array_equal(columns.channels, expected.channels)
