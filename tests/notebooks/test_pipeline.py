"""All notebooks, executed in order on the bundled sample with settings that take a minute."""

import json
import re
from contextlib import nullcontext
from pathlib import Path

import nbformat
import numpy as np
import pytest
import xarray as xr
import yaml
from PIL import Image

from seaice_lab import grid, notebooks
from seaice_lab.surrogate.evaluation import open_forecast, read_evaluation
from seaice_lab.surrogate.store import open_store

ROOT = Path(__file__).parents[2]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
COARSE = {"coarsen": 2}
TRAINING = {"epochs": 2, "compile": "never", "transport": False}
FORECASTS = {"steps": 4, "every": 16}
NETWORK = {"width": 4, "batch_size": 16}


@pytest.fixture(scope="module")
def sample(tmp_path_factory):
    """A data folder with three of the seven runs of the bundled sample, one of each split."""
    folder = tmp_path_factory.mktemp("data")
    (folder / "sample").mkdir()
    for name in ("train_r01.nc", "val_r07.nc", "test_r08.nc"):
        (folder / "sample" / name).symlink_to(ROOT / "data" / "sample" / name)
    return folder


@pytest.fixture(scope="module")
def kernel(sample):
    """One kernel for all notebooks, because a new one loads all modules again."""
    with pytest.MonkeyPatch.context() as patch, notebooks.shared_kernel() as kernel:
        patch.setenv("SEAICE_DATA", str(sample))
        yield kernel


@pytest.fixture(scope="module")
def made(kernel, tmp_path_factory):
    """The run folder of the pipeline and its executed notebooks."""
    folder = tmp_path_factory.mktemp("pipeline")
    places = {"store": str(folder / "sample.zarr"), "run": str(folder / "runs" / "demo")}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(notebooks, "shared_kernel", lambda: nullcontext(kernel))
        return notebooks.pipeline(COARSE | TRAINING | FORECASTS | NETWORK | places)


@pytest.fixture(scope="module")
def execute(kernel, tmp_path_factory):
    """Executes a notebook."""

    def run(name, settings, folder=None):
        output = (folder or tmp_path_factory.mktemp(name)) / f"{name}.ipynb"
        path = ROOT / "notebooks" / output.name
        return notebooks.execute(path, output, settings, folder, kernel)

    return run


@pytest.fixture(scope="module")
def networks(made, execute):
    """The comparison of networks: the run of the pipeline, and one case that is executed."""
    folder = made[0].parent
    cases = {"demo": NETWORK, "drift": NETWORK | {"transport": True}}
    places = {"folder": str(folder), "store": str(folder.parent / "sample.zarr"), "cases": cases}
    common = COARSE | {"epochs": TRAINING["epochs"], "compile": TRAINING["compile"]}
    return execute("06_networks", places | common | FORECASTS)


@pytest.fixture(scope="module")
def season(execute, tmp_path_factory):
    """The seasonal forecast, executed on twenty days of a tiny synthetic Arctic."""
    folder = tmp_path_factory.mktemp("season")
    entry = yaml.safe_load((ROOT / "data_catalog.yaml").read_text())["synthetic-seasons"]
    entry["generator"] |= {"size": 32, "days": 20}
    periods = {"train": (1, 8), "validation": (9, 14), "test": (15, 20)}
    entry["splits"] = {
        name: {"period": [f"2001-01-{day:02d}" for day in days]} for name, days in periods.items()
    }
    (folder / "data_catalog.yaml").write_text(yaml.safe_dump({"synthetic-seasons": entry}))
    (folder / "data").mkdir()
    places = {"store": str(folder / "season.zarr"), "run": str(folder / "runs" / "season")}
    return execute("07_season", places | {"steps": 4, "width": 4, "epochs": 1}, folder)


@pytest.fixture(scope="module")
def comparison(networks, made, execute):
    """The comparison of the runs that the comparison of networks left."""
    return execute("08_compare_runs", {"folder": str(made[0].parent)})


@pytest.fixture(scope="module")
def dashboard(made, execute):
    """The maps of the run of the pipeline, and the dashboard over it."""
    return execute("09_dashboard", {"folder": str(made[0].parent), "run": "demo"})


@pytest.fixture(scope="module")
def emissivity(execute, tmp_path_factory):
    """Training and maps of the emissivity model on a small known ice."""
    folder = tmp_path_factory.mktemp("emissivity")
    places = {"data": str(folder / "data"), "run": str(folder / "runs" / "ice")}
    small = {"size": 16, "days": 3, "observations": [1000, 500, 500]}
    return execute("10_emissivity_train", places | small, folder)


@pytest.fixture(scope="module")
def emissivity_maps(emissivity, execute):
    folder = emissivity.parent
    places = {"data": str(folder / "data"), "run": str(folder / "runs" / "ice"), "day": 2}
    return execute("11_emissivity_maps", places, folder)


@pytest.fixture(scope="module")
def sensitivity(execute, tmp_path_factory):
    """The sensitivity tests, two cases of two settings."""
    folder = tmp_path_factory.mktemp("sensitivity")
    places = {"data": str(folder / "data"), "folder": str(folder / "runs")}
    small = {"size": 16, "days": 2, "observations": 1500, "epochs": 2}
    cases = {"properties": [1, 3], "layers": [0, 1]}
    return execute("12_emissivity_sensitivity", places | small | {"cases": cases}, folder)


@pytest.fixture(scope="module")
def own_data(execute, tmp_path_factory):
    """Two files on other grids, their catalogue, their check and their store."""
    folder = tmp_path_factory.mktemp("own")
    return execute("13_own_data", {"folder": str(folder / "files")}, folder)


