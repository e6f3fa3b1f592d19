"""Typed configuration of the jobs, checked before a job starts.

This module and the modules ``settings`` of both systems import neither torch nor xarray, so that a
wrong command line is refused at once.
"""

import os
from pathlib import Path
from typing import Annotated, Literal, Self, get_args

import yaml
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, field_validator

from seaice_lab import parameters
from seaice_lab.errors import InputError


def _path(text):
    """A path as text; ``~`` is the home folder."""
    if not text:
        raise ValueError("expected a path; name one or leave the key out")
    return os.path.expanduser(text)


PathText = Annotated[str, AfterValidator(_path)]
# Names of alternatives, which are no keys.
UNION_TYPES = {"str", "bool", "int", "float", "constrained-float", "Window"}


class _CheckedAsInput(type(BaseModel)):
    """Makes ``TrainConfig(...)`` in Python raise the same InputError as a wrong command line."""

    def __call__(cls, **values):
        return cls.parse(values, cls.__name__)


class Config(BaseModel, metaclass=_CheckedAsInput):
    """Base of all configurations: unknown keys are refused, and values cannot be changed later.

    The text below a setting is its description in ``seaice-lab settings``. A number where text is
    expected becomes text (``run: 2024``); infinity and NaN are refused.
    """

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        coerce_numbers_to_str=True,
        allow_inf_nan=False,
        use_attribute_docstrings=True,
    )

    @field_validator("*", mode="before")
    @classmethod
    def _refuse_bool_as_number(cls, value, info):
        annotation = cls.model_fields[info.field_name].annotation
        if isinstance(value, bool) and bool not in parameters.alternatives(annotation):
            raise ValueError(f"expected {parameters.type_text(annotation)}, not true or false")
        return value

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
        values = self.model_dump(mode="json")
        return yaml.dump(values, Dumper=parameters.Dumper, sort_keys=False, allow_unicode=True)


class FitConfig(Config):
    """How to train; the defaults are the published settings (Durand et al. 2024, train script)."""

    epochs: int = Field(500, ge=1)
    """Passes through the training data."""
    batch_size: int = Field(32, ge=1)
    """Samples in each step."""
    learning_rate: float = Field(5e-5, gt=0)
    """Largest learning rate of the schedule."""
    weight_decay: float = Field(1e-6, ge=0)
    """Fraction of each weight that every step removes; as published, it is not multiplied by the
    learning rate, and a schedule scales both."""
    schedule: Literal["constant", "piecewise", "cosine"] = "piecewise"
    """Learning rate over time. piecewise: multiplied by 0.1 at each of boundaries; cosine: rises
    over warmup_steps and falls to zero at the last epoch."""
    boundaries: tuple[int, ...] = (10_000, 20_000)
    """Steps at which the schedule piecewise lowers the rate."""
    warmup_steps: int = Field(0, ge=0)
    """Steps over which the schedule cosine rises."""
    patience: int = Field(30, ge=1)
    """Epochs without a better validation loss before training stops."""
    max_gradient_norm: float | None = Field(None, gt=0)
    """A larger gradient is scaled down to this norm; null: never."""
    precision: Literal["float32", "bfloat16"] = "float32"
    """Number format of the network; bfloat16 is faster on some GPUs."""
    compile: Literal["auto", "always", "never"] = "never"
    """torch.compile takes half a minute at the start and makes every step faster; auto: use it
    where it can work."""
    averaging: float = Field(0.0, ge=0, lt=1)
    """Decay of an exponential moving average of the weights (0.99: over the last hundred steps),
    which is validated and kept instead of the weights; 0: none."""
    workers: int = Field(0, ge=0)
    """Threads that read a store; 0: one for each processor."""
    seed: int = Field(0, ge=0)
    """Seed of the random numbers."""


class SplitRule(Config):
    """Which times of a dataset belong to a split: those of runs by file name, or a period."""

    files: tuple[str, ...] = ()
    """Globs of the file names of the split."""
    period: tuple[str, str] | None = None
    """First and last date of the split."""


def read_yaml(path):
    """Read a YAML file of keys and values; an empty file gives an empty dict.

    Raises
    ------
    InputError
        If the file is missing, unreadable, not YAML or has no keys.
    """
    try:
        values = parameters.load_yaml(Path(path).read_text(encoding="utf-8")) or {}
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); check the path") from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        line = getattr(getattr(error, "problem_mark", None), "line", None)
        position = "" if line is None else f" at line {line + 1}"
        raise InputError(f"{path}: is not valid YAML{position}; correct the file") from None
    if not isinstance(values, dict):
        raise InputError(
            f"{path}: found {type(values).__name__}, expected 'key: value' pairs; correct the file"
        )
    return values


def explain(model, error):
    """The most helpful problem of a pydantic ValidationError in words; unknown keys come first.

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
    # A wrong value says more than a missing one. Of the alternatives of a union, one whose type is
    # right says more than another one.
    problems = sorted(
        error.errors(), key=lambda each: (each["type"] == "missing", each["type"].endswith("_type"))
    )
    problem = min(problems, key=lambda each: (each["type"] != "extra_forbidden", -len(each["loc"])))
    location, message = problem["loc"], problem["msg"].removeprefix("Value error, ")
    # pydantic appends the name of each type of a union to the location.
    of_union = [each["loc"][-1] for each in problems if location[:-1] == each["loc"][:-1] != ()]
    if len(of_union) > 1 and set(of_union) <= UNION_TYPES:
        location, message = location[:-1], f"expected {' or '.join(of_union)}"
    # Types in a location, such as "str" or "list[int]", are alternatives, not keys.
    keys = [str(name) for name in location if name not in UNION_TYPES and "[" not in str(name)]
    key = ".".join(keys)
    if problem["type"] == "extra_forbidden":
        fields = field_names(model, location[:-1])
        listed = f"; the known ones are {', '.join(fields)}" if fields else ""
        similar = [repr(name) for name in parameters.similar_settings(model, key)]
        return f"unknown key {key!r}{listed}" + (
            f"; did you mean {' or '.join(similar)}?" if similar else ""
        )
    if problem["type"] == "missing":
        return f"the key {key!r} is missing; add it"
    if problem["type"] == "model_type":
        message = f"expected 'key: value' pairs out of {', '.join(field_names(model, location))}"
    if problem["type"] == "tuple_type":
        message = f"expected a list, such as [{problem['input']}]"
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
        models = [kind for kind in (annotation, *get_args(annotation)) if parameters.is_model(kind)]
        if not models:
            return ()
        model = models[0]
    return tuple(model.model_fields)
