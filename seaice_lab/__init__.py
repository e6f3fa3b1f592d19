"""seaice_lab: machine learning for sea ice, from model output to forecasts, scores and spectra.

A public name is imported when it is first used. So a program that needs no torch does not load it.
"""

from importlib import import_module
from importlib.metadata import PackageNotFoundError, version

from seaice_lab.processors import set_environment

set_environment()  # before torch is loaded, which reads the variables then

try:
    __version__ = version("seaice_lab")
except PackageNotFoundError:  # a checkout that is on the path but not installed
    __version__ = "0+unknown"

_MODULES = {
    "InputError": "errors",
    "PrepareConfig": "surrogate.settings",
    "prepare": "surrogate.prepare",
    "open_store": "surrogate.store",
    "TrainConfig": "surrogate.settings",
    "FitConfig": "config",
    "train": "surrogate.train",
    "load": "surrogate.model",
    "ForecastConfig": "surrogate.settings",
    "forecast": "surrogate.forecast",
    "rollout": "surrogate.forecast",
    "open_forecast": "surrogate.evaluation",
    "evaluate": "surrogate.evaluation",
}
__all__ = ["__version__", *_MODULES]


def __getattr__(name):
    if name not in _MODULES:
        raise AttributeError(f"module 'seaice_lab' has no attribute {name!r}")
    return getattr(import_module(f"seaice_lab.{_MODULES[name]}"), name)


def __dir__():
    return sorted(__all__)
