"""seaice_lab: machine learning for sea ice, from model output and satellites to maps and scores."""

from importlib.metadata import version

__version__ = version("seaice_lab")
