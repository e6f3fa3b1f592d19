"""The table of scaling: what is flagged and what is not; blocks of lead times."""

import numpy as np
import pytest
import xarray as xr

from seaice_lab.diagnostics.frames import blurred, phase_randomised
from seaice_lab.diagnostics.scaling import compare, frame_sums
from seaice_lab.errors import InputError

STARTS, LEADS, SIZE = 6, 4, 64
TAILS = {"gradient": 2e-3, "increment": 0.01}
MASK = xr.DataArray(np.ones((SIZE, SIZE), bool), dims=("y", "x"))
FLAGGED = {
    "zeta": {"q": 1, "increment": 1},
    "beta": {"q": 1},
    "tail_weight": {},
    "feature_length": {},
}


def slip_lines(rng):
    """Drift and thickness that jump at straight lines, by values with a pure power law."""
    y, x = np.mgrid[:SIZE, :SIZE] - SIZE / 2
    fields = np.zeros((3, STARTS, LEADS, SIZE, SIZE))
    for frame in np.ndindex(STARTS, LEADS):
        for angle, offset in zip(rng.uniform(0, np.pi, 60), rng.uniform(-45, 45, 60), strict=True):
            beyond = np.cos(angle) * x + np.sin(angle) * y > offset
            jump = 0.005 * rng.uniform() ** -0.5 * rng.choice([-1, 1])
            for field, share in zip(fields, (5, -np.sin(angle), np.cos(angle)), strict=True):
                field[frame] += share * jump * beyond
    leads = np.arange(1, LEADS + 1) * np.timedelta64(24, "h").astype("m8[ns]")
    dims, units = ("init_time", "lead_time", "y", "x"), ("m", "m s-1", "m s-1")
    fields = {
        name: (dims, values, {"units": unit})
        for name, values, unit in zip(("sit", "siu", "siv"), fields, units, strict=True)
    }
    return xr.Dataset(fields, {"lead_time": leads, "init_time": np.arange(STARTS)})


@pytest.fixture(scope="module")
def truth():
    return slip_lines(np.random.default_rng(0))


def sums_of(fields):
    return frame_sums(fields, MASK, MASK, 25e3, TAILS)


@pytest.fixture(scope="module")
def sources(truth):
    """Sums of a truth, of copies of it and of another sample of the same process."""
    drift = [truth.siu, truth.siv]
    random = phase_randomised([truth.sit], MASK, 1) + phase_randomised(drift, MASK, 2)
    copies = {
        "truth": truth,
        "blurred": truth.map(lambda field: blurred(field, MASK), keep_attrs=True),
        "phase_randomised": xr.Dataset(dict(zip(truth, random, strict=True))),
        "independent": slip_lines(np.random.default_rng(1)),
    }
    sums = {name: sums_of(fields) for name, fields in copies.items()}
    return sums | {"same": {key: each.copy() for key, each in sums["truth"].items()}}


def test_a_blurred_copy_is_flagged_and_equal_and_independent_ones_are_not(sources):
    table = compare(sources, draws=50)
    for name, select in FLAGGED.items():
        significance = table[f"{name}_significance"].sel(select)
        assert abs(significance.sel(source="blurred")) > 3, name
        assert abs(significance.sel(source="independent")) < 3, name
        assert significance.sel(source="same") == 0
        same = table[name].sel(source="same", **select) - table[name].sel(source="truth", **select)
        assert abs(same).max() == 0
        assert (table[f"{name}_score"].sel(source="same", **select) == 0).all()
    # Smoothing takes the weight of a power law, not its exponent.
    assert table.tail_weight_significance.sel(source="blurred") < -3
    assert (table.tail_weight.sel(source="blurred") < table.tail_weight.sel(source="truth")).all()
    random = table.sel(source="phase_randomised")
    assert abs(random.gradient_c1_significance) > 3
    assert table.wasserstein.sel(source="same").max() == 0
    assert table.zeta.attrs["units"] == "1" and table.feature_length.attrs["units"] == "km"


def test_lazy_fields_and_blocks_of_lead_times_give_the_same_sums(truth, sources, monkeypatch):
    monkeypatch.setattr("seaice_lab.diagnostics.scaling.LEADS_AT_ONCE", 3)
    sums = sums_of(truth.chunk(lead_time=2))
    for key, each in sources["truth"].items():
        xr.testing.assert_allclose(sums[key], each, rtol=1e-12)
        assert not sums[key].chunks  # in memory
    assert (sums["increment_tail"]["count"].isel(init_time=0) > 0).values.tolist() == [0, 1, 1, 1]


def test_one_start_has_values_but_no_errors(sources):
    one = {
        name: {key: each.isel(init_time=[0]) for key, each in sums.items()}
        for name, sums in sources.items()
    }
    table = compare(one)
    assert np.isfinite(table.zeta).all() and table.zeta_error.isnull().all()
    assert table.zeta_spread.isnull().all()


def test_starts_of_one_run_count_as_one_and_have_no_errors(sources):
    for periods, finite in (([0, 0, 0, 1, 1, 1], False), ([0, 0, 1, 1, 2, 2], True)):
        table = compare(sources, draws=50, periods=periods)
        for ending in ("error", "difference_error", "significance"):
            values = table[f"zeta_{ending}"].sel(increment=1, q=1, source="blurred")
            assert np.isfinite(values).all() == finite, (periods, ending)
        assert (table.zeta_spread.sel(increment=1) > 0).all()
        significance = table.attrs["significance"]
        assert significance.startswith(
            "difference" if finite else "no standard errors: the 6 start"
        )
    assert abs(table.zeta_significance.sel(increment=1, q=1, source="blurred")) > 3


def test_copies_of_one_start_do_not_make_it_more_certain(sources):
    copied = {
        name: {
            key: xr.concat([each, each], "init_time").assign_coords(init_time=np.arange(12))
            for key, each in sums.items()
        }
        for name, sums in sources.items()
    }
    once = compare(sources, draws=50)
    twice = compare(copied, draws=50, periods=np.tile(np.arange(STARTS), 2))
    for name in ("zeta_error", "zeta_difference_error", "zeta_spread", "beta_error"):
        np.testing.assert_allclose(twice[name], once[name], rtol=1e-9, atol=1e-12)


def test_drift_with_one_component_counts_as_none(truth):
    one = truth[["sit", "siu"]].isel(init_time=[0], lead_time=[0])
    assert "moments" not in sums_of(one) and "structure" in sums_of(one)


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
