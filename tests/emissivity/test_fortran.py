"""The emissivity model outside Python: in Fortran, in C and as a lookup table."""

import ctypes
import os
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch
import xarray as xr
from published import observations

from seaice_lab.emissivity import operational
from seaice_lab.emissivity.export import EmissivityModel
from seaice_lab.emissivity.model import EmpiricalState
from seaice_lab.emissivity.settings import ModelConfig
from seaice_lab.errors import InputError

FORTRAN = Path(__file__).parents[2] / "fortran"
POINTS = 400
NETWORKS = {
    "linear": {"version": 1},
    "sigmoid": {"version": 1, "network": "sigmoid", "layers": 3, "width": 4},
    "frequency": {"version": 2},
    "zenith": {"version": 2, "zenith_input": True},
    "nadir": {"version": 2, "nadir": True, "n_observation_properties": 0},
    "no_properties": {"version": 2, "n_properties": 0, "n_observation_properties": 0},
}


@pytest.fixture(scope="module")
def columns(tmp_path_factory):
    return observations("v2_imagers", tmp_path_factory.mktemp("observations"))


def model_of(name, columns):
    """A model with random weights that are large enough to bend the sigmoids."""
    torch.manual_seed(1)
    state = EmpiricalState(ModelConfig(**NETWORKS[name]), columns)
    with torch.no_grad():
        for value in state.network.parameters():
            value.add_(torch.randn_like(value))
        for value in (state.properties, state.observation_properties):
            value.copy_(torch.randn_like(value))
    return EmissivityModel.from_state(state, columns), state


