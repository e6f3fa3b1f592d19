"""The notebook runner: parameters are checked by name and type before anything starts."""

from pathlib import Path

import nbformat
import papermill
import pytest

from seaice_lab import notebooks, runs
from seaice_lab.errors import InputError

PARAMETERS = 'run = "runs/a=b"  # folder\nsteps = 3\nrate = 0.5\nflag = False\nlimit = None'


def write(path, *sources, parameters=PARAMETERS):
    cells = [nbformat.v4.new_code_cell(parameters, metadata={"tags": ["parameters"]})]
    cells += [nbformat.v4.new_code_cell(source) for source in sources]
    kernel = {
        "kernelspec": {"name": "somebodys-machine", "display_name": "x", "language": "python"}
    }
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata=kernel), path)
    return path


def test_default_parameters_are_read_with_their_defaults(tmp_path):
    path = write(tmp_path / "n.ipynb")
    assert notebooks.default_parameters(path) == {
        "run": "runs/a=b",
        "steps": 3,
        "rate": 0.5,
        "flag": False,
        "limit": None,
    }


def test_an_unknown_parameter_is_refused_before_anything_runs_with_the_known_ones(tmp_path):
    path = write(tmp_path / "n.ipynb", f"open({str(tmp_path / 'ran')!r}, 'w')")
    with pytest.raises(InputError, match=r"n.ipynb: unknown parameter 'stpes'; .* steps = 3"):
        notebooks.execute(path, tmp_path / "out.ipynb", {"stpes": 5})
    assert not (tmp_path / "ran").exists()
    assert not (tmp_path / "out.ipynb").exists()


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        ({"steps": "many"}, "str"),
        ({"steps": 1.5}, "float"),
        ({"flag": 1}, "int"),
        ({"rate": "0.5"}, "str"),
        ({"steps": True}, "bool"),
    ],
)
def test_a_value_of_another_type_is_refused(tmp_path, value, kind):
    path = write(tmp_path / "n.ipynb")
    with pytest.raises(InputError, match=rf"\({kind}\), expected (int|bool|float), such as"):
        notebooks.check_parameters(path, value)


def test_integers_become_floats_and_a_default_of_none_takes_any_value(tmp_path):
    path = write(tmp_path / "n.ipynb")
    checked = notebooks.check_parameters(path, {"rate": 2, "limit": [1, 2]})
    assert checked == {"rate": 2.0, "limit": [1, 2]}
    assert isinstance(checked["rate"], float)


def test_execution_replaces_the_defaults_and_keeps_notebook_and_page(tmp_path, capfd):
    path = write(tmp_path / "n.ipynb", "print('steps', steps * 2)", "import os; os.getcwd()")
    out = notebooks.execute(path, tmp_path / "deep" / "out.ipynb", {"steps": 21}, folder=tmp_path)
    executed = nbformat.read(out, as_version=4)
    outputs = [cell.outputs for cell in executed.cells if cell.cell_type == "code" and cell.outputs]
    assert outputs[0][0].text == "steps 42\n"
    assert str(tmp_path) in outputs[1][0].data["text/plain"]
    page = (tmp_path / "deep" / "out.html").read_text()
    assert "steps 42" in page
    assert 'src="http' not in page and "import(" not in page  # works without the internet
    assert "steps 42" in capfd.readouterr().out
    assert sorted(p.name for p in (tmp_path / "deep").iterdir()) == ["out.html", "out.ipynb"]


def test_wrong_input_inside_a_notebook_is_reported_in_one_sentence(tmp_path):
    raises = "from seaice_lab.errors import InputError\nraise InputError('the store is missing')"
    path = write(tmp_path / "n.ipynb", raises)
    with pytest.raises(InputError, match=r"n.ipynb: the store is missing \(executed so"):
        notebooks.execute(path, tmp_path / "out.ipynb")
    assert not (tmp_path / "out.ipynb").exists()
    assert (tmp_path / "out.failed.ipynb").exists()


def test_a_kernel_that_dies_is_reported_and_the_finished_cells_are_kept(tmp_path):
    path = write(tmp_path / "n.ipynb", "print('first')", "import os; os._exit(1)")
    with pytest.raises(InputError, match="n.ipynb: the kernel died"):
        notebooks.execute(path, tmp_path / "out.ipynb")
    assert "first" in (tmp_path / "out.failed.ipynb").read_text()


def test_files_that_are_no_notebooks_or_have_no_parameters_are_refused(tmp_path):
    (tmp_path / "n.ipynb").write_text("not json")
    with pytest.raises(InputError, match="n.ipynb: cannot be read as a notebook"):
        notebooks.default_parameters(tmp_path / "n.ipynb")
    nbformat.write(nbformat.v4.new_notebook(), tmp_path / "m.ipynb")
    with pytest.raises(InputError, match="m.ipynb: has 0 cells tagged 'parameters', expected one"):
        notebooks.default_parameters(tmp_path / "m.ipynb")


