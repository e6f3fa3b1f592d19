"""Typed configuration of the jobs, checked before a job starts."""

import copy
from pathlib import Path
from typing import Literal, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from seaice_lab.errors import InputError


class Config(BaseModel):
    """Base of all configurations: unknown keys are refused, and values cannot be changed later."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    @classmethod
    def parse(cls, values, where) -> Self:
        """Check a mapping against the configuration.

        Parameters
        ----------
        values : dict
            Keys and values, as read from YAML or given on the command line.
        where : str or Path
            File or argument to name in the message.

        Returns
        -------
        Config

        Raises
        ------
        InputError
            If a key is unknown (the message lists the known ones) or a value has the wrong type.
        """
        try:
            return cls.model_validate(values)
        except ValidationError as error:
            raise InputError(f"{where}: {explain(cls, error)}") from None

    @classmethod
    def read(cls, path) -> Self:
        """Read a YAML file and check it as :meth:`parse` does."""
        return cls.parse(read_yaml(path), path)

    def to_yaml(self) -> str:
        """The complete configuration as YAML, with all defaults."""
        return yaml.safe_dump(self.model_dump(mode="json"), sort_keys=False, allow_unicode=True)


class FitConfig(Config):
    """How to train; the defaults are the published settings (Durand et al. 2024, train script).

    ``weight_decay`` is the share of each weight removed at every step (as published, not
    multiplied by the learning rate; a schedule scales both). ``schedule`` "piecewise" multiplies
    the learning rate by 0.1 at each of ``boundaries`` (steps), "cosine" warms up over
    ``warmup_steps`` and falls to zero at the last epoch. ``patience`` is the number of epochs
    without a better validation loss after which training stops. ``workers`` processes load the
    batches; with 0 a thread does. ``compile`` "auto" uses torch.compile where it can work (see
    :func:`seaice_lab.compute.can_compile`), which takes half a minute at the start and makes every
    step faster.
    ``averaging`` is the decay of an exponential moving average of the weights (0.99: over the last
    hundred steps), which is validated and kept instead of the weights; 0 switches it off.
    """

    epochs: int = Field(500, ge=1)
    batch_size: int = Field(32, ge=1)
    learning_rate: float = Field(5e-5, gt=0)
    weight_decay: float = 1e-6
    schedule: Literal["constant", "piecewise", "cosine"] = "piecewise"
    boundaries: tuple[int, ...] = (10_000, 20_000)
    warmup_steps: int = 0
    patience: int = Field(30, ge=1)
    max_gradient_norm: float | None = None
    precision: Literal["float32", "bfloat16"] = "float32"
    compile: Literal["auto", "always", "never"] = "never"
    averaging: float = 0.0
    workers: int = 0
    seed: int = 0


def read_yaml(path):
    """Read a YAML file of keys and values; an empty file gives an empty dict.

    Raises
    ------
    InputError
        If the file is missing, unreadable, not YAML or has no keys.
    """
    try:
        values = yaml.safe_load(Path(path).read_text(encoding="utf-8")) or {}
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); check the path") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        line = getattr(getattr(error, "problem_mark", None), "line", None)
        position = "" if line is None else f" at line {line + 1}"
        raise InputError(f"{path}: is not valid YAML{position}; correct the file") from None
    if not isinstance(values, dict):
        raise InputError(
            f"{path}: found {type(values).__name__}, expected 'key: value' pairs; correct the file"
        )
    return values


def explain(model, error):
    """The first problem of a pydantic ValidationError in words.

    Parameters
    ----------
    model : type of pydantic.BaseModel
        The model that was validated.
    error : pydantic.ValidationError

    Returns
    -------
    str
        Half a sentence, without the file or argument.
    """
    problem = error.errors()[0]
    location, message = problem["loc"], problem["msg"].removeprefix("Value error, ")
    key = ".".join(map(str, location))
    if problem["type"] == "extra_forbidden":
        fields = field_names(model, location[:-1])
        listed = f"; the known ones are {', '.join(fields)}" if fields else ""
        return f"unknown key {key!r}{listed}"
    if problem["type"] == "missing":
        return f"the key {key!r} is missing; add it"
    if problem["type"] == "model_type":
        message = f"expected 'key: value' pairs out of {', '.join(field_names(model, location))}"
    return f"{key or 'configuration'} is {problem['input']!r}, but: {message}"


def field_names(model, location):
    """Field names of the nested model at the location of a pydantic error.

    Parameters
    ----------
    model : type of pydantic.BaseModel
    location : tuple of str or int
        Keys that lead to the nested model.

    Returns
    -------
    tuple of str
        Empty if there is no model at the location.
    """
    for key in location:
        field = model.model_fields.get(key) if isinstance(key, str) else None
        annotation = getattr(field, "annotation", None)
        if not (isinstance(annotation, type) and issubclass(annotation, BaseModel)):
            return ()
        model = annotation
    return tuple(model.model_fields)


def parse_parameters(pairs):
    """Dict of texts such as ``epochs=3``; values are read as YAML.

    Raises
    ------
    InputError
        If a text has no ``=`` or its value is not YAML.
    """
    parameters = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals:
            raise InputError(f"parameter {pair!r}: expected name=value, such as epochs=3")
        try:
            parameters[name.strip()] = yaml.safe_load(value)
        except yaml.YAMLError:
            raise InputError(f"parameter {pair!r}: the value is not valid YAML; quote it") from None
    return parameters


def replace_values(values, parameters):
    """A copy of nested dicts in which single values are replaced.

    Parameters
    ----------
    values : dict
    parameters : dict
        Values by name; a dot in a name reaches into a group, as in ``fit.epochs``. A value that is
        a dict replaces the whole group.

    Returns
    -------
    dict
    """
    values = copy.deepcopy(values)
    for name, value in parameters.items():
        *groups, key = name.split(".")
        group = values
        for group_name in groups:
            if not isinstance(group.get(group_name), dict):
                group[group_name] = {}
            group = group[group_name]
        group[key] = value
    return values


def merge(values, changes):
    """A copy of nested dicts with changes.

    Parameters
    ----------
    values, changes : dict
        A value of ``changes`` replaces that of ``values``, except that two dicts are merged.

    Returns
    -------
    dict
    """
    merged = dict(values)
    for name, value in changes.items():
        both = isinstance(value, dict) and isinstance(merged.get(name), dict)
        merged[name] = merge(merged[name], value) if both else value
    return merged
