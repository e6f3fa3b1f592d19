"""The table of scaling: what is flagged and what is not."""

import numpy as np
import pytest
import xarray as xr
from scaling_fields import load

from seaice_lab.diagnostics.frames import blurred, phase_randomised
from seaice_lab.diagnostics.scaling import compare, frame_sums
from seaice_lab.errors import InputError

LEADS, TAILS = 4, {"gradient": 1e-3, "increment": 0.01}


@pytest.fixture(scope="module")
def sources():
    """Sums of three starts: rough fields, their copies smoothed and with random phases."""
    rng = np.random.default_rng(0)
    rough = np.concatenate([load("fbm")["h_H030"], load("fif")["h"]]).astype(float)[:, :96, :96]
    coords = {"lead_time": np.arange(1, LEADS + 1) * np.timedelta64(12, "h").astype("m8[ns]")}
    mask = xr.DataArray(load("fbm")["mask"][:96, :96], dims=("y", "x"))
    sums = {"truth": [], "same": [], "blurred": [], "phase_randomised": []}
    for start in range(3):
        fields = {}
        for name, units in (("sit", "m"), ("siu", "m s-1"), ("siv", "m s-1")):
            frames = rough[rng.permutation(7)[:LEADS]] * (0.1 if name != "sit" else 1)
            fields[name] = (("lead_time", "y", "x"), frames, {"units": units})
        truth = xr.Dataset(fields, coords)
        random = phase_randomised([truth.sit], mask, 1)
        random += phase_randomised([truth.siu, truth.siv], mask, 1)
        smooth = truth.map(lambda field: blurred(field, mask), keep_attrs=True)
        copies = (truth, truth, smooth, xr.Dataset(dict(zip(truth, random, strict=True))))
        for name, copy in zip(sums, copies, strict=True):
            each = frame_sums(copy, mask, mask, 25e3, TAILS)
            sums[name].append({k: v.expand_dims(init_time=[start]) for k, v in each.items()})
    return {
        name: {key: xr.concat([e[key] for e in each], "init_time") for key in each[0]}
        for name, each in sums.items()
    }


def test_a_blurred_copy_is_flagged_and_an_equal_one_is_not(sources):
    table = compare(sources, draws=30)
    for name, select in (
        ("zeta", {"q": 1, "increment": 1}),
        ("beta", {"q": 1}),
        ("tail", {}),
        ("feature_density", {}),
    ):
        significance = table[f"{name}_significance"].sel(select)
        assert abs(significance.sel(source="blurred")) > 3, name
        same = table[name].sel(source="same", **select) - table[name].sel(source="truth", **select)
        assert abs(same).max() == 0
        assert (table[f"{name}_score"].sel(source="same", **select) == 0).all()
    random = table.sel(source="phase_randomised")
    assert abs(random.gradient_c1_significance) > 3
    assert table.wasserstein.sel(source="same").max() == 0
    assert table.zeta.attrs["units"] == "1" and table.feature_length.attrs["units"] == "km"


def test_one_start_has_values_but_no_errors(sources):
    one = {
        name: {key: each.isel(init_time=[0]) for key, each in sums.items()}
        for name, sums in sources.items()
    }
    table = compare(one)
    assert np.isfinite(table.zeta).all() and "zeta_error" not in table
    assert table.zeta_spread.isnull().all()


def test_other_starts_than_those_of_the_truth_are_refused(sources):
    other = {key: each.isel(init_time=slice(2)) for key, each in sources["same"].items()}
    with pytest.raises(InputError, match="same starts"):
        compare({"truth": sources["truth"], "forecast": other})
    finer = sources["same"] | {"structure": sources["same"]["structure"].copy(deep=True)}
    finer["structure"]["length"] *= 0.5
    with pytest.raises(InputError, match="another mask or another distance"):
        compare({"truth": sources["truth"], "forecast": finer})
    with pytest.raises(InputError, match="no source 'truth'"):
        compare({"forecast": other})