@pytest.fixture(scope="module")
def ensemble(made, execute, tmp_path_factory):
    """An ensemble network that starts from the run of the pipeline."""
    folder = tmp_path_factory.mktemp("ensemble")
    places = {"run": str(made[0]), "ensemble": str(folder / "runs" / "ensemble")}
    small = {"epochs": 1, "members": 4, "steps": 4, "every": 24}
    small |= {"memories": [0.5], "calibration_starts": 1}
    return execute("14_ensemble", places | small, folder)


@pytest.fixture(scope="module")
def scaling(made, execute):
    """The scaling of the run of the pipeline, two starts."""
    return execute("15_scaling", {"run": str(made[0]), "starts": 2})


@pytest.fixture(scope="module")
def assimilation(made, execute):
    """A window of a twin experiment with the run of the pipeline."""
    small = {"windows": 1, "window_steps": 3, "forecast_steps": 2}
    folder = made[0].with_name("cycle")
    return execute("16_assimilation", {"run": str(made[0]), "folder": str(folder)} | small)


@pytest.fixture(params=[path.stem for path in NOTEBOOKS])
def executed(request):
    """Every notebook of the project, executed."""
    others = {
        "06_networks": "networks",
        "07_season": "season",
        "08_compare_runs": "comparison",
        "09_dashboard": "dashboard",
        "10_emissivity_train": "emissivity",
        "11_emissivity_maps": "emissivity_maps",
        "12_emissivity_sensitivity": "sensitivity",
        "13_own_data": "own_data",
        "14_ensemble": "ensemble",
        "15_scaling": "scaling",
        "16_assimilation": "assimilation",
    }
    if request.param in others:
        return request.getfixturevalue(others[request.param])
    _, paths = request.getfixturevalue("made")
    return next(path for path in paths if path.stem == request.param)


def test_every_executed_notebook_shows_figures_without_errors_or_warnings(executed):
    cells = nbformat.read(executed, as_version=4).cells
    outputs = [output for cell in cells for output in cell.get("outputs", [])]
    figure = re.compile(r"^\s*(figure(, ax|, axes)? = |charts\.show\(|explore\()", re.M)
    drawn = [cell for cell in cells if figure.search(cell.source)]
    assert drawn
    for cell in drawn:
        assert any("image/png" in output.get("data", {}) for output in cell.outputs), cell.source
    assert not [output for output in outputs if output.output_type == "error"]
    assert not [output.text for output in outputs if output.get("name") == "stderr"]
    assert executed.with_suffix(".html").stat().st_size > 10_000


def test_an_executed_case_is_not_executed_again(networks, made):
    outputs = [
        o.get("text", "") for c in nbformat.read(networks, 4).cells for o in c.get("outputs", [])
    ]
    assert "".join(outputs).count("epoch 2/2") == 1  # that of the run of the pipeline is there
    done = made[0].with_name("drift") / "notebooks" / "04_evaluate.ipynb"
    settings = {"run": str(done.parents[1])} | FORECASTS
    assert notebooks.was_executed(done, settings)
    assert not notebooks.was_executed(done, settings | {"steps": 5})
    assert not notebooks.was_executed(done.with_name("none.ipynb"), settings)


def test_the_seasonal_forecast_leaves_an_animation(season):
    with Image.open(season.parent / "runs" / "season" / "season.gif") as moving:
        assert moving.n_frames == 4


def test_own_files_become_a_store_in_the_units_and_on_the_axes_of_the_project(own_data):
    folder = own_data.parent / "files"
    stored = open_store(folder / "store.zarr").isel(time=0).load()
    model = xr.open_dataset(folder / "data" / "my_model_2010.nc").isel(time_counter=0)
    np.testing.assert_array_equal(stored.ocean, model.tmask == 1)
    np.testing.assert_allclose(stored.sit, model.sithic / 100, rtol=1e-6)
    np.testing.assert_allclose(stored.sic, model.siconc / 100, rtol=1e-6)
    wind = xr.open_dataset(folder / "data" / "my_era5_2010.nc").isel(valid_time=0)
    at = {"latitude": stored.latitude, "longitude": stored.longitude % 360}
    east, north = (wind[name].sel(at, method="nearest") for name in ("u10", "v10"))
    back = grid.rotate_to_geographic(stored.u10, stored.v10, stored.latitude, stored.longitude)
    near = np.abs(back[0] - east) + np.abs(back[1] - north) < 1e-3
    assert near.mean() > 0.7  # the nearest point on the sphere may be another one
    text = "".join(o.get("text", "") for c in nbformat.read(own_data, 4).cells
                   for o in c.get("outputs", []))  # fmt: skip
    assert "check the units of the file" in text
    assert "longitudes from 45.0 E eastward to 0.0 E are missing" in text


def test_the_pipeline_leaves_forecast_scores_and_spectra_of_the_run(made):
    run, _ = made
    sit = open_forecast(run).sit
    table, spectrum = read_evaluation(run)
    assert sit.sizes["lead_time"] == 4
    assert np.isfinite(sit.values[..., sit.ocean.values]).all()
    assert np.all(table.rmse.sel(source="persistence") > 0)
    assert np.isfinite(spectrum.slope).all()
    assert json.loads((run / "provenance.json").read_text())["kind"] == "surrogate"


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebooks_are_committed_without_output_and_with_one_parameters_cell(path):
    notebook = nbformat.read(path, as_version=4)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            assert cell.outputs == []
            assert cell.execution_count is None
    assert notebooks.default_parameters(path)
    assert notebook.metadata.kernelspec.name == "python3"
