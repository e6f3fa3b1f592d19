"""Settings of the emissivity model's jobs: simulate, train, infer."""

import json
from typing import Literal

from pydantic import Field, model_validator

from seaice_lab.config import Config, FitConfig, PathText

# Defaults of ModelConfig in the published versions 1 and 2.
PUBLISHED = {
    "network":                  ("linear", "frequency"),
    "n_properties":             (3,        2),
    "n_observation_properties": (0,        1),
    "width":                    (10,       7),
    "sea_ice_error":            (0.02,     0.002),
    "false_ice_error":          ((),       ((0, 0.02),)),
    "bias_error_k":             (0.001,    None),
    "freezing_sea":             (False,    True),
    "emissivity_background":    ({},       {"10v": 0.8, "24v": 0.7}),
}  # fmt: skip
# Settings of SolveConfig with which the solver minimises the published cost.
PUBLISHED_COST = dict(
    hold_first_guess=False,
    within_bounds=False,
    lowest_hump_error=0.0,
    integrate_properties=False,
    lowest_bias_error_k=0.0,
    constants_error=None,
)
# The published settings of ``fit``, and the number of epochs by version.
PUBLISHED_FIT = dict(batch_size=1024, learning_rate=1e-3, weight_decay=0.0, schedule="constant")
PUBLISHED_EPOCHS = {1: 8, 2: 25}


def _published(pair, description, **limits):
    """A field without a default of its own; a validator inserts that of the version."""
    first, second = (value if isinstance(value, str) else json.dumps(value) for value in pair)
    default = f"{first} (version 2: {second})"
    return Field(description=description, json_schema_extra={"default": default}, **limits)


class ObservationsConfig(Config):
    """Which observations to use: their files, sensors and days."""

    data: PathText
    """Folder in a published layout, or the file of one month."""
    sensors: tuple[str, ...] = ("amsr2",)
    """Sensors, in the order to store."""
    sensor_tables: PathText | dict | None = None
    """YAML file with more channels and sensors, or its content."""
    step_start: int = Field(0, ge=0)
    """First day to use, counted from 0."""
    steps: int | None = Field(None, ge=1)
    """Number of days to use; null: all."""


class ModelConfig(Config):
    """The model. Settings that are not given are the published ones of its ``version``."""

    version: Literal[1, 2] = 1
    """Version of the published model."""
    network: Literal["linear", "sigmoid", "frequency"] = _published(
        PUBLISHED["network"], "Emissivity network."
    )
    n_properties: int = _published(
        PUBLISHED["n_properties"], "Empirical properties of a cell on a day.", ge=0
    )
    n_observation_properties: int = _published(
        PUBLISHED["n_observation_properties"], "Empirical properties of an observation.", ge=0
    )
    layers: int = Field(2, ge=1)
    """Layers of the networks sigmoid and frequency."""
    width: int = _published(PUBLISHED["width"], "Neurons of a layer.", ge=1)
    zenith_input: bool = False
    """The zenith angle is an input of the network (version 2)."""
    nadir: bool = False
    """The difference of the polarisations vanishes towards nadir (version 2)."""
    freeze_network: bool = False
    """The training does not change the network."""
    lag_weights: tuple[float, ...] = (0.6, 0.4)
    """Shares of the concentrations of the same day and of the days before it."""
    sea_ice_error: float = _published(
        PUBLISHED["sea_ice_error"], "Error of concentrations beyond 0 and 1.", gt=0
    )
    false_ice_error: tuple[tuple[int, float], ...] = _published(
        PUBLISHED["false_ice_error"],
        "Error of the hump penalty of concentrations below 0.3, as pairs of a first epoch (from "
        "0) and the error from then on. The published change to 0.002 in epoch 3 never took "
        "effect; [[0, 0.02], [3, 0.002]] lets it take effect.",
    )
    bias_error_k: float | None = _published(
        PUBLISHED["bias_error_k"], "Error of the biases; null: those of the sensors."
    )
    emissivity_error: float = Field(1e-5, gt=0)
    """Error of the limit and background of the emissivity."""
    emissivity_background: dict[str, float] = _published(
        PUBLISHED["emissivity_background"],
        "Lowest emissivity of the first of these channels that the sensors have.",
    )
    freezing_sea: bool = _published(
        PUBLISHED["freezing_sea"], "Water is never colder than 271.35 K."
    )
    bounded: bool = False
    """Concentrations stay between 0 and 1 at every step, instead of a penalty."""
    batch_independent: bool = True
    """The emissivity term has the weight that the published one has in a batch of 1024; false: its
    weight grows with the batch size, as published."""

    @model_validator(mode="before")
    @classmethod
    def _as_published(cls, values):
        if not isinstance(values, dict):
            return values  # pydantic refuses it
        version = values.get("version", 1)
        if version not in (1, 2):
            return values  # refused by the type of version
        return {name: pair[int(version) - 1] for name, pair in PUBLISHED.items()} | values


