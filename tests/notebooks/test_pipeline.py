"""All notebooks, executed in order on the bundled sample with settings that take a minute."""

import json
from pathlib import Path

import nbformat
import numpy as np
import pytest

from seaice_lab import notebooks
from seaice_lab.surrogate.evaluation import open_forecast, read_evaluation

ROOT = Path(__file__).parents[2]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
SMALL = {"coarsen": 2, "width": 4, "epochs": 2, "steps": 4, "every": 4, "compile": "never"}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """The run folder of the pipeline and its executed notebooks."""
    folder = tmp_path_factory.mktemp("pipeline")
    places = {"store": str(folder / "sample.zarr"), "run": str(folder / "runs" / "demo")}
    return notebooks.pipeline(SMALL | places)


def test_the_pipeline_runs_every_notebook_of_the_project(made):
    _, executed = made
    assert [path.stem for path in executed] == [path.stem for path in NOTEBOOKS]


@pytest.mark.parametrize("number", range(5))
def test_every_executed_notebook_shows_figures_without_errors_or_warnings(made, number):
    _, executed = made
    cells = nbformat.read(executed[number], as_version=4).cells
    outputs = [output for cell in cells for output in cell.get("outputs", [])]
    drawn = [cell for cell in cells if cell.cell_type == "code" and "figure" in cell.source]
    assert drawn
    for cell in drawn:
        assert any("image/png" in output.get("data", {}) for output in cell.outputs), cell.source
    assert not [output for output in outputs if output.output_type == "error"]
    assert not [output.text for output in outputs if output.get("name") == "stderr"]
    assert executed[number].with_suffix(".html").stat().st_size > 10_000


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
    assert notebooks.known_parameters(path)
    assert notebook.metadata.kernelspec.name == "python3"
