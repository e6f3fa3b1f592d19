"""The published data preparation, from raw files to network inputs, through our store and windows.

The published scripts cut windows by position in the file; here the records are given stamps six
hours apart so that windows by time are the same.
"""

import numpy as np
import pytest
import xarray as xr
from conftest import write_catalogue
from keras_weights import read

from seaice_lab.surrogate.prepare import prepare
from seaice_lab.surrogate.samples import Samples
from seaice_lab.surrogate.settings import PrepareConfig
from seaice_lab.surrogate.store import open_store
from seaice_lab.surrogate.windows import WINDOWS

SPLITS = {"train": ("train", "2009"), "validation": ("val", "2017"), "test": ("test", "2018")}
ROW_OF_START = {"pub": 2, "evo": 6}  # record at which the window of row 0 starts
WINDOW = {"pub": "published_surrogate", "evo": "published_4dvar"}


@pytest.fixture(scope="module")
def arrays():
    return read("dataset")


@pytest.fixture(scope="module", params=[1, 2])
def published_store(request, arrays, tmp_path_factory):
    """The raw files of the published preparation, prepared by its rules at one resolution."""
    folder = tmp_path_factory.mktemp("published")
    (folder / "data").mkdir()
    latitude, longitude = arrays["raw/lat"], arrays["raw/lon"]
    for raw, year in SPLITS.values():
        sit = arrays[f"raw/{raw}/sit"]
        times = np.datetime64(f"{year}-01-01T03", "ns") + np.arange(len(sit)) * np.timedelta64(
            6, "h"
        )
        xr.Dataset(
            {"sit": (("time", "y", "x"), sit, {"units": "m"})},
            coords={"time": times, "latitude": (("y", "x"), latitude),
                    "longitude": (("y", "x"), longitude)},
        ).to_netcdf(folder / "data" / f"Moorings_{year}.nc")  # fmt: skip
        xr.Dataset(
            {name: (("time", "latitude", "longitude"), arrays[f"raw/{raw}/{name}"],
                    {"units": units})
             for name, units in (("t2m", "K"), ("u10", "m s-1"), ("v10", "m s-1"))},
            coords={"time": times, "latitude": arrays["raw/era_lat"],
                    "longitude": arrays["raw/era_lon"]},
        ).to_netcdf(folder / "data" / f"ERA5_{year}.nc")  # fmt: skip
    entry = {"grid": "made", "step_h": 6, "licence": "none", "source": "the tests"}
    splits = {name: {"period": [year, year]} for name, (_, year) in SPLITS.items()}
    state = entry | {"title": "state", "format": "nextsim", "paths": ["Moorings_*.nc"],
                     "variables": {"sit": "sit"}, "splits": splits}  # fmt: skip
    forcing = entry | {"title": "forcing", "format": "era5", "paths": ["ERA5_*.nc"],
                       "variables": {name: name for name in ("t2m", "u10", "v10")}}  # fmt: skip
    write_catalogue(folder, {"state": state, "forcing": forcing})
    config = PrepareConfig(
        state="state", forcing="forcing", crop=(11, 43, 4, 36), coarsen=request.param,
        coarsen_rule="published", rotate_winds=False, allow_gaps=True,
    )  # fmt: skip
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.delenv("SEAICE_DATA", raising=False)
        return prepare(config, folder / "store.zarr", show=False), request.param


@pytest.fixture(params=["pub", "evo"])
def case(request, published_store, arrays):
    """Our samples for the rows that the published script kept, and its arrays by their names."""
    path, factor = published_store
    script = request.param
    key = f"{script}/res{factor}/"
    theirs = {name.removeprefix(key): arrays[name] for name in arrays if name.startswith(key)}
    window = WINDOWS[WINDOW[script]]
    normalisation = Samples(path, window, "train").normalisation
    # the test split of the 4D-Var repository begins with the validation year
    samples = Samples(path, window, "test" if script == "pub" else "validation", normalisation)
    rows = np.flatnonzero(open_store(path).split.values == (2 if script == "pub" else 1))
    starts = rows[0] + ROW_OF_START[script] + np.arange(14)
    indices = np.searchsorted(samples.positions[0.0], starts)
    assert (samples.positions[0.0][indices] == starts).all()
    x, y = (part.numpy() for part in samples.take(indices))
    return script, samples, x, y, theirs


def test_windows_of_the_published_scripts_come_out_of_the_store(case, published_store, arrays):
    _, samples, x, y, theirs = case
    ocean = samples.fields.ocean
    # the 4D-Var script stores the block maximum of land, though its training uses the minimum
    np.testing.assert_array_equal(~ocean, arrays[f"pub/res{published_store[1]}/land_mask"])
    scale = samples.normalisation["sit"]
    sit = (x[:, 0] * scale["std"] + scale["mean"])[:, ocean]
    slot = 1  # of the stored thicknesses, the input of the network
    np.testing.assert_allclose(sit, theirs["test/sit_windows"][..., slot][:, ocean], atol=3e-6)
    (scale,) = samples.normalisation["increments"]
    increment = (y[:, 0] * scale["std"] + scale["mean"])[:, ocean]
    np.testing.assert_allclose(increment, theirs["test/targets_raw"][..., 0][:, ocean], atol=3e-6)


def test_network_inputs_of_the_published_scripts_are_ours_up_to_their_scales(case):
    """Channel by channel one scale and offset, those of the published statistics."""
    script, samples, x, y, theirs = case
    ocean = samples.fields.ocean
    store = open_store(samples.fields.path)
    # at the pole all longitudes of the forcing are equally near
    sea = ocean & (store.latitude.values < 88)
    assert sea.sum() > 0.9 * ocean.sum()
    for channel in range(10):
        ours, reference = x[:, channel][:, sea], theirs["test/network_input"][..., channel][:, sea]
        scale, offset = np.polyfit(ours.ravel(), reference.ravel(), 1)
        np.testing.assert_allclose(scale * ours + offset, reference, atol=5e-5)
    ours, reference = y[:, 0][:, ocean], theirs["test/network_target"][..., 0][:, ocean]
    scale, offset = np.polyfit(ours.ravel(), reference.ravel(), 1)
    np.testing.assert_allclose(scale * ours + offset, reference, atol=5e-5)
    # the surrogate repository multiplies by twice N / N_land, the 4D-Var one does not
    factor = 2 * ocean.size / (~ocean).sum() if script == "pub" else 1
    (ours,) = samples.normalisation["increments"]
    assert scale == pytest.approx(
        factor * ours["std"] / theirs["target_mean_std_train"][1], rel=1e-2
    )
