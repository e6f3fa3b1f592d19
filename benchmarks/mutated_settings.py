"""Mutated settings: YAML files and arguments of every job, and parameters of the notebooks.

A mutation returns ``(arguments, name, truth, result)``: the result is what an accepted mutation
must give.
"""

import json
from pathlib import Path

import numpy as np
import yaml
from mutated_inputs import EQUAL, REFUSED, pick

from seaice_lab import notebooks
from seaice_lab.config import read_yaml
from seaice_lab.options import JOBS, config_class, configuration
from seaice_lab.parameters import split_parameters

FILE = "job.yaml"
# Valid values of each job.
VALID = {
    "prepare": {"state": "moorings", "coarsen": 2, "crop": [0, 8, 0, 8], "allow_gaps": True},
    "train": {"store": "s.zarr", "width": 8, "network": "UNet2", "global_mean_weight": 1e-3,
              "fit": {"epochs": 3, "learning_rate": 5e-5, "schedule": "cosine"}},
    "forecast": {"steps": 4, "starts": ["2021-03-01T00"], "perturbation": 0.25},
    "emissivity simulate": {"size": 24, "days": 3, "sensors": ["amsr2"], "observations": [900]},
    "emissivity train": {"data": "d", "model": {"version": 2, "width": 5}, "method": "adam",
                         "fit": {"epochs": 2}, "hold_out_share": 0.125},
    "emissivity infer": {"data": "d", "trained": "runs/a", "solve": {"state_steps": 2}},
}  # fmt: skip
assert VALID.keys() == JOBS.keys()
PARAMETERS = {"dataset": "moorings", "run": "runs/a", "epochs": 2, "width": 8,
              "learning_rate": 1e-3, "steps": 4,
              "transport": False, "network": "UNet2"}  # fmt: skip


def leaves(values, prefix=""):
    """Names and values of nested settings."""
    for name, value in values.items():
        if isinstance(value, dict):
            yield from leaves(value, f"{prefix}{name}.")
        else:
            yield prefix + name, value


def written(value, rng):
    """A value in one of its usual forms on the command line."""
    if isinstance(value, bool):
        return pick(rng, *(("true", "True", "TRUE") if value else ("false", "False", "FALSE")))
    if isinstance(value, int):
        return pick(rng, str(value), f"{value}.0", f"+{value}", f"{value}e0")
    if isinstance(value, float):
        return pick(rng, repr(value), f"{value:.6e}", f"{value:.6E}", f"{value:.12f}")
    if isinstance(value, list):
        return pick(rng, json.dumps(value), yaml.safe_dump(value, default_flow_style=True).strip())
    return pick(rng, value, f'"{value}"', f"'{value}'")


def settings_in_file(rng):
    """A YAML file with valid settings in another form."""
    job = pick(rng, *VALID)
    values = dict(sorted(VALID[job].items(), reverse=rng.random() < 0.5))
    flow = pick(rng, None, True, False)
    text = pick(rng, "", "# a comment\n", "---\n", "\ufeff") + yaml.safe_dump(
        values, default_flow_style=flow, sort_keys=False, indent=int(rng.integers(2, 6))
    )
    Path(FILE).write_text(text.replace("\n", pick(rng, "\n", "\r\n")), encoding="utf-8")
    return (job, FILE, []), FILE, EQUAL, VALID[job]


def settings_as_arguments(rng):
    """Valid settings as arguments, with their whole or their last name."""
    job = pick(rng, *VALID)
    pairs = []
    for name, value in leaves(VALID[job]):
        last = name.rpartition(".")[2]
        short = last in ("epochs", "learning_rate", "schedule", "version", "state_steps")
        name = pick(rng, name, last) if short else name
        pairs.append(f"{name}{pick(rng, '=', ' = ')}{written(value, rng)}")
    return (job, None, list(rng.permutation(pairs))), "parameter", EQUAL, VALID[job]


def wrong_settings(rng):
    """One wrong setting: a misspelt name, another type, or a value out of its range."""
    job = pick(rng, *VALID)
    name, value = pick(rng, *leaves(VALID[job]))
    kind = pick(rng, "name", "type", "range")
    if kind == "range" and isinstance(value, int | float) and not isinstance(value, bool):
        value = -3
    elif kind == "type" or kind == "range":
        # Where text is expected, a number would do.
        value = {"a": 1} if isinstance(value, str) else [["x"]]
    else:
        name += "s"
    is_text = isinstance(value, dict)  # an argument is taken as text where text is expected
    if rng.random() < 0.5 and not is_text:
        pairs = [f"{key}={json.dumps(one)}" for key, one in leaves(VALID[job]) if key != name]
        return (job, None, [*pairs, f"{name}={json.dumps(value)}"]), name, REFUSED, None
    values = json.loads(json.dumps(VALID[job]))
    group = values
    *groups, last = name.split(".")
    for key in groups:
        group = group[key]
    group[last] = value
    Path(FILE).write_text(yaml.safe_dump(values))
    return (job, FILE, []), (FILE, name), REFUSED, None


