"""seaice_lab: machine learning for sea ice, from model output to forecasts, scores and spectra.

The public names are imported when they are first used, so that what needs no torch stays light.
"""

from importlib import import_module
from importlib.metadata import version

__version__ = version("seaice_lab")

_HOME = {
    "InputError": "errors",
    "PrepareConfig": "surrogate.assemble",
    "prepare": "surrogate.prepare",
    "open_store": "surrogate.store",
    "TrainConfig": "surrogate.model",
    "FitConfig": "training",
    "train": "surrogate.train",
    "load": "surrogate.model",
    "forecast": "surrogate.forecast",
    "rollout": "surrogate.forecast",
    "open_forecast": "surrogate.evaluation",
    "evaluate": "surrogate.evaluation",
}
__all__ = ["__version__", *_HOME]


def __getattr__(name):
    if name not in _HOME:
        raise AttributeError(f"module 'seaice_lab' has no attribute {name!r}")
    return getattr(import_module(f"seaice_lab.{_HOME[name]}"), name)


def __dir__():
    return sorted(__all__)
