"""Output files: those of the published systems are read, ours are read back, the model travels."""

import numpy as np
import pytest
import torch
import xarray as xr
from published import DATA, batch, build, observations

from seaice_lab.emissivity import evaluation, products, state_files
from seaice_lab.emissivity.export import EmissivityModel
from seaice_lab.emissivity.model import EmpiricalState
from seaice_lab.emissivity.settings import ModelConfig
from seaice_lab.errors import InputError

TAGS = {"v1_linear": "202008_parity", "v2_imagers": "parity", "v2_crosstrack": "parity"}


def published_file(case, name):
    path = DATA / case / "outputs" / f"{name}_{TAGS[case]}.nc"
    return xr.load_dataset(path, decode_times=False)


@pytest.mark.parametrize("case", TAGS)
def test_files_of_the_published_systems_give_back_their_simulations(case, tmp_path):
    columns = observations(case, tmp_path)
    model = state_files.read_state(DATA / case / "outputs", TAGS[case], columns)
    runs = []
    model.network.register_forward_hook(lambda *_: runs.append(1))
    written = products.simulate_batch(model, batch(columns))
    assert len(runs) == 1
    # version 1 does not keep the day before the first, on which the first step depends
    comparable = columns.index[:, 1] >= (1 if case == "v1_linear" else 0)
    there = comparable[:, None] & np.isfinite(written["tbsim"])
    simulated = published_file(case, "tbsim").tb.values
    np.testing.assert_allclose(written["tbsim"][there], simulated[there], atol=3e-4)
    if case != "v1_linear":
        zero = published_file(case, "tbzero").tb.values
        np.testing.assert_array_equal(np.isnan(written["tbzero"]), np.isnan(zero))
        np.testing.assert_allclose(written["tbzero"], zero, atol=3e-4)
    emissivity = published_file(case, "ice_emis").ice_emis.values
    np.testing.assert_allclose(written["ice_emis"][comparable], emissivity[comparable], atol=1e-6)


@pytest.mark.parametrize("case", ["v1_linear", "v1_deep", "v2_imagers"])
def test_what_is_written_is_read_back_completely(case, tmp_path):
    columns = observations(case, tmp_path)
    model = build(case, columns, "pert")
    paths = state_files.write_state(model, columns, tmp_path / "out", "mine")
    initial = build(case, columns, "init")
    written = products.write_simulations(
        model, initial, columns, tmp_path / "out", "mine", show=False
    )
    paths |= written
    paths["emissivity_grid"] = products.write_grid(model, columns, tmp_path / "out", "mine")
    again = state_files.read_state(tmp_path / "out", "mine", columns)
    for (name, expected), parameter in zip(
        model.named_parameters(), dict(again.named_parameters()).values(), strict=True
    ):
        torch.testing.assert_close(expected, parameter, rtol=0, atol=0, msg=name)
    for name in ("sea_ice", "properties", "observation_properties"):
        torch.testing.assert_close(getattr(model, name), getattr(again, name), rtol=0, atol=0)
    for path in paths.values():
        with xr.open_dataset(path) as file:  # times are decoded
            assert file.attrs["Conventions"] == "CF-1.11, ACDD-1.3"
            for variable in file.data_vars.values():
                assert "units" in variable.attrs or variable.dtype.kind in "OUTMm", variable.name
    with xr.open_dataset(tmp_path / "out" / "seaice_mine.nc") as file:
        assert str(file.julian_day.values[1])[:10] == "2020-07-01"
        assert file.seaice.dims == ("grid", "lagstep") and file.lagstep.values[0] == -1


@pytest.mark.parametrize(
    "options",
    [
        {"version": 2, "zenith_input": True, "n_observation_properties": 0},
        {"version": 2, "nadir": True, "freezing_sea": False, "emissivity_background": {}},
        {"version": 1, "network": "sigmoid", "width": 4, "layers": 3},
        {"version": 1, "network": "frequency", "bounded": True},
    ],
    ids=["zenith", "nadir", "width", "frequency"],
)
def test_every_configuration_of_several_sensors_is_rebuilt(options, tmp_path):
    columns = observations("v2_imagers", tmp_path)
    model = EmpiricalState(ModelConfig(**options), columns).eval()
    with torch.no_grad():
        for value in model.parameters():
            value.add_(torch.randn_like(value) / 10)
    state_files.write_state(model, columns, tmp_path / "out", "mine")
    again = state_files.read_state(tmp_path / "out", "mine", columns)
    assert again.config == model.config
    part = batch(columns)
    with torch.no_grad():
        expected, simulation = model.simulate_batch(part), again.simulate_batch(part)
    for ours, theirs in zip(expected, simulation, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=0, equal_nan=True)
    assert expected.ice_emissivity[:1300].isfinite().all()