class SolveConfig(Config):
    """How to minimise the cost with Gauss-Newton steps."""

    starts: int = Field(3, ge=1)
    """Networks to start from; the two best ones are fitted further, and the better of them is kept.
    Linear ones are random. They are bilinear without n_observation_properties and
    emissivity_background; then those with the same cost count once. Those of version 2 have the
    emissivities of published types of ice."""
    sample: int = Field(40_000, ge=1000)
    """Observations that the network is fitted to."""
    network_steps: int = Field(40, ge=0)
    """Most steps of the network; 0 keeps it."""
    state_steps: int = Field(7, ge=1)
    """Most steps of the state with the network held."""
    tolerance: float = Field(3e-3, gt=0)
    """Relative decrease of the cost that is too small. The steps of the network end after four in a
    row that decrease it by less or are rejected. The last steps of the state end below 0.03 times
    this decrease, because persistent properties converge slowly."""
    property_error: float = Field(1.0, gt=0)
    """Standard deviation of the properties around 0. It fixes their scale, which the published cost
    leaves open. With a linear network without integrate_properties, and in the starts of a bilinear
    one (see starts), the effect of a property on the emissivities is held near 0.05 as well, or ice
    could look like water at no cost."""
    hold_first_guess: bool = True
    """Whether the first guess of the concentration is a background of it, with an error of 0.15,
    and of 0.07 where it is above 0.95 (estimate_errors replaces both in the end). While a network
    is fitted, 0 is most probable below 0.15 and 1 above 0.85, with a mean distance of 0.03 from it;
    the error is 0.15 where the solution of a first network is more than 0.12 away from it."""
    estimate_errors: bool = True
    """With hold_first_guess: before the last steps of the state, estimate from the observations the
    errors of the first guess by class of its concentration, the correlation from day to day of
    these errors and of the properties, and the standard deviation of the properties of a given
    network. With a network that is fitted with integrate_properties, it stays property_error."""
    integrate_properties: bool = True
    """Minimise the cost with the properties integrated out; false: the cost of concentrations and
    properties together, whose minimum has too much ice where ice and water are mixed."""
    within_bounds: bool = True
    """Concentrations stay between 0 and 1; false: as model.bounded says."""
    lowest_hump_error: float = Field(0.1, ge=0)
    """Lowest error of the hump penalty; 0 takes the error of the model. The published penalty moves
    low concentrations to 0 or 0.3."""
    lowest_bias_error_k: float = Field(2.0, ge=0)
    """Background error that the biases over ice and water have in common. Each has an independent
    error as well: that of the model, or a quarter of the common one if that is larger. 0: only the
    independent error of the model; then most biases in version 1 and those of GMI in version 2
    hardly change, and concentrations have to explain the true ones."""
    constants_error: float | None = Field(0.05, gt=0)
    """Error of the constants of a linear network, around the mean of published types of ice; null:
    as published, the first constant is 0.93."""
    seed: int = 0
    """Seed of the random networks and of the sample."""