def test_the_pipeline_refuses_a_value_that_no_notebook_knows():
    message = "unknown parameter 'epcohs'; .* know .*; did you mean 'epochs'"
    with pytest.raises(InputError, match=message):
        notebooks.pipeline({"epcohs": 1})
    with pytest.raises(InputError, match=message):
        notebooks.pipeline({}, {"epcohs": "1"})


def test_a_text_is_read_as_the_type_of_the_default_says(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", "/home/ana")
    path = write(tmp_path / "n.ipynb", parameters="a: str = ''  # x\nb: int = 1\nc: float = 0.5")
    defaults = notebooks.default_parameters(path)
    assert defaults == {"a": "", "b": 1, "c": 0.5}

    def checked(**values):
        return notebooks.check_parameters(path, values)

    assert checked(b=5.0, c=2, a=7) == {"b": 5, "c": 2.0, "a": "7"}
    assert isinstance(checked(b=5.0)["b"], int)
    assert checked(a="~/runs/x") == {"a": "/home/ana/runs/x"}
    with pytest.raises(InputError, match=r"b is 5.5 \(float\), expected int"):
        checked(b=5.5)


@pytest.mark.parametrize(
    "cell", ["a = (", "a = b", "a, b = 1, 2", "a.b = 1", "a: int", "a = [1] * 3", "a = -'x'"]
)
def test_a_cell_of_parameters_that_is_no_list_of_values_is_refused(tmp_path, cell):
    path = write(tmp_path / "n.ipynb", parameters=cell)
    with pytest.raises(InputError, match="n.ipynb: the cell of parameters is not understood"):
        notebooks.default_parameters(path)


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", "null", '{"nbformat": 4}', '{"nbformat": "x", "cells": 3}', "\0"]
)
def test_a_damaged_notebook_is_refused(tmp_path, text):
    (tmp_path / "n.ipynb").write_text(text)
    with pytest.raises(InputError, match="n.ipynb: "):
        notebooks.default_parameters(tmp_path / "n.ipynb")


@pytest.mark.parametrize("text", ["1e-3", "5e-05", "1E-3", "2"])
def test_the_pipeline_takes_numbers_in_every_usual_form(text, tmp_path, monkeypatch):
    taken = {}

    def record(path, output, parameters, kernel):
        taken.update(parameters)
        return output

    monkeypatch.setattr(notebooks, "execute", record)
    texts = {"learning_rate": text, "epochs": "5.0", "run": "007", "transport": "false"}
    run, _ = notebooks.pipeline({"store": "x"}, texts)
    assert taken["learning_rate"] == float(text)
    assert taken["epochs"] == 5 and isinstance(taken["epochs"], int)
    assert (str(run), taken["run"], taken["transport"]) == ("007", "007", False)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("epochs", "0", "03_train.ipynb: fit.epochs is 0, but: .*greater than or equal to 1"),
        ("averaging", "1.5", "03_train.ipynb: fit.averaging is 1.5"),
        ("network", "UNet9", "03_train.ipynb: network is 'UNet9', but: .*'UNet2'"),
        ("window", "none", "window is 'none', but: unknown window 'none'; the named windows are"),
        ("coarsen", "0", "02_prepare.ipynb: coarsen is 0"),
        ("split", "tset", "04_evaluate.ipynb: split is 'tset', but: .*'validation'"),
        ("steps", "-1", "04_evaluate.ipynb: steps is -1"),
        ("dataset", "none", "dataset 'none' is not in the catalogue; it has"),
        ("forcing", "none", "dataset 'none' is not in the catalogue; it has"),
        ("run", "runs/a,b", "runs/a,b: has a comma in its name"),
    ],
)
def test_the_pipeline_refuses_wrong_values_before_a_kernel_starts(name, text, message, capsys):
    with pytest.raises(InputError, match=message):
        notebooks.pipeline({}, {name: text})
    assert "[1/5]" not in capsys.readouterr().out


NOTEBOOKS = sorted((Path(__file__).parents[1] / "notebooks").glob("*.ipynb"))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_papermill_lists_every_parameter_with_its_type_and_meaning(path):
    listed = papermill.inspect_notebook(path)
    defaults = notebooks.default_parameters(path)
    assert list(listed) == list(defaults)
    for name, parameter in listed.items():
        assert parameter["inferred_type_name"] == type(defaults[name]).__name__
        assert parameter["help"] or isinstance(defaults[name], dict)


def test_the_notebooks_of_the_pipeline_share_names_of_one_meaning_only():
    shared = {}
    for name in notebooks.PIPELINE:
        defaults = notebooks.default_parameters(notebooks.notebook_folder() / f"{name}.ipynb")
        for parameter, value in defaults.items():
            assert shared.setdefault(parameter, value) == value, parameter


def test_a_notebook_that_is_started_in_its_folder_works_in_the_project(tmp_path, monkeypatch):
    (tmp_path / "notebooks").mkdir()
    for folder, project in (("notebooks", False), (".", False), ("notebooks", True), (".", True)):
        if project:
            (tmp_path / "data_catalog.yaml").touch()
        monkeypatch.chdir(tmp_path / folder)
        runs.work_in_project()
        assert Path.cwd() == (tmp_path if project else tmp_path / folder)