def test_departures_before_and_after_by_channel_with_their_histogram(tmp_path):
    columns = observations("v2_imagers", tmp_path)
    first, model = build("v2_imagers", columns, "init").eval(), build("v2_imagers", columns, "pert")
    written = products.write_simulations(model, first, columns, tmp_path, "all", show=False)
    few = products.write_simulations(
        model, first, columns, tmp_path, "few", departures_only=True, show=False
    )
    path = few["departures"]
    assert list(few) == ["departures"]
    assert path.name == "departures_few.nc" and not (tmp_path / "tbsim_few.nc").exists()
    table = xr.load_dataset(path)
    xr.testing.assert_equal(table, xr.load_dataset(written["departures"]))
    assert table.stage.values.tolist() == ["before", "after"]
    for stage, state in (("before", first), ("after", model)):
        expected = evaluation.departures(state, columns)
        for name in ("count", "bias", "std", "rms", "cost", "histogram"):
            values = table[name].sel(stage=stage) if name != "count" else table[name]
            np.testing.assert_allclose(values, expected[name], rtol=1e-6)
    assert model.training and not first.training  # the mode is as it was
    with torch.no_grad():
        simulated = model.eval().simulate_batch(batch(columns)).brightness_temperature.numpy()
    at = table.channel.values.tolist().index("37h")
    of_gmi = (columns.channels[:, 0] - simulated)[columns.index[:, 2] == 1, at]
    here = table.sel(stage="after", sensor="gmi", channel="37h")
    assert here["count"] == np.isfinite(of_gmi).sum() > 0
    assert float(here.bias) == pytest.approx(np.nanmean(of_gmi), rel=1e-5)
    assert float(here.rms) == pytest.approx(np.sqrt(np.nanmean(of_gmi**2)), rel=1e-5)
    assert float(here["std"]) == pytest.approx(np.nanstd(of_gmi), rel=1e-4)
    near = of_gmi[np.abs(of_gmi) < 30]
    assert here.histogram.sum() == len(near) > 0
    inside = ((near >= -2.5) & (near < -2)).sum()
    assert here.histogram.sel(bin=-2.25) == inside
    assert here.frequency == 36.5 and str(here.polarisation.values) == "horizontal"
    assert table.bias.attrs["units"] == table.bin.attrs["units"] == "K"
    assert not np.isfinite(table.bias.sel(stage="after", sensor="amsr2", channel="183pm7h"))


def test_the_gridded_emissivity_is_that_of_the_network(tmp_path):
    columns = observations("v2_imagers", tmp_path)
    model = build("v2_imagers", columns, "pert")
    grid = products.emissivity_grid(model, columns)
    with torch.no_grad():
        model.observation_properties.zero_()
        first_sensor = batch(columns, 0, 1300)  # of the first sensor
        simulated = model.eval().simulate_batch(first_sensor)
    at = first_sensor.index.long()
    ours = grid.sea_ice_emissivity.values[at[:, 1], at[:, 0]]
    skin = grid.tsfc_norm.values[at[:, 1], at[:, 0]]
    same = np.abs(skin - np.maximum(273 - columns.scalars[:1300, 0], 0) / 30) < 1e-6
    assert same.any()
    np.testing.assert_allclose(ours[same], simulated.ice_emissivity.numpy()[same], atol=1e-5)


