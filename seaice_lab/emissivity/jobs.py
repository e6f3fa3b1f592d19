"""The jobs of the emissivity model, from a configuration to all files of a run.

The command line and notebook 10 call these functions.
"""

from pathlib import Path
from typing import NamedTuple

import pandas as pd
import xarray as xr

from seaice_lab import runs
from seaice_lab.emissivity import products, state_files
from seaice_lab.emissivity.card import write_card
from seaice_lab.emissivity.evaluation import report
from seaice_lab.emissivity.infer import begin_inference, infer, observed_uncertainty
from seaice_lab.emissivity.model import EmpiricalState
from seaice_lab.emissivity.observations import Observations
from seaice_lab.emissivity.run import initial_state, load, open_data
from seaice_lab.emissivity.settings import ProductsConfig
from seaice_lab.emissivity.train import train

DEFAULT_PRODUCTS = ProductsConfig()


class Estimate(NamedTuple):
    """An estimated state and its files.

    ``initial`` is the state before the estimation. ``history`` is that of a training, else None.
    ``paths`` has the written files by their published names without the tag.
    """

    model: EmpiricalState
    initial: EmpiricalState
    observations: Observations
    history: pd.DataFrame | None
    paths: dict[str, Path]

    @property
    def departures(self):
        """Departures by sensor and channel for the stages "before" and "after", a Dataset."""
        return xr.load_dataset(self.paths["departures"])


def run_training(config, run, product_config=DEFAULT_PRODUCTS, show=True):
    """Train into a run folder and write all files and the model card.

    Parameters
    ----------
    config : EmissivityConfig
    run : str or Path
        Run folder. A killed training is continued; a finished one is not repeated.
    product_config : ProductsConfig
    show : bool
        Show progress.

    Returns
    -------
    Estimate
    """
    run = Path(run).expanduser()
    history = train(config, run, show)
    model, observations = load(run)
    paths = state_files.write_state(model, observations, run, product_config.tag, history)
    estimate = Estimate(model, initial_state(config, observations), observations, history, paths)
    estimate = _write_products(estimate, run, product_config, show)
    scores = report(model, estimate.departures.sel(stage="after"), history)
    write_card(run, model, observations, scores)
    return estimate


def run_diagnostics(config, run, model_tag, product_config=DEFAULT_PRODUCTS, show=True):
    """Write the files that are derived from a saved state, without training.

    Parameters
    ----------
    config : EmissivityConfig
        Its ``model`` is replaced by that of the saved state.
    run : str or Path
        Folder of the saved state and of the new files.
    model_tag : str
        Ending of the file names of the saved state.
    product_config : ProductsConfig
    show : bool
        Show progress.

    Returns
    -------
    Estimate
    """
    run = Path(run).expanduser()
    # the days before the first one have to be known before the whole model can be read
    lag_weights = state_files.read_lag_weights(run, model_tag)
    model_config = config.model.model_copy(update={"lag_weights": lag_weights})
    observations = open_data(config.model_copy(update={"model": model_config}), run, show)
    model = state_files.read_state(run, model_tag, observations)
    initial = initial_state(config.model_copy(update={"model": model.config}), observations)
    estimate = Estimate(model, initial, observations, None, {})
    return _write_products(estimate, run, product_config, show)


def run_inference(config, run, product_config=DEFAULT_PRODUCTS, show=True):
    """Estimate the state of new days into a run folder and write all files.

    Parameters
    ----------
    config : InferConfig
    run : str or Path
        Run folder.
    product_config : ProductsConfig
    show : bool
        Show progress.

    Returns
    -------
    Estimate
    """
    run = Path(run).expanduser()
    trained, initial, observations = begin_inference(config, run, show)
    with runs.heartbeat(run, "inferring", "step", 3) as beat:
        beat(1)
        model, errors = infer(trained, observations, config.solve, show)
        beat(2)
        std = observed_uncertainty(model, observations, config.solve, errors)
        tag = product_config.tag
        paths = state_files.write_state(model, observations, run, tag, sea_ice_std=std)
        beat(3)
        estimate = Estimate(model, initial, observations, None, paths)
        estimate = _write_products(estimate, run, product_config, show)
        (run / "finished").touch()
    return estimate


def _write_products(estimate, run, config, show):
    """Write simulations, departures and grid of an Estimate; returns it with their paths."""
    model, initial, observations, _, paths = estimate
    paths |= products.write_simulations(
        model, initial, observations, run, config.tag, not config.simulations, show
    )
    if config.grid:
        paths["emissivity_grid"] = products.write_grid(model, observations, run, config.tag)
    return estimate
