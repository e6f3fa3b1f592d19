"""Run notebooks with papermill; names and types of the parameters are checked first."""

import ast
import asyncio
import contextvars
import difflib
import json
import os
import sys
import threading
import time
import warnings
from concurrent.futures import Future
from contextlib import contextmanager
from pathlib import Path

import nbformat
import papermill
from jupyter_client import AsyncKernelManager, BlockingKernelClient
from nbclient.exceptions import DeadKernelError
from nbconvert import HTMLExporter
from papermill.exceptions import PapermillExecutionError

from seaice_lab import catalog, files, progress, runs
from seaice_lab.errors import InputError
from seaice_lab.parameters import list_settings, read_value, replace_values
from seaice_lab.surrogate.settings import ForecastConfig, PrepareConfig, TrainConfig

PIPELINE = ("01_explore", "02_prepare", "03_train", "04_evaluate", "05_spectra")
# A page without the scripts that nbconvert asks from other servers, for formulae and widgets.
PAGE = "{% extends 'index.html.j2' %}" + "".join(
    f"{{% block html_head_js_{name} %}}{{% endblock %}}"
    for name in ("requirejs", "mathjax", "mermaidjs")
)
# Configurations that take parameters of a notebook as settings of the same name.
SETTINGS = {"02_prepare": PrepareConfig, "03_train": TrainConfig, "04_evaluate": ForecastConfig}


def default_parameters(path):
    """Names and default values in the ``parameters`` cell of a notebook, in order.

    Raises
    ------
    InputError
        If the file is not a notebook, or does not have exactly one such cell of plain assignments.
    """
    try:
        notebook = nbformat.read(path, as_version=4)
    except Exception as error:  # nbformat raises many kinds for a damaged file
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        raise InputError(f"{path}: cannot be read as a notebook ({reason}); check it") from None
    cells = [c for c in notebook.cells if "parameters" in c.metadata.get("tags", [])]
    if len(cells) != 1:
        raise InputError(
            f"{path}: has {len(cells)} cells tagged 'parameters', expected one; tag the cell that "
            "assigns the defaults"
        )
    # Parsed as Python, because papermill's own inspection fails if a default text contains "=".
    defaults = {}
    try:
        for node in ast.parse(cells[0].source).body:
            if isinstance(node, ast.Assign | ast.AnnAssign):
                target = node.targets[0] if isinstance(node, ast.Assign) else node.target
                defaults[target.id] = ast.literal_eval(node.value)
    except (SyntaxError, ValueError, TypeError, AttributeError) as error:
        raise InputError(
            f"{path}: the cell of parameters is not understood ({str(error).splitlines()[0]}); "
            "write plain assignments of values, such as epochs: int = 5"
        ) from None
    return defaults


def check_parameters(path, parameters):
    """Refuse unknown names, and values of another type than the default.

    Parameters
    ----------
    path : str or Path
        The notebook.
    parameters : dict

    Returns
    -------
    dict
        The parameters. A number becomes of the type of the default if it is equal, and text if
        the default is text; ``~`` at the beginning of a text is the home folder.

    Raises
    ------
    InputError
        If a name is unknown (the message lists the known ones) or a type is wrong.
    """
    defaults = default_parameters(path)
    _refuse_unknown(parameters, defaults, f"{Path(path).name}: unknown parameter", "known ones are")
    checked = {}
    for name, value in parameters.items():
        default = defaults[name]
        if type(value) in (int, float) and type(default) in (int, float, str):
            same = type(default)(value)
            value = same if isinstance(same, str) or same == value else value
        if isinstance(value, str):
            value = os.path.expanduser(value)
        if default is not None and type(value) is not type(default):
            raise InputError(
                f"{Path(path).name}: parameter {name} is {value!r} ({type(value).__name__}), "
                f"expected {type(default).__name__}, such as the default {default!r}"
            )
        checked[name] = value
    return checked


