"""T4: concentrations from simulated brightness temperatures, assimilated into a full-state network.

The truth is a run of the sample, coarsened to 32 x 32 cells. Its brightness temperatures are those
of the simulator of the emissivity half. A model that was trained in another world infers
concentrations from them, whose errors it states. The first guess of this inference and the first
background are means of the training runs.
"""

import numpy as np
import xarray as xr
from assimilation_twins import row

from seaice_lab.assimilation import observations
from seaice_lab.assimilation.cycle import run_cycle
from seaice_lab.assimilation.interpolation import cell_weights
from seaice_lab.assimilation.quality_control import prepare_table
from seaice_lab.assimilation.settings import AssimilationConfig, ObservationFilesConfig
from seaice_lab.emissivity.jobs import run_inference, run_training
from seaice_lab.emissivity.settings import (
    EmissivityConfig,
    InferConfig,
    ProductsConfig,
    SimulateConfig,
)
from seaice_lab.emissivity.simulate import simulate
from seaice_lab.surrogate.prepare import prepare
from seaice_lab.surrogate.settings import PrepareConfig, TrainConfig
from seaice_lab.surrogate.store import in_split, open_store
from seaice_lab.surrogate.train import train
from seaice_lab.surrogate.windows import FULL_STATE

DAY, DAY_START = np.timedelta64(1, "D"), np.timedelta64(3, "h")  # a day begins at 21 h
SENSORS, DAYS, PRODUCTS = ("amsr2",), 19, ProductsConfig(simulations=False, grid=False)
WINDOWS = 3
OBSERVATIONS = 30_000  # in the 19 days, nearly two in a cell and day
NETWORK = {
    "window": "full_state",
    "global_mean_weight": 1.0,
    "tikhonov_weight": 0.1,
    "input_noise": 0.03,
    "symmetry": "quarter_turns",
    "fit": {
        "epochs": 40,
        "batch_size": 4,
        "learning_rate": 1.5e-3,
        "weight_decay": 2e-4,
        "schedule": "cosine",
        "warmup_steps": 50,
        "max_gradient_norm": 1.0,
        "averaging": 0.99,
    },
}


def surrogate(folder):
    """The store of the coarse sample, and the full-state network that is trained with it."""
    path = folder / "store.zarr"
    prepare(PrepareConfig(variables=FULL_STATE, coarsen=4), path, show=False)
    run = train(TrainConfig(store=str(path), **NETWORK), folder / "surrogate", show=False)
    return open_store(path), run


def emissivity_model(folder):
    """Run folder of an emissivity model that is trained in a drawn world, not in the sample."""
    world = {"size": 48, "days": 15, "start": "2010-01-20", "seed": 1, "observations": (40_000,)}
    data = folder / "training_world"
    if not (data / "truth.nc").exists():
        simulate(SimulateConfig(sensors=SENSORS, **world), data, show=False)
    settings = {"sensors": SENSORS, "model": {"version": 2}, "method": "gauss_newton"}
    config = EmissivityConfig(data=str(data), **settings)
    run_training(config, folder / "emissivity", PRODUCTS, show=False)
    return folder / "emissivity"


def daily_means(store, split):
    """Concentration of each complete day of a run, (day, y, x)."""
    states = store.sic.isel(time=in_split(store, split)).load()
    day = (states.time + DAY_START).dt.floor("D").rename("day")
    means = states.groupby(day).mean("time")
    return means.isel(day=slice(0, DAYS + 1)).clip(0, 1)


def given_ice(store, split):
    """The concentration of a run on all days, as the simulator needs it."""
    ocean, means = store.ocean.values, daily_means(store, split).values
    guess = store.sic.isel(time=in_split(store, "train")).mean("time").values
    fields = {"sic": means, "first_guess": np.broadcast_to(guess, means.shape)}
    columns = {name: (("grid", "lagstep"), each[:, ocean].T) for name, each in fields.items()}
    x, y = np.meshgrid(store.x.values, store.y.values)
    positions = {"x": x, "y": y, "lat": store.latitude.values, "lon": store.longitude.values}
    columns |= {name: ("grid", values[ocean]) for name, values in positions.items()}
    return xr.Dataset(columns)


def retrieved(folder, store, split, trained):
    """File of concentrations that the emissivity model infers from observations of a run."""
    data, start = folder / f"{split}_world", store.time.values[in_split(store, split)][0] + DAY
    if not (data / "truth.nc").exists():
        config = SimulateConfig(
            sensors=SENSORS, observations=(OBSERVATIONS,), days=DAYS, start=str(start)[:10], seed=2
        )
        simulate(config, data, show=False, ice=given_ice(store, split))
    config = InferConfig(data=str(data), trained=str(trained))
    return run_inference(config, folder / f"{split}_state", PRODUCTS, show=False).paths["seaice"]


def analysed(folder, store, run, split, table):
    """Folder of the cycle of windows of 5 days that assimilates a table."""
    observations.write_table(table, folder / f"{split}_table.nc")
    start = store.time.values[in_split(store, split)][0] + DAY
    background = {"first": "mean", "pattern": "training", "std": 0.6, "length_km": 100.0}
    settings = {"run": str(run), "split": split, "start": str(start), "windows": WINDOWS}
    settings |= {
        "window_steps": 10,
        "model_error_steps": 5,
        "background_check": None,
        "forecast_steps": 0,
    }
    settings |= {"observations": [str(folder / f"{split}_table.nc")], "minimiser": {"segment": 0}}
    config = AssimilationConfig(**settings, background=background)
    run_cycle(config, folder / f"{split}_cycle", show=False)
    return folder / f"{split}_cycle"


def errors(cycle, store, split):
    """Errors of background, retrieval and analysis in each window, at what was observed.

    All three are compared with the daily mean of the true concentration in the observed cell.
    """
    truth = daily_means(store, split)
    for path in sorted(cycle.glob("departures_*.nc")):
        table = observations.used(xr.load_dataset(path))
        cells = cell_weights(table.latitude.values, table.longitude.values, store)[0][:, 0]
        days = (table.time.values + DAY_START).astype("M8[D]")
        rows = truth.get_index("day").get_indexer(days)
        true = truth.values.reshape(len(truth), -1)[rows, cells]
        background, analysis = table.equivalent.values
        estimates = background, table["value"].values, analysis
        yield [np.sqrt(np.mean((each - true) ** 2)) for each in estimates]


def bridge(options):
    """T4: errors of the concentration in three windows of 5 days, as rows of a table."""
    folder = options.folder / "bridge"
    folder.mkdir(parents=True, exist_ok=True)
    store, run = surrogate(folder)
    trained = emissivity_model(folder)
    for split in ("validation", "test"):
        path = retrieved(folder, store, split, trained)
        table = prepare_table([path], ObservationFilesConfig())
        cycle = analysed(folder, store, run, split, table)
        for number, values in enumerate(errors(cycle, store, split), 1):
            columns = "background, retrieval, analysis"
            row(f"T4 {split}, concentration, window {number}", values, columns, decimals=4)
