"""Running notebooks with papermill: parameters checked by name and type before anything starts."""

import ast
import json
import os
import sys
import time
from pathlib import Path

import nbformat
import papermill
from nbclient.exceptions import DeadKernelError
from nbconvert import HTMLExporter
from papermill.exceptions import PapermillExecutionError

from seaice_lab import files, progress
from seaice_lab.errors import InputError

KERNEL = "python3"
PIPELINE = ("01_explore", "02_prepare", "03_train", "04_evaluate", "05_spectra")


def known_parameters(path):
    """Names and default values of a notebook's ``parameters`` cell, in order.

    Raises
    ------
    InputError
        If the file is no notebook or has no such cell.
    """
    try:
        notebook = nbformat.read(path, as_version=4)
    except (OSError, ValueError) as error:
        raise InputError(
            f"{path}: cannot be read as a notebook ({error}); check the path"
        ) from None
    cells = [c for c in notebook.cells if "parameters" in c.metadata.get("tags", [])]
    if len(cells) != 1:
        raise InputError(
            f"{path}: has {len(cells)} cells tagged 'parameters', expected one; tag the cell that "
            "assigns the defaults"
        )
    # Read as syntax: papermill's own inspection stumbles over '=' within a default string.
    statements = ast.parse(cells[0].source).body
    return {
        statement.targets[0].id: ast.literal_eval(statement.value)
        for statement in statements
        if isinstance(statement, ast.Assign)
    }


def check_parameters(path, parameters):
    """Refuse unknown names and values of another type than the default.

    Parameters
    ----------
    path : str or Path
        The notebook.
    parameters : dict

    Returns
    -------
    dict
        The parameters; whole numbers stand in for floats where the default is one.

    Raises
    ------
    InputError
        If a name is unknown (the known ones are listed with their defaults) or a type is wrong.
    """
    known = known_parameters(path)
    checked = {}
    for name, value in parameters.items():
        if name not in known:
            listed = ", ".join(f"{key} = {default!r}" for key, default in known.items())
            raise InputError(
                f"{Path(path).name}: unknown parameter {name!r}; the known ones are {listed}"
            )
        default = known[name]
        if isinstance(default, float) and type(value) is int:
            value = float(value)
        if default is not None and type(value) is not type(default):
            raise InputError(
                f"{Path(path).name}: parameter {name} is {value!r} ({type(value).__name__}), "
                f"expected {type(default).__name__}, such as the default {default!r}"
            )
        checked[name] = value
    return checked


def execute(path, output, parameters=None, folder=None):
    """Execute a notebook and keep the executed copy, as notebook and as HTML page.

    Parameters
    ----------
    path : str or Path
        The notebook.
    output : str or Path
        Where the executed copy goes; it is written under a temporary name first.
    parameters : dict, optional
        Values that replace the defaults of the ``parameters`` cell.
    folder : str or Path, optional
        Working directory of the notebook; the present one by default.

    Returns
    -------
    Path
        The executed notebook; the page lies beside it with the ending ``.html``.

    Raises
    ------
    InputError
        If a parameter is wrong (before anything runs) or a cell fails: the sentence of the
        failing cell, and where the partly executed notebook is.
    """
    path, output = Path(path), Path(output)
    parameters = check_parameters(path, parameters or {})
    output.parent.mkdir(parents=True, exist_ok=True)
    unfinished = output.with_name(f"{output.stem}.failed.ipynb")
    # A kernel inherits both; with a backend for files (as clusters often set) no figure would show.
    inherited = {progress.BATCH: "1", "MPLBACKEND": "module://matplotlib_inline.backend_inline"}
    before = {name: os.environ.get(name) for name in inherited}
    os.environ.update(inherited)
    try:
        papermill.execute_notebook(
            str(path), str(unfinished), parameters=parameters, kernel_name=KERNEL,
            cwd=str(folder or Path.cwd()), progress_bar=False, stdout_file=sys.stdout,
            extra_arguments=["--log-level=ERROR"],
        )  # fmt: skip
    except PapermillExecutionError as error:
        cause = error.evalue if error.ename == "InputError" else f"{error.ename}: {error.evalue}"
        raise InputError(f"{path.name}: {cause} (executed so far: {unfinished})") from None
    except DeadKernelError:
        raise InputError(
            f"{path.name}: the kernel died, most often for lack of memory (executed so far: "
            f"{unfinished}); use a smaller batch or grid, or a larger machine"
        ) from None
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
    with files.disk_errors(output):
        unfinished.replace(output)
        page, _ = HTMLExporter(exclude_input_prompt=True, exclude_output_prompt=True).from_filename(
            str(output)
        )
        files.write_text(output.with_suffix(".html"), page)
    return output


def was_executed(output, parameters):
    """Whether this executed copy is there and was made with these parameters.

    Parameters
    ----------
    output : str or Path
        From :func:`execute`.
    parameters : dict
        Values that replaced defaults.
    """
    output = Path(output)
    if not output.exists():
        return False
    recorded = nbformat.read(output, as_version=4).metadata.get("papermill", {})
    # as they come back from a file: tuples as lists
    return recorded.get("parameters") == json.loads(json.dumps(parameters))


def notebook_folder():
    """The folder of the notebooks: ``notebooks/`` here, else the one beside the package.

    Raises
    ------
    InputError
        If there is neither.
    """
    for folder in (Path("notebooks"), Path(__file__).parents[1] / "notebooks"):
        if (folder / f"{PIPELINE[0]}.ipynb").exists():
            return folder
    raise InputError(
        "the notebooks are not here; run the command in the project's folder, where notebooks/ is"
    )


def pipeline(values):
    """Execute the notebooks of the surrogate in order, into ``<run>/notebooks``.

    Parameters
    ----------
    values : dict
        Each goes to every notebook with a parameter of that name.

    Returns
    -------
    run : Path
        The run folder.
    executed : list of Path

    Raises
    ------
    InputError
        If no notebook knows a name, a type is wrong (both before anything runs), or a cell fails.
    """
    paths = [notebook_folder() / f"{name}.ipynb" for name in PIPELINE]
    known = {path: known_parameters(path) for path in paths}
    everything = {name: value for defaults in known.values() for name, value in defaults.items()}
    for name in values:
        if name not in everything:
            listed = ", ".join(f"{key} = {default!r}" for key, default in everything.items())
            raise InputError(f"unknown parameter {name!r}; the notebooks know {listed}")
    chosen = {
        path: check_parameters(path, {name: values[name] for name in defaults if name in values})
        for path, defaults in known.items()
    }
    run = Path(values.get("run", everything["run"]))
    executed = []
    for number, path in enumerate(paths, 1):
        began = time.perf_counter()
        print(f"[{number}/{len(paths)}] {path.stem}", flush=True)
        executed.append(execute(path, run / "notebooks" / path.name, chosen[path]))
        print(f"[{number}/{len(paths)}] {path.stem} took {time.perf_counter() - began:.0f} s")
    return run, executed
