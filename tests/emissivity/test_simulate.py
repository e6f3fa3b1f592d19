"""Observations of a known ice: the same in every layout, like the real ones in what is known."""

import numpy as np
import pytest
import xarray as xr

from seaice_lab.emissivity.observations import prepare
from seaice_lab.emissivity.simulate import SimulateConfig, simulate
from seaice_lab.errors import InputError

SMALL = {"size": 24, "days": 4, "sensors": ("amsr2",), "observations": (3000,)}


def test_every_layout_holds_the_same_observations(tmp_path):
    found = []
    for layout in ("month", "year", "sensors"):
        folder = simulate(SimulateConfig(layout=layout, **SMALL), tmp_path / layout, show=False)
        found.append(prepare(folder, ["amsr2"], tmp_path / f"{layout}-columns", show=False))
    for other in found[1:]:
        for name in ("index", "scalars", "channels", "julian_day", "sea_ice_first_guess"):
            np.testing.assert_array_equal(getattr(found[0], name), getattr(other, name), name)


def test_another_seed_is_another_ice(tmp_path):
    one, two = (
        xr.load_dataset(simulate(SimulateConfig(seed=seed, **SMALL), tmp_path / str(seed),
                                 show=False) / "truth.nc").sic
        for seed in (0, 1)
    )  # fmt: skip
    assert np.abs(one - two).max() > 0.5
    assert one.min() == 0 and one.max() <= 1


def test_brightness_temperatures_are_near_the_tie_points_of_the_nasa_team(tmp_path):
    """Open water and first-year ice as AMSR2 sees them in the north (as listed by NSIDC)."""
    config = SimulateConfig(**SMALL | {"observations": (20_000,)}, noise=0.0)
    folder = simulate(config, tmp_path / "ice", show=False)
    seen = prepare(folder, ["amsr2"], tmp_path / "columns", show=False)
    truth = xr.load_dataset(folder / "truth.nc")
    ice = truth.sic_at_obs_amsr2.values
    old = truth.old_ice_share.values[seen.index[:, 0], seen.index[:, 1] + 1]
    tb = {name: seen.channels[:, 0, place] for place, name in enumerate(seen.instruments.channels)}
    known = {"19h": (109.6, 234.7), "19v": (190.6, 253.1), "37v": (211.2, 244.2)}
    for channel, (water, first_year) in known.items():
        assert tb[channel][ice == 0].mean() == pytest.approx(water, abs=15), channel
        young = (ice > 0.95) & (old < 0.2)
        # the simulated instrument has a bias of 5 K over ice
        assert tb[channel][young].mean() - 5 == pytest.approx(first_year, abs=15), channel


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"observations": (1, 2)}, "2 counts for 1 sensors"),
        ({"layout": "year", "sensors": ("gmi", "amsr2"), "observations": (1, 2)}, "one sensor"),
        ({"sensors": ("amsr9",)}, "unknown sensor 'amsr9'"),
    ],
)  # fmt: skip
def test_cases_that_cannot_be_made_are_refused(options, sentence, tmp_path):
    with pytest.raises(InputError, match=sentence):
        simulate(SimulateConfig(**SMALL | options), tmp_path / "ice", show=False)