def check_settings(path, parameters):
    """Refuse values that a job would refuse, before a kernel starts.

    Parameters
    ----------
    path : str or Path
        A notebook of :data:`PIPELINE`.
    parameters : dict
        All parameters of the notebook.

    Raises
    ------
    InputError
        If a setting has no such value, a dataset is not in the catalogue, or the name of the run
        cannot be used.
    """
    model = SETTINGS.get(Path(path).stem)
    if model is not None:
        full = {setting.name.rpartition(".")[2]: setting.name for setting in list_settings(model)}
        values = {full[name]: value for name, value in parameters.items() if name in full}
        # In notebooks, an empty text means the default, and blanks separate start dates.
        texts = {"forcing": lambda text: text or None, "starts": str.split}
        values |= {name: texts[name](values[name]) for name in texts if name in values}
        model.parse(replace_values({}, values), Path(path).name)
    for name in ("dataset", "forcing"):
        if parameters.get(name):
            catalog.find(parameters[name])
    if "run" in parameters:
        runs.check_name(Path(parameters["run"]))


def _refuse_unknown(names, defaults, subject, listing):
    """Refuse names that are not among the parameters, which the message lists."""
    for name in names:
        if name not in defaults:
            listed = ", ".join(f"{name} = {value!r}" for name, value in defaults.items())
            close = difflib.get_close_matches(str(name), defaults, 1, 0.7)
            hint = f"; did you mean {close[0]!r}?" if close else ""
            raise InputError(f"{subject} {name!r}; the {listing} {listed}{hint}")


@contextmanager
def shared_kernel():
    """Context with one kernel for several notebooks, which saves the time to load the modules.

    Yields
    ------
    jupyter_client.AsyncKernelManager
        For :func:`execute`. Each notebook begins without variables.
    """
    kernel = AsyncKernelManager(kernel_name="python3")
    try:
        yield kernel
    finally:
        if kernel.has_kernel:
            _in_thread(asyncio.run, main=kernel.shutdown_kernel(now=True))


def _without_variables(kernel, folder):
    """Delete the variables that the last notebook left in a kernel, and go to a folder."""
    client = BlockingKernelClient()
    client.load_connection_info(kernel.get_connection_info())
    client.start_channels()
    code = f"%reset -f\nimport os\nos.chdir({str(folder)!r})\ndel os"
    reply = client.execute(code, silent=True, reply=True)["content"]
    client.stop_channels()
    if reply["status"] != "ok":
        raise InputError(
            f"{folder}: cannot be the working folder of a notebook ({reply['evalue']}), expected a "
            "folder that exists and can be opened; create it or choose another one"
        )


def execute(path, output, parameters=None, folder=None, kernel=None):
    """Execute a notebook and keep the executed copy, as a notebook and as an HTML page.

    Parameters
    ----------
    path : str or Path
        The notebook.
    output : str or Path
        The executed copy; until it is complete its name ends in ``.failed.ipynb``.
    parameters : dict, optional
        Values that replace the defaults of the ``parameters`` cell.
    folder : str or Path, optional
        Working directory of the notebook; the current one by default.
    kernel : jupyter_client.AsyncKernelManager, optional
        From :func:`shared_kernel`; a new kernel by default.

    Returns
    -------
    Path
        The executed notebook; the page has the same name with the ending ``.html``.

    Raises
    ------
    InputError
        If a parameter is wrong (before anything runs) or a cell fails. The message has the error
        of the cell and the path of the partly executed notebook.
    """
    path, output, folder = Path(path), Path(output), Path(folder or Path.cwd())
    parameters = check_parameters(path, parameters or {})
    output.parent.mkdir(parents=True, exist_ok=True)
    unfinished = output.with_name(f"{output.stem}.failed.ipynb")
    # The kernel inherits these variables. Clusters often set a matplotlib backend for files, with
    # which a notebook shows no figures.
    inline = "module://matplotlib_inline.backend_inline"
    if kernel is not None and kernel.has_kernel:
        _without_variables(kernel, folder)
    try:
        with _environment({progress.BATCH: "1", "MPLBACKEND": inline}):
            _in_thread(
                papermill.execute_notebook,
                input_path=path,
                output_path=unfinished,
                parameters=parameters,
                kernel_name="python3",
                cwd=folder,
                progress_bar=False,
                stdout_file=sys.stdout,
                extra_arguments=["--log-level=ERROR"],
                km=kernel,
            )
    except PapermillExecutionError as error:
        cause = error.evalue if error.ename == "InputError" else f"{error.ename}: {error.evalue}"
        raise InputError(f"{path.name}: {cause} (executed so far: {unfinished})") from None
    except DeadKernelError:
        raise InputError(
            f"{path.name}: the kernel died, most often for lack of memory (executed so far: "
            f"{unfinished}); use a smaller batch or grid, or a larger machine"
        ) from None
    with files.disk_errors(output):
        unfinished.replace(output)
        exporter = HTMLExporter(
            raw_template=PAGE, exclude_input_prompt=True, exclude_output_prompt=True
        )
        with warnings.catch_warnings():
            # Interactive figures leave an empty output, which a page needs not show.
            warnings.filterwarnings("ignore", "Your element with mimetype", UserWarning)
            page, _ = exporter.from_filename(str(output))
        files.write_text(output.with_suffix(".html"), page)
    return output


