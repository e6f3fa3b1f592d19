"""NASA Team: published tie points, hemispheres, weather, observations that lack a channel."""

import numpy as np
import pytest

from seaice_lab.emissivity import evaluation, nasa_team
from seaice_lab.emissivity.observations import Observations
from seaice_lab.emissivity.sensors import instruments
from seaice_lab.errors import InputError

# 19V, 19H and 37V of AMSR2 over open water, first-year and multi-year ice (NSIDC).
NORTH = [(190.55, 109.6, 211.2), (253.07, 234.73, 244.16), (225.8, 196.75, 193.78)]
SOUTH = [(190.79, 110.2, 211.9), (258.78, 242.83, 249.25), (249.71, 215.22, 217.1)]


def columns(sensors, tb_k, latitude, sensor=0):
    """Observations of a sensor, one at each grid point, with 19V, 19H, 37V and 24V."""
    unified, count = instruments(sensors), len(tb_k)
    channels = np.full((count, 5, len(unified.channels)), np.nan, "float32")
    for name, values in zip(("19v", "19h", "37v", "24v"), np.transpose(tb_k), strict=True):
        channels[:, 0, unified.channels.index(name)] = values
    index = np.stack([np.arange(count), np.zeros(count), np.full(count, sensor)], 1).astype("int32")
    skin, position = np.full((count, 1), 260.0), np.full(count, latitude)
    fields = dict(instruments=unified, index=index, channels=channels, latitude=position)
    fields |= dict(skin_temperature_map=skin)
    return Observations(**dict.fromkeys(Observations._fields) | fields)


@pytest.mark.parametrize("tie_points", [NORTH, SOUTH])
def test_water_is_0_both_types_of_ice_are_1_and_a_mixture_is_its_share(tie_points):
    pure = nasa_team.concentration(np.array(tie_points), tie_points)
    np.testing.assert_allclose(pure, [0, 1, 1], atol=1e-12)
    # the temperature of the surface, here 0.93 times that of the tie points, does not matter
    mixture = 0.93 * np.array([0.5, 0.3, 0.2]) @ tie_points
    assert nasa_team.concentration(mixture, tie_points) == pytest.approx(0.5, abs=1e-12)
    half = [(190.55 + 253.07) / 2, (109.6 + 234.73) / 2, (211.2 + 244.16) / 2]
    assert nasa_team.concentration(half, NORTH) == pytest.approx(0.5, abs=1e-12)


def test_the_concentration_is_that_of_the_published_ratios():
    """The shares of water and first-year ice from the polarisation ratio alone."""
    water, ice = np.array(NORTH[:2])
    tb_k = 0.7 * water + 0.3 * ice
    ratio = nasa_team.gradient_ratio(tb_k[0], tb_k[1])
    # ratio = (1-c) d_water + c d_ice over (1-c) s_water + c s_ice, solved for c
    d_water, d_ice = water[0] - water[1], ice[0] - ice[1]
    s_water, s_ice = water[0] + water[1], ice[0] + ice[1]
    share = (ratio * s_water - d_water) / (d_ice - d_water - ratio * (s_ice - s_water))
    assert nasa_team.concentration(tb_k, NORTH) == pytest.approx(share, abs=1e-9)


def test_what_is_no_mixture_stays_within_bounds_or_is_missing():
    tb_k = [(253.07, 245.0, 244.16), (190.55, 95.0, 211.2), (np.nan, 109.6, 211.2), (20, 400, 20)]
    np.testing.assert_array_equal(nasa_team.concentration(tb_k, NORTH), [1, 0, np.nan, np.nan])


@pytest.mark.parametrize(("latitude", "tie_points"), [(80.0, NORTH), (-70.0, SOUTH)])
def test_each_hemisphere_has_its_tie_points(latitude, tie_points):
    tb_k = [(*surface, surface[0]) for surface in tie_points]
    observations = columns(["amsr2"], tb_k, latitude)
    retrieved = nasa_team.retrieve(observations)
    np.testing.assert_allclose(retrieved, [0, 1, 1], atol=1e-5)
    np.testing.assert_array_equal(evaluation.daily_means(retrieved, observations)[:, 0], retrieved)


def test_weather_over_open_water_is_no_ice():
    # gradient ratios of 37V 0.06 and 0.049, of 24V 0.02, 0.046 and 0.02
    tb_k = [(200, 160, 225.5, 208), (200, 160, 220, 219.3), (200, 160, 220.5, 208)]
    ice = nasa_team.retrieve(columns(["amsr2"], tb_k, 75.0))
    assert ice[0] == ice[1] == 0 and 0.2 < ice[2] < 0.8
    south = nasa_team.retrieve(columns(["amsr2"], [(200, 160, 221.9, 208)] * 2, -65.0))
    north = nasa_team.retrieve(columns(["amsr2"], [(200, 160, 221.9, 208)] * 2, 65.0))
    assert (south > 0.2).all() and (north == 0).all()  # the limits 0.053 and 0.050


def test_a_missing_channel_or_another_sensor_gives_no_value():
    tb_k = [(*NORTH[1], np.nan), (*NORTH[1], 253.0)]
    ice = nasa_team.retrieve(columns(["amsr2"], tb_k, 80.0))
    assert np.isnan(ice[0]) and ice[1] == pytest.approx(1, abs=1e-5)
    gmi = columns(["ssmisf17", "gmi"], tb_k, 80.0, sensor=1)
    assert np.isnan(nasa_team.retrieve(gmi)).all()
    assert np.isnan(evaluation.daily_means(nasa_team.retrieve(gmi), gmi)).all()


@pytest.mark.parametrize("tables", [None, "without 24v"])
def test_observations_without_tie_points_or_channels_are_refused_in_one_sentence(tables):
    observations = columns(["gmi"], [(*NORTH[1], 253.0)], 80.0)
    if tables:
        lacking = {"sensors": {"amsr2": {"channels": ["19v", "19h", "37v"]}}}
        observations = observations._replace(instruments=instruments(["amsr2"], lacking))
    with pytest.raises(InputError, match=r"needs the channels 19v, 19h, 37v, 24v of a sensor"):
        nasa_team.retrieve(observations)


def test_scores_by_class_leave_out_what_is_missing():
    truth = np.array([0.0, 0.1, 0.3, 0.6, 0.6, 1.0])
    estimate = truth + [0.0, 0.02, -0.1, 0.3, np.nan, -0.1]
    scores = evaluation.scores_by_class(estimate, truth, deviation=np.full(6, 0.11))
    assert scores["count"].tolist() == [1, 1, 1, 1, 1]
    np.testing.assert_allclose(scores.bias, [0, 0.02, -0.1, 0.3, -0.1])
    np.testing.assert_allclose(scores.within_2, [1, 1, 1, 0, 1])