@pytest.fixture(scope="module")
def build(tmp_path_factory):
    """Folder with the compiled library, and the two compiled examples."""
    missing = [name for name in ("gfortran", "gcc") if shutil.which(name) is None]
    if missing and not os.environ.get("CI"):
        pytest.skip(f"{' and '.join(missing)} not installed")
    folder = tmp_path_factory.mktemp("fortran")
    modules = [FORTRAN / "seaice_emissivity.f90", FORTRAN / "seaice_emissivity_c.f90"]
    strict = ["gfortran", "-std=f2008", "-Wall", "-Wextra", "-pedantic", "-Werror", "-O2"]
    checks = ["-fcheck=all", "-ffpe-trap=invalid,zero,overflow"]
    for words in (
        [*strict, "-fcheck=all", "-shared", "-fPIC", *modules, "-o", "library.so"],
        [*strict, *checks, modules[0], FORTRAN / "example.f90", "-o", "example_fortran"],
        ["gcc", "-std=c99", "-Wall", "-Wextra", "-Werror", "-I", FORTRAN, FORTRAN / "example.c",
         folder / "library.so", f"-Wl,-rpath,{folder}", "-o", "example_c"],
    ):  # fmt: skip
        done = subprocess.run(list(map(str, words)), cwd=folder, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
    return folder


class FortranModel:
    """A coefficient file, opened by the C interface of the Fortran module."""

    def __init__(self, build, path):
        self.library = ctypes.CDLL(str(build / "library.so"))
        self.handle, message = ctypes.c_void_p(), ctypes.create_string_buffer(512)
        reference = ctypes.byref(self.handle)
        self.status = self.library.seaice_emissivity_open(
            str(path).encode(), reference, message, 512
        )
        self.message = message.value.decode()

    def call(self, name, point, channels, *arrays):
        """Call a function at a point (skin temperature, properties, zenith)."""
        tsfc, properties, zenith = point
        frequency, vertical = channels
        values = (tsfc, properties, zenith, len(frequency), frequency, vertical, *arrays)
        function = getattr(self.library, f"seaice_emissivity_{name}")
        return function(self.handle, *map(as_c, values))


def as_c(value):
    if isinstance(value, np.ndarray):
        assert value.dtype == "float64" and value.flags.c_contiguous
        return value.ctypes.data_as(ctypes.POINTER(ctypes.c_double))
    return ctypes.c_int(value) if isinstance(value, int) else ctypes.c_double(value)


def random_points(count, number=POINTS):
    """Random skin temperatures on both sides of melting, properties and zenith angles."""
    rng = np.random.default_rng(0)
    tsfc, zenith = rng.uniform(210, 280, number), rng.uniform(0, 65, number)
    return tsfc, rng.normal(0, 2, (number, count)), zenith


def torch_values(model, points, channels):
    """Emissivity (point, channel) and Jacobian (point, channel, 1 + property) in float64."""
    tsfc, properties, zenith = (torch.tensor(values, requires_grad=True) for values in points)
    emissivity = model._apply_network(tsfc, properties, *map(torch.tensor, channels), zenith)
    jacobian = []
    for channel in emissivity.sum(0):
        by_skin, by_property = torch.autograd.grad(channel, (tsfc, properties), retain_graph=True)
        jacobian.append(torch.cat([by_skin[:, None], by_property], 1))
    return emissivity.detach().numpy(), torch.stack(jacobian, 1).numpy()


@pytest.mark.parametrize("name", NETWORKS)
def test_fortran_agrees_with_torch_and_its_adjoint_is_the_transpose_of_its_tangent(
    name, columns, build, tmp_path
):
    model, _ = model_of(name, columns)
    fortran = FortranModel(build, operational.write_coefficients(model, tmp_path / "model.coef"))
    assert (fortran.status, fortran.message) == (0, "")
    channels = [model.settings["frequency_ghz"].astype("float64"),
                model.settings["vertical"].astype("float64")]  # fmt: skip
    if model.settings["network"] == "frequency":
        channels = [np.append(channels[0], [50.3, 23.8]), np.append(channels[1], [0.3, 0.5])]
    number, count = len(channels[0]), model.settings["n_properties"]
    points, rng = random_points(count), np.random.default_rng(1)
    expected = torch_values(model.double(), points, channels)
    for point, emissivity, jacobian in zip(zip(*points, strict=True), *expected, strict=True):
        e, k = np.empty(number), np.empty((number, 1 + count))
        assert fortran.call("evaluate", point, channels, e, k) == 0
        np.testing.assert_allclose(e, emissivity, atol=1e-12)
        np.testing.assert_allclose(k, jacobian, atol=1e-12)
        change, weights = rng.normal(size=1 + count), rng.normal(size=number)
        d_e, gradient, d_tsfc = np.empty(number), np.zeros(count), np.zeros(1)
        arguments = float(change[0]), np.ascontiguousarray(change[1:]), e, d_e
        assert fortran.call("tangent", point, channels, *arguments) == 0
        assert fortran.call("adjoint", point, channels, weights, d_tsfc, gradient) == 0
        forwards, backwards = weights @ d_e, change @ np.append(d_tsfc, gradient)
        assert abs(forwards - backwards) <= 1e-12 * (np.abs(weights) @ np.abs(d_e))


def test_fortran_agrees_with_the_model_in_single_precision(columns, build, tmp_path):
    model, _ = model_of("frequency", columns)
    fortran = FortranModel(build, operational.write_coefficients(model, tmp_path / "model.coef"))
    channels = np.array([10.65, 89.0]), np.array([1.0, 0.0])
    tsfc, properties, _ = random_points(3)
    with torch.no_grad():
        inputs = [torch.tensor(values).float() for values in (tsfc, properties, *channels)]
        expected = model(*inputs)
    for row, point in enumerate(zip(tsfc, properties, strict=True)):
        e, k = np.empty(2), np.empty((2, 4))
        fortran.call("evaluate", (*point, 0.0), channels, e, k)
        np.testing.assert_allclose(e, expected[row], atol=1e-6)


def test_a_missing_value_stays_missing(columns, build, tmp_path):
    model, _ = model_of("frequency", columns)
    fortran = FortranModel(build, operational.write_coefficients(model, tmp_path / "model.coef"))
    channels, e, k = (np.array([19.0]), np.array([1.0])), np.empty(1), np.empty((1, 4))
    assert fortran.call("evaluate", (np.nan, np.zeros(3), 0.0), channels, e, k) == 0
    assert np.isnan(e[0])


def test_errors_are_statuses_and_messages(columns, build, tmp_path):
    model, _ = model_of("linear", columns)
    path = operational.write_coefficients(model, tmp_path / "model.coef")
    whole, text = path.read_bytes(), path.read_text()
    lines = text.splitlines(keepends=True)
    for content in (whole[:-30], whole.replace(b"0.9", b"0.8", 1), b"", b"CDF\x01" * 900):
        path.write_bytes(content)
        fortran = FortranModel(build, path)
        assert fortran.status > 0 and fortran.handle.value is None
        assert fortran.message.startswith(str(path)) and "is not a complete" in fortran.message
    newer = "".join(["seaice_lab emissivity coefficients, format 2\n", *lines[1:-1]])
    path.write_text(newer + f"crc32 {operational.zlib.crc32(newer.encode()):08X}\n")
    assert "use the Fortran module of the version" in FortranModel(build, path).message
    assert "No such file" in FortranModel(build, tmp_path / "none.coef").message
    path.write_bytes(whole)
    fortran, few = FortranModel(build, path), np.ones(2)
    assert fortran.call("evaluate", (250.0, np.zeros(3), 0.0), (few, few), few, np.ones(8)) == 1


def test_the_examples_in_fortran_and_c_run(columns, build, tmp_path):
    model, _ = model_of("frequency", columns)
    path = operational.write_coefficients(model, tmp_path / "model.coef")

    def lines_of(name, file):
        done = subprocess.run([build / name, file], capture_output=True, text=True)
        return done.stdout.splitlines(), done.stderr

    printed, _ = lines_of("example_fortran", path)
    assert [line.split()[0] for line in printed] == list(columns.instruments.channels)
    channels = np.array([10.65, 19.0, 19.0]), np.array([1.0, 1.0, 0.0])
    point = np.array([250.0]), np.zeros((1, 3)), np.array([55.0])
    (e,), (jacobian,) = torch_values(model.double(), point, channels)
    np.testing.assert_allclose(
        np.array(printed[0].split()[1:], float), [e[0], jacobian[0, 0]], atol=1e-8
    )
    printed, _ = lines_of("example_c", path)
    values = np.array([line.split() for line in printed], float)
    np.testing.assert_allclose(values, np.column_stack([e, jacobian])[1:], atol=1e-8)
    for name in ("example_fortran", "example_c"):
        assert "No such file" in lines_of(name, "none.coef")[1]


@pytest.mark.parametrize("name", ["linear", "frequency", "zenith"])
def test_the_lookup_table_holds_the_network_and_its_jacobian(name, columns, tmp_path):
    model, state = model_of(name, columns)
    ranges = operational.property_ranges(state)
    table = xr.load_dataset(operational.write_table(model, ranges, tmp_path / "table.nc"))
    rng, double = np.random.default_rng(2), model.double()
    axes = [dim for dim in table.emissivity.dims if dim not in ("polarisation", "channel")]
    for _ in range(20):
        node = {dim: table[dim].values[rng.integers(table.sizes[dim])] for dim in axes}
        properties = np.array([[node[f"property_{n + 1}"] for n in range(len(ranges))]])
        point = np.array([node["skin_temperature"]]), properties, np.array([node["zenith_angle"]])
        channels = [model.settings["frequency_ghz"], model.settings["vertical"]]
        if "frequency" in node:
            channels = [[node["frequency"]] * 2, [1.0, 0.0]]
        channels = [np.asarray(values, "float64") for values in channels]
        (e,), (jacobian,) = torch_values(double, point, channels)
        here = table.sel(node)
        np.testing.assert_allclose(here.emissivity, e, atol=1e-6)
        np.testing.assert_allclose(here.emissivity_by_skin_temperature, jacobian[:, 0], atol=1e-6)
        np.testing.assert_allclose(here.emissivity_by_property_2, jacobian[:, 2], atol=1e-6)
    assert table.sizes["zenith_angle"] == (14 if name == "zenith" else 1)
    assert {"Release", "Version", "Title", "History", "Comment", "Conventions"} <= set(table.attrs)
    assert table.emissivity_by_skin_temperature.attrs["units"] == "K-1"
    with pytest.raises(InputError, match="12 properties.* use --coefficients"):
        operational.lookup_table(model, [(-1.0, 1.0)] * 12)


def test_the_range_of_a_property_leaves_out_where_nothing_was_observed(columns):
    _, state = model_of("frequency", columns)
    with torch.no_grad():
        state.properties[:, 0] = torch.linspace(1, 2, len(state.properties))
        state.properties[: len(state.properties) // 2, 0] = 0.0
        state.properties[:, 1] = 0.0
    first, second, _ = operational.property_ranges(state)
    assert first == pytest.approx((1.5025, 1.9975), abs=3e-3)
    assert second == (-1.0, 1.0)