def _in_thread(function, **arguments):
    """Result of a call in a thread, which Ctrl-C does not wait for.

    In the main thread nbclient would take the signal of Ctrl-C for itself. The kernel ends when it
    finds that this process is gone.
    """
    result = Future()

    def work():
        try:
            result.set_result(function(**arguments))
        except BaseException as error:  # raised again in the caller's thread
            result.set_exception(error)

    threading.Thread(target=contextvars.copy_context().run, args=(work,), daemon=True).start()
    return result.result()


@contextmanager
def _environment(variables):
    """Context in which environment variables have these values."""
    before = dict(os.environ)
    os.environ.update(variables)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def was_executed(output, parameters):
    """Whether an executed copy exists and has these parameters.

    Parameters
    ----------
    output : str or Path
        From :func:`execute`.
    parameters : dict
        Values that replace defaults.

    Returns
    -------
    bool
    """
    output = Path(output)
    if not output.exists():
        return False
    recorded = nbformat.read(output, as_version=4).metadata.get("papermill", {})
    # Compared in the form in which they are read from a file: tuples are lists there.
    return recorded.get("parameters") == json.loads(json.dumps(parameters))


def notebook_folder():
    """The folder ``notebooks/`` of the working directory, or else of the checkout.

    Raises
    ------
    InputError
        If both do not exist.
    """
    for folder in (Path("notebooks"), Path(__file__).parents[1] / "notebooks"):
        if (folder / f"{PIPELINE[0]}.ipynb").exists():
            return folder
    raise InputError(
        "the notebooks are not here; run the command in the folder of the project, which contains "
        "notebooks/"
    )


def pipeline(values, texts=None):
    """Execute the notebooks of the surrogate in order; the copies are in ``<run>/notebooks``.

    Parameters
    ----------
    values : dict
        Parameters. Each notebook gets those that it has in its ``parameters`` cell.
    texts : dict of str to str, optional
        More parameters as text. If the default is text, it is taken as it stands; other values
        are read as YAML.

    Returns
    -------
    run : Path
        The run folder.
    executed : list of Path
        The executed notebooks.

    Raises
    ------
    InputError
        If no notebook has a parameter of that name or a type is wrong (before anything runs), or
        if a cell fails.
    """
    defaults_of = {
        path: default_parameters(path)
        for path in (notebook_folder() / f"{name}.ipynb" for name in PIPELINE)
    }
    defaults = {name: value for cell in defaults_of.values() for name, value in cell.items()}
    _refuse_unknown([*values, *(texts or {})], defaults, "unknown parameter", "notebooks know")
    for name, text in (texts or {}).items():
        values = values | {name: read_value(name, text, type(defaults[name]))}
    parameters = {
        path: check_parameters(path, {name: values[name] for name in cell if name in values})
        for path, cell in defaults_of.items()
    }
    for path, cell in defaults_of.items():
        check_settings(path, cell | parameters[path])
    paths = list(defaults_of)
    given = {name: value for cell in parameters.values() for name, value in cell.items()}
    run = Path(given.get("run", defaults["run"]))
    executed = [run / "notebooks" / path.name for path in paths]
    with shared_kernel() as kernel:
        for number, (path, output) in enumerate(zip(paths, executed, strict=True), 1):
            began, label = time.perf_counter(), f"[{number}/{len(paths)}] {path.stem}"
            print(label, flush=True)
            execute(path, output, parameters[path], kernel=kernel)
            print(f"{label} took {time.perf_counter() - began:.0f} s")
    return run, executed
