"""Settings as text: the names, types and defaults of a configuration, and values given as text."""

import copy
import difflib
import json
import re
import types
from typing import Annotated, Any, Literal, NamedTuple, Union, get_args, get_origin

import yaml
from pydantic import BaseModel

from seaice_lab.errors import InputError


class Loader(yaml.SafeLoader):
    """YAML 1.2 as people expect it: 1e-3 is a number; 007, 12:30, no and dates are text."""


class Dumper(yaml.SafeDumper):
    """Quotes all text that a reader of YAML 1.1 or 1.2 would take for a number, date or bool."""


Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag.endswith((":merge", ":null"))]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_NUMBERS = {
    "bool": (r"^(true|True|TRUE|false|False|FALSE)$", "tTfF"),
    "int": (r"^[-+]?(0|[1-9][0-9]*)$", "-+0123456789"),
    "float": (
        r"^([-+]?(0|[1-9][0-9]*|(?=\.[0-9]))(\.[0-9]*)?([eE][-+]?[0-9]+)?|[-+]?\.inf|\.nan)$",
        "-+.0123456789",
    ),
}
for _kind, (_pattern, _first) in _NUMBERS.items():
    for _class in (Loader, Dumper):
        _class.add_implicit_resolver(f"tag:yaml.org,2002:{_kind}", re.compile(_pattern), [*_first])


def load_yaml(text):
    """The value of a YAML text; raises yaml.YAMLError, ValueError or RecursionError."""
    return yaml.load(text, Loader=Loader)


def is_model(annotation):
    """Whether a type is a configuration with settings of its own."""
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)


# Units by the last word of a name; the field of another setting names its unit (``unit``).
UNITS = {"h": "h", "m": "m", "km": "km", "k": "K"}


class Setting(NamedTuple):
    """One setting of a configuration: its name with all groups, type, default and meaning."""

    name: str
    annotation: Any
    unit: str
    limits: str
    default: str
    description: str


def list_settings(model, prefix="", defaults=None):
    """All settings of a configuration, in order, those of its groups included.

    Parameters
    ----------
    model : type of Config
    prefix : str
        Name of the group with a dot.
    defaults : dict, optional
        Defaults that the group has instead of those of its class.

    Returns
    -------
    list of Setting
    """
    settings = []
    for name, field in model.model_fields.items():
        # A default that a validator computes is written in the field (``default``, ``defaults``).
        extra = field.json_schema_extra or {}
        if is_model(field.annotation):
            inner = extra.get("defaults")
            settings += list_settings(field.annotation, f"{prefix}{name}.", inner)
            continue
        default = "required" if field.is_required() else _as_text(field.default)
        default = _as_text((defaults or {}).get(name, extra.get("default", default)))
        limits = [
            f"{sign} {getattr(limit, attribute)}"
            for limit in field.metadata
            for attribute, sign in (("ge", ">="), ("gt", ">"), ("lt", "<"), ("le", "<="))
            if hasattr(limit, attribute)
        ]
        unit = extra.get("unit") or UNITS.get(name.rpartition("_")[2], "")
        description = " ".join((field.description or "").split())
        facts = field.annotation, unit, ", ".join(limits), default, description
        settings.append(Setting(f"{prefix}{name}", *facts))
    return settings


def _as_text(value):
    """A default as it is written after NAME=."""
    value = value.model_dump(mode="json") if isinstance(value, BaseModel) else value
    return (value or '""') if isinstance(value, str) else json.dumps(value)


def type_text(annotation):
    """A type in words, such as "list of int" or "constant | cosine"."""
    origin, inner = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return type_text(inner[0])
    if origin is Literal:
        return " | ".join(map(str, inner))
    if origin in (Union, types.UnionType):
        return " | ".join(type_text(each) for each in inner)
    if origin is tuple:
        items = [type_text(each) for each in inner if each is not Ellipsis]
        return f"list of {items[0]}" if inner[-1] is Ellipsis else f"[{', '.join(items)}]"
    if origin is dict or annotation is dict or is_model(annotation):
        return "{key: value}"
    return {str: "text", bool: "true | false", types.NoneType: "null"}.get(
        annotation, getattr(annotation, "__name__", str(annotation))
    )


