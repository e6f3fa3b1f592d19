"""Typed configuration: what every job accepts, checked before anything runs."""

from pathlib import Path
from typing import Self

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from seaice_lab.errors import InputError


class Config(BaseModel):
    """Base of every configuration: unknown keys are refused, values never change afterwards."""

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

        Raises
        ------
        InputError
            If a key is unknown (the known ones are listed) or a value has the wrong type.
        """
        if not isinstance(values, dict):
            raise InputError(
                f"{where}: found {type(values).__name__}, expected 'key: value' pairs out of "
                f"{', '.join(cls.model_fields)}"
            )
        try:
            return cls(**values)
        except ValidationError as error:
            raise InputError(f"{where}: {explain(cls, error)}") from None

    @classmethod
    def read(cls, path) -> Self:
        """Read a YAML file and check it (see :meth:`parse`)."""
        return cls.parse(read_yaml(path), path)

    @classmethod
    def from_yaml(cls, text) -> Self:
        """The inverse of :meth:`to_yaml`."""
        return cls(**yaml.safe_load(text))

    def to_yaml(self) -> str:
        """The configuration as YAML, complete: every default is written out."""
        return yaml.safe_dump(self.model_dump(mode="json"), sort_keys=False, allow_unicode=True)


def read_yaml(path):
    """Read a YAML file of plain values.

    Raises
    ------
    InputError
        If the file is missing, unreadable or not YAML.
    """
    try:
        return yaml.safe_load(Path(path).read_text(encoding="utf-8")) or {}
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); check the path") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        line = getattr(getattr(error, "problem_mark", None), "line", None)
        place = "" if line is None else f" at line {line + 1}"
        raise InputError(f"{path}: is not valid YAML{place}; mend the file") from None


def explain(model, error):
    """Turn the first problem of a pydantic ValidationError into half a sentence."""
    problem = error.errors()[0]
    key = ".".join(str(part) for part in problem["loc"])
    if problem["type"] == "extra_forbidden":
        fields = known_fields(model, problem["loc"][:-1])
        known = f"; the known ones are {', '.join(fields)}" if fields else ""
        return f"unknown key {key!r}{known}"
    if problem["type"] == "missing":
        return f"the key {key!r} is missing; add it"
    message = problem["msg"].removeprefix("Value error, ")
    return f"{key or 'configuration'} is {problem['input']!r}, but: {message}"


def known_fields(model, location):
    """Field names of the (nested) model at a pydantic error location; empty when not a model."""
    for part in location:
        field = model.model_fields.get(part) if isinstance(part, str) else None
        annotation = getattr(field, "annotation", None)
        if not (isinstance(annotation, type) and issubclass(annotation, BaseModel)):
            return ()
        model = annotation
    return tuple(model.model_fields)


def parse_parameters(pairs):
    """Turn texts like ``epochs=3`` into a dict; values are read as YAML.

    Raises
    ------
    InputError
        If a text has no ``=``.
    """
    parameters = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals:
            raise InputError(f"parameter {pair!r}: expected name=value, such as epochs=3")
        parameters[name.strip()] = yaml.safe_load(value)
    return parameters