@pytest.mark.parametrize("case", ["v1_linear", "v1_deep", "v2_imagers"])
def test_the_emissivity_model_needs_no_observations(case, tmp_path):
    columns = observations(case, tmp_path)
    model = build(case, columns, "pert")
    path = EmissivityModel.from_state(model, columns).save(tmp_path / "model.nc")
    assert path.stat().st_size < 100_000
    emissivity_model = EmissivityModel.load(path)
    skin, properties = torch.tensor([250.0, 271.0]), torch.randn(2, model.network_properties)
    frequency = torch.tensor(columns.instruments.frequency_ghz[0]).float()
    vertical = torch.tensor(columns.instruments.vertical).float()
    with torch.no_grad():
        emissivity = emissivity_model(skin, properties, frequency, vertical)
        cold = (273 - skin[:, None]).clip(0) / 30
        expected = model.network(cold, properties, frequency[None], vertical[None], None)
        torch.testing.assert_close(emissivity, expected)
        one = emissivity_model(skin, properties, frequency[3:4], vertical[3:4])
        torch.testing.assert_close(one, emissivity[:, 3:4])
        program = torch.export.load(emissivity_model.export(tmp_path / "model.pt2"))
        again = program.module()(skin, properties, frequency, vertical)
        torch.testing.assert_close(again, emissivity)
        if case == "v2_imagers":  # any frequency
            assert emissivity_model(
                skin, properties, torch.tensor([50.0]), torch.tensor([0.5])
            ).shape == (
                2,
                1,
            )
        else:
            with pytest.raises(InputError, match="has its own channels only"):
                emissivity_model(skin, properties, torch.tensor([50.0]), torch.tensor([1.0]))


@pytest.mark.parametrize("network", ["linear", "sigmoid", "frequency"])
def test_channels_of_one_frequency_are_told_apart_by_name(network, tmp_path):
    columns = observations("v2_imagers", tmp_path)
    torch.manual_seed(0)
    model = EmpiricalState(ModelConfig(version=1, network=network), columns)
    emissivity_model = EmissivityModel.load(
        EmissivityModel.from_state(model, columns).save(tmp_path / "model.nc")
    )
    skin, properties = torch.tensor([250.0, 271.0]), torch.randn(2, 3)
    of_sensor = (torch.tensor(columns.instruments.frequency_ghz[0]).float(), model.vertical)
    names = ["183pm1h", "19v", "183pm7h", "183pm3h"]
    at = [columns.instruments.channels.index(name) for name in names]
    with torch.no_grad():
        cold = (273 - skin[:, None]).clip(0) / 30
        all_channels = model.network(
            cold, properties, *(values[None] for values in of_sensor), None
        )
        selected = emissivity_model.for_channels(skin, properties, names)
    torch.testing.assert_close(selected, all_channels[:, at])
    with pytest.raises(InputError, match="unknown channel '183pm5h'"):
        emissivity_model.for_channels(skin, properties, ["183pm5h"])
    if network != "frequency":
        assert not torch.equal(selected[:, 0], selected[:, 2])
        with pytest.raises(InputError, match="183pm7h and 183pm3h and 183pm1h of the model"):
            emissivity_model(skin, properties, torch.tensor([183.31]), torch.tensor([0.0]))


@pytest.mark.parametrize("option", ["zenith_input", "nadir"])
def test_an_exported_program_takes_the_zenith_angle(option, tmp_path):
    columns = observations("v2_imagers", tmp_path)
    torch.manual_seed(0)
    model = EmpiricalState(ModelConfig(version=2, **{option: True}), columns)
    emissivity_model = EmissivityModel.from_state(model, columns)
    inputs = (torch.tensor([250.0, 260.0]), torch.randn(2, 3), torch.tensor([19.0, 50.0, 89.0]),
             torch.tensor([1.0, 0.5, 0.0]))  # fmt: skip
    program = torch.export.load(emissivity_model.export(tmp_path / "model.pt2")).module()
    with torch.no_grad():
        nadir, aslant = (program(*inputs, torch.tensor([angle, angle])) for angle in (0.0, 55.0))
        torch.testing.assert_close(nadir, emissivity_model(*inputs, torch.tensor([0.0, 0.0])))
        torch.testing.assert_close(aslant, emissivity_model(*inputs))
    assert (nadir - aslant).abs().max() > 1e-3


def test_files_that_do_not_fit_are_refused(tmp_path):
    columns = observations("v1_linear", tmp_path)
    outputs = DATA / "v1_linear" / "outputs"
    with pytest.raises(InputError, match="the tags in .* are 202008_parity"):
        state_files.read_state(outputs, "other", columns)
    another_case = observations("v1_year", tmp_path)
    with pytest.raises(InputError, match="use the observations that it was trained on"):
        state_files.read_state(outputs, TAGS["v1_linear"], another_case)
    (tmp_path / "model.nc").write_text("nothing")
    with pytest.raises(InputError, match="is no readable coefficient file"):
        EmissivityModel.load(tmp_path / "model.nc")