def similar_settings(model, key):
    """Names of the settings that a wrong key may mean: same last part, or similar spelling.

    Parameters
    ----------
    model : type of Config
    key : str

    Returns
    -------
    list of str
    """
    groups = [name for name, field in model.model_fields.items() if is_model(field.annotation)]
    names = [setting.name for setting in list_settings(model)] + groups
    last_parts = {name: name.rpartition(".")[2] for name in names}
    last = key.rpartition(".")[2].lower()
    same = [name for name in names if last_parts[name] == last]
    similar = difflib.get_close_matches(last, last_parts.values(), 1, 0.7)
    return (
        same
        or difflib.get_close_matches(key, names, 1, 0.7)
        or [name for name in names if last_parts[name] in similar]
    )


def split_parameters(pairs):
    """Names and texts of arguments such as ``epochs=3``.

    Parameters
    ----------
    pairs : sequence of str

    Returns
    -------
    dict of str to str
        If a name is given twice, the last text counts.

    Raises
    ------
    InputError
        If an argument has no name or no ``=``.
    """
    texts = {}
    for pair in pairs:
        name, equals, text = pair.partition("=")
        if not equals or not name.strip():
            raise InputError(f"parameter {pair!r}: expected name=value, such as epochs=3")
        texts[name.strip()] = text.strip()
    return texts


def parse_parameters(pairs, model):
    """Values of arguments such as ``fit.epochs=3``, by the full names of the settings.

    A setting that takes text gets the text as it stands; the other values are read as YAML.

    Parameters
    ----------
    pairs : sequence of str
    model : type of Config

    Returns
    -------
    dict of str to object
        A name without its groups is completed if only one setting has it; an unknown name stays
        as it is, and :meth:`Config.parse` refuses it.

    Raises
    ------
    InputError
        If an argument has no ``=`` or its value is not YAML.
    """
    annotations = {setting.name: setting.annotation for setting in list_settings(model)}
    values = {}
    for name, text in split_parameters(pairs).items():
        group = name.partition(".")[0]
        if name not in annotations and group not in model.model_fields:
            same = [full for full in annotations if full.rpartition(".")[2] == name]
            name = same[0] if len(same) == 1 else name
        values[name] = read_value(name, text, annotations.get(name, Any))
    return values


def read_value(name, text, annotation):
    """The value that a text means for a setting of a type.

    Parameters
    ----------
    name : str
        Name for the message.
    text : str
    annotation : type

    Returns
    -------
    object

    Raises
    ------
    InputError
        If the type is not text and the text is not YAML.
    """
    accepted = alternatives(annotation)
    takes_text = accepted & {str} or any(isinstance(value, str) for value in accepted)
    if types.NoneType in accepted and text in ("", "null"):
        return None
    quoted = len(text) > 1 and text[0] == text[-1] and text[0] in "'\""
    if takes_text and not quoted and not (text.startswith("{") and len(accepted) > 1):
        return text
    try:
        return load_yaml(text)
    except (yaml.YAMLError, ValueError, RecursionError):
        if takes_text and quoted:
            return text
        raise InputError(
            f"parameter {name}={text}: the value is not valid YAML; close all brackets and quotes, "
            "and put special characters between quotes"
        ) from None


def alternatives(annotation):
    """The types and literal values that an annotation allows, a set."""
    origin, inner = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return alternatives(inner[0])
    if origin in (Union, types.UnionType):
        return set().union(*(alternatives(each) for each in inner))
    return set(inner) if origin is Literal else {origin or annotation}


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


def flatten(values, prefix=""):
    """Settings of all groups by their name ``group.setting``.

    Parameters
    ----------
    values : dict
    prefix : str
        Start of the names.

    Returns
    -------
    dict
    """
    settings = {}
    for name, value in values.items():
        is_group = isinstance(value, dict) and value
        settings |= flatten(value, f"{prefix}{name}.") if is_group else {f"{prefix}{name}": value}
    return settings