class EmissivityConfig(ObservationsConfig):
    """What to train on, what to train, and how; defaults as published for ``model.version``.

    A GPU must hold all observations and maps. Schedules, decay, averages, limits of the gradient
    and bfloat16 in ``fit`` are refused, because the maps ignore them.
    """

    model: ModelConfig
    """The model."""
    method: Literal["adam", "gauss_newton"] = "adam"
    """adam trains as published; gauss_newton minimises the cost in far less time, with bounds and
    backgrounds, and uses the group solve instead of order and fit."""
    solve: SolveConfig = SolveConfig()
    """Settings of the Gauss-Newton solver."""
    order: Literal["shuffled", "batches", "file"] = Field(
        json_schema_extra={"default": "shuffled (version 2: batches)"}
    )
    """Order of the observations in an epoch; batches: successive observations form a batch, and the
    batches come in random order."""
    hold_out_share: float = Field(0.0, ge=0, lt=1)
    """Share of the observations, chosen at random, that a training with Adam leaves out and
    validates with."""
    hold_out_sensors: tuple[str, ...] = ()
    """Sensors that are left out and used for validation."""
    hold_out_days: tuple[int, ...] = ()
    """Days (from 0) that are left out and used for validation. Their maps keep the first guess,
    except that observations of the next day depend on the concentration."""
    fit: FitConfig = Field(
        json_schema_extra={"defaults": PUBLISHED_FIT | {"epochs": "8 (version 2: 25)"}}
    )
    """How to train with Adam."""

    @model_validator(mode="before")
    @classmethod
    def _as_published(cls, values):
        if not isinstance(values, dict):
            return values  # pydantic refuses it
        values = {"model": {}} | values
        model, fit = values["model"], values.get("fit") or {}
        if not isinstance(model, dict | ModelConfig):
            return values
        version = model.version if isinstance(model, ModelConfig) else model.get("version", 1)
        if isinstance(fit, dict):
            values["fit"] = PUBLISHED_FIT | {"epochs": PUBLISHED_EPOCHS.get(version, 8)} | fit
        return {"order": "shuffled" if version == 1 else "batches"} | values


class InferConfig(ObservationsConfig):
    """Which trained run to use, and on which observations."""

    trained: PathText
    """Run folder of a training."""
    sensors: tuple[str, ...] | None = None
    """Sensors; null: those of the training."""
    sensor_tables: PathText | dict | None = None
    """YAML file that adds channels and sensors to those of the trained run."""
    solve: SolveConfig = SolveConfig()
    """Settings of the Gauss-Newton solver."""


class ProductsConfig(Config):
    """Which files to write in addition to those of the state."""

    tag: str = "final"
    """Ending of all file names."""
    simulations: bool = False
    """Write the simulation of every observation."""
    grid: bool = True
    """Write daily maps of the emissivity of the ice."""


class SimulateConfig(Config):
    """A simulated case: where, how long, which sensors, how many observations, in which layout."""

    layout: Literal["month", "year", "sensors"] = "sensors"
    """month or year: version 1 (one sensor); sensors: version 2."""
    sensors: tuple[str, ...] = ("amsr2", "gmi", "ssmisf17")
    """Sensors."""
    observations: tuple[int, ...] = (40_000, 30_000, 30_000)
    """Number of observations of each sensor."""
    hemisphere: Literal["north", "south", "both"] = "north"
    """Polar sea with the grid points: north, south or both."""
    size: int = Field(64, ge=16)
    """Cells along each side of the grid around a pole."""
    days: int = Field(20, ge=1)
    """Number of days."""
    start: str = "2021-03-01"
    """First day."""
    noise: float = Field(0.35, ge=0)
    """Noise, in units of the assigned errors."""
    first_guess: Literal["climatology", "shifted_edge", "low_closed_ice", "good"] = "climatology"
    """climatology: monthly means of the truth; shifted_edge: these, moved by 150 km;
    low_closed_ice: these, times 0.9; good: the truth of each day."""
    first_guess_error: float = Field(0.05, ge=0)
    """Noise of the first guess."""
    ice: Literal["table", "formula", "scatter", "new_type"] = "table"
    """Emissivity of the ice: types of a published table; a smooth formula; the table with scatter
    from observation to observation, or with areas of new ice."""
    largest_bias_k: float | None = Field(None, ge=0)
    """Channels have random biases up to this one, equal over ice and water; null: the biases of the
    sensors."""
    cloud_error: float = Field(0.0, ge=0)
    """Error of the given cloud fraction."""
    missing: float = Field(0.0, ge=0, le=0.5)
    """Share of missing values of channels, and of missing days."""
    seed: int = 0
    """Seed of the random numbers."""
