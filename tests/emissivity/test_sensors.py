"""Sensors: the published tables, and sensors described by their users."""

import numpy as np
import pytest
from published import CASES, numbers

from seaice_lab.emissivity.ice_types import ICE_TYPE_LABELS, ice_types
from seaice_lab.emissivity.sensors import instruments
from seaice_lab.errors import InputError


@pytest.mark.parametrize("case", ["v2_imagers", "v2_crosstrack"])
def test_the_unified_list_is_the_published_one(case):
    ours, theirs = instruments(CASES[case]), numbers(case)
    assert ours.channels == tuple(theirs.channel_name.values)
    assert ours.frequency_ghz == pytest.approx(theirs.frequency.values, rel=1e-6)
    assert (1 - ours.vertical == theirs.polarisation.values).all()
    assert (ours.error_k == theirs.observation_error.values).all()
    assert (ours.bias_k == theirs.background_bias.values).all()
    assert (ours.bias_error_k == theirs.background_bias_error.values).all()
    for row, name in enumerate(ours.sensors):
        assert ours.positions[row] == tuple(theirs[f"channel_map_{name}"].values)


def test_errors_of_an_amsu_do_not_reach_the_imagers():
    both = instruments(["METOP-B", "amsr2"])
    at = both.channels.index("37v")
    assert both.error_k[:, at].tolist() == [5.0, 4.0]
    assert [len(positions) for positions in both.positions] == [4, 10]


def test_a_sensor_of_ones_own(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("channels: {36v: {frequency_ghz: 36.0, error_k: 3.0}}\n"
                    "sensors: {mine: {channels: [36v, 89v], bias_error_k: 2.0}}\n")  # fmt: skip
    both = instruments(["mine", "gmi"], path)
    assert both.channels[-1] == "36v"
    assert [both.channels[at] for at in both.positions[0]] == ["36v", "89v"]
    assert both.frequency_ghz[0, both.channels.index("36v")] == 36.0


@pytest.mark.parametrize(
    ("names", "sentence"),
    [
        (["amsr3"], "unknown sensor 'amsr3'; the known ones are amsr2, ssmisf17"),
        (["gmi", "gmi"], "name one or more, each once"),
        ([], r"found \[\]"),
    ],
)
def test_wrong_sensors_are_refused(names, sentence):
    with pytest.raises(InputError, match=sentence):
        instruments(names)


def test_an_unknown_channel_is_refused(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("sensors: {mine: {channels: [36v]}}\n")
    with pytest.raises(InputError, match="sensor mine: unknown channel '36v'"):
        instruments(["mine"], path)


def test_the_published_ice_types_have_labels_units_and_a_source():
    types = ice_types()
    assert types.dims == ("type", "polarisation", "frequency") and types.shape == (13, 3, 7)
    assert types.sel(type="rs_ice_a", polarisation="mean", frequency=6.925) == 0.93
    assert types.units == "1" and types.frequency.units == "GHz" and "Okamoto" in types.source
    assert (np.diff(types.frequency) > 0).all()
    assert set(ICE_TYPE_LABELS) <= set(types.type.values)
