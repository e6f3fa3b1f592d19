"""Credentials of the client libraries: are there any, and how messages hide them.

The libraries read their own credentials. This module neither stores nor prints them.
"""

import base64
import os
import re
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

from seaice_lab.errors import InputError


class Client(NamedTuple):
    """A client library, and where it finds its credentials.

    They are in environment variables (all those of one group in ``variables``), or in ``file``,
    which then contains ``text``. The variable ``file_variable`` names another file; if its name
    ends with DIRECTORY, it names the folder that replaces ~ in ``file``. ``advice`` tells the user
    how to make the file.
    """

    library: str
    variables: tuple[tuple[str, ...], ...]
    file_variable: str
    file: str
    text: str
    advice: str


CLIENTS = {
    "cds": Client(
        "cdsapi",
        (("CDSAPI_URL", "CDSAPI_KEY"),),
        "CDSAPI_RC",
        "~/.cdsapirc",
        "key",
        "write ~/.cdsapirc (CDSAPI_RC may name another file)",
    ),
    "earthdata": Client(
        "earthaccess",
        (("EARTHDATA_TOKEN",), ("EARTHDATA_USERNAME", "EARTHDATA_PASSWORD")),
        "NETRC",
        "~/.netrc",
        "urs.earthdata.nasa.gov",
        "write ~/.netrc with the machine urs.earthdata.nasa.gov (NETRC may name another file)",
    ),
    "copernicusmarine": Client(
        "copernicusmarine",
        (("COPERNICUSMARINE_SERVICE_USERNAME", "COPERNICUSMARINE_SERVICE_PASSWORD"),),
        "COPERNICUSMARINE_CREDENTIALS_DIRECTORY",
        "~/.copernicusmarine/.copernicusmarine-credentials",
        "",
        "run `copernicusmarine login`",
    ),
}


def refuse_missing_client(entry):
    """Refuse to start without the client library of a server, or without credentials for it.

    Parameters
    ----------
    entry : seaice_lab.catalog.Entry

    Raises
    ------
    InputError
        The message names the package, or the variables and files, and where to create a key.
    """
    client = CLIENTS.get(entry.fetch.way)
    if client is None:
        return
    if find_spec(client.library) is None:
        raise InputError(
            f"{entry.name}: needs the package {client.library}; run "
            "`pip install -c constraints.txt -e '.[fetch]'` in the project's folder"
        )
    text = _file_text(client)
    if in_variables(client) or (text is not None and client.text in text):
        return
    variables = " or ".join(" and ".join(group) for group in client.variables)
    raise InputError(
        f"{entry.name}: needs a free account; set {variables}, or {client.advice}; create an "
        f"account or a key at {entry.fetch.account}"
    )


def in_variables(client):
    """Whether all variables of one group of a client are set.

    Parameters
    ----------
    client : Client

    Returns
    -------
    bool
    """
    return any(all(map(os.environ.get, group)) for group in client.variables)


def _file_text(client):
    """Text of the file with the credentials of a client; None if there is none."""
    path = os.path.expanduser(client.file)
    if named := os.environ.get(client.file_variable):
        is_folder = client.file_variable.endswith("DIRECTORY")
        path = client.file.replace("~", named) if is_folder else os.path.expanduser(named)
    with suppress(OSError):
        text = Path(path).read_text(encoding="utf-8", errors="replace")
        with suppress(ValueError):  # Copernicus Marine encodes its file
            return base64.b64decode(text.strip(), validate=True).decode()
        return text
    return None


def hidden(text):
    """Text in which stars replace passwords and keys of addresses, variables and files.

    Parameters
    ----------
    text : str

    Returns
    -------
    str
    """
    text = re.sub(r"//[^/@\s]+@", "//***@", text)
    secrets = set()
    for client in CLIENTS.values():
        names = [name for group in client.variables for name in group]
        secrets |= {os.environ.get(name) for name in names if not name.endswith("_URL")}
        lines = _file_text(client) or ""
        secrets |= set(re.findall(r"^\s*(?:key|password)\s*[:=]\s*(.*\S)", lines, re.MULTILINE))
        secrets |= {word.strip("\"'") for word in re.findall(r"\bpassword\s+([^\s:=]\S*)", lines)}
    for secret in sorted(filter(None, secrets), key=len, reverse=True):  # one may contain another
        text = text.replace(secret, "***")
    return text