def damaged_settings(rng):
    """A YAML file that is no mapping, or whose text is damaged."""
    job = pick(rng, *VALID)
    text = yaml.safe_dump(VALID[job], sort_keys=False)
    content = pick(
        rng,
        b"- a\n- b\n",
        b"7",
        b"text",
        b"\xff\xfe\x00",
        text.encode() + b"x: [1, 2",
        text.encode() + b"\tx: 1",
        text.encode() + b"*a : 1",
        b"a: " + b"[" * 5000,
        text.encode()[:4] + b"\x00" + text.encode()[4:],
    )
    Path(FILE).write_bytes(content)
    return (job, pick(rng, FILE, FILE, FILE, "none.yaml", "."), []), (FILE, "none.yaml", ".: "), (
        REFUSED
    ), None  # fmt: skip


def read_settings(job, file, pairs):
    """The complete settings that a job would use, as an array of their text."""
    return {"settings": np.array(configuration(job, file, pairs).to_yaml())}


def expected_settings(job, values):
    """The same from Python."""
    return {"settings": np.array(config_class(job)(**values).to_yaml())}


def notebook_parameters(rng):
    """Valid parameters of the notebooks, as arguments or in a file."""
    if rng.random() < 0.5:
        Path(FILE).write_text(yaml.safe_dump(PARAMETERS))
        return (FILE, []), FILE, EQUAL, PARAMETERS
    pairs = [f"{name}={written(value, rng)}" for name, value in PARAMETERS.items()]
    return (None, pairs), "parameter", EQUAL, PARAMETERS


def wrong_notebook_parameters(rng):
    """One wrong parameter of the notebooks: name, type, value, or form."""
    name, text = pick(
        rng,
        ("epoch", "2"),
        ("fit.epochs", "2"),
        ("", "2"),
        ("epochs", "two"),
        ("epochs", "2.5"),
        ("epochs", "[2]"),
        ("epochs", "0"),
        ("width", "-1"),
        ("width", "{a"),
        ("learning_rate", "fast"),
        ("learning_rate", "0"),
        ("learning_rate", "nan"),
        ("averaging", "1.5"),
        ("transport", "maybe"),
        ("transport", "1"),
        ("schedule", "cosin"),
        ("precision", "float16"),
        ("symmetry", "half_turns"),
        ("compile", "yes"),
        ("network", "UNet9"),
        ("window", "none"),
        ("dataset", "none"),
        ("forcing", "none"),
        ("coarsen", "0"),
        ("steps", "0"),
        ("every", "-2"),
        ("split", "tset"),
        ("seed", "-1"),
        ("run", "runs/a,b"),
    )
    # In a file, yaml.safe_dump of the text would be quoted text; the pair is the same in YAML.
    others = {} if name == "dataset" else {"dataset": "moorings"}
    if rng.random() < 0.5 and name and "{" not in text:
        Path(FILE).write_text(f"{name}: {text}\n" + "".join(f"{k}: {v}" for k, v in others.items()))
        return (FILE, []), (name, FILE), REFUSED, None
    pairs = [f"{name}={text}", *(f"{key}={value}" for key, value in others.items())]
    return (None, pairs), (name or "parameter"), REFUSED, None


def read_notebooks(file, pairs):
    """The parameters with which the notebooks would be executed; no kernel starts."""
    given = {}

    def collect(_path, output, parameters, **_kernel):
        given.update(parameters)
        return output

    notebooks.execute = collect
    notebooks.pipeline({} if file is None else read_yaml(file), split_parameters(pairs))
    return {name: np.array(value) for name, value in given.items()}


def expected_notebooks(values):
    """The same values."""
    return {name: np.array(value) for name, value in values.items()}


SETTINGS = (settings_in_file, settings_as_arguments, wrong_settings, wrong_settings,
            damaged_settings)  # fmt: skip
NOTEBOOKS = (notebook_parameters, wrong_notebook_parameters, wrong_notebook_parameters)
