"""Settings of the surrogate's jobs: what to prepare, to train and to forecast."""

from typing import Annotated, Literal

from pydantic import Field, field_validator

from seaice_lab import names
from seaice_lab.config import Config, FitConfig, PathText, SplitRule
from seaice_lab.surrogate.windows import Window, find_window

Split = Literal["train", "validation", "test"]
Network = Literal["UNet2", "UNet3", "UNet4", "UNet5", "ResNet", "PCNN", "CNN"]


class PrepareConfig(Config):
    """What to prepare and how; the defaults prepare the bundled sample on its own grid."""

    state: str = "sample"
    """Entry of data_catalog.yaml with the sea ice."""
    forcing: str | None = None
    """Entry with the weather; null: the entry of the state."""
    variables: tuple[str, ...] = ("sit",)
    """Variables of the sea ice."""
    forcing_variables: tuple[str, ...] = names.FORCING
    """Weather variables."""
    crop: tuple[int, int, int, int] | None = None
    """First row, end row, first column, end column; ends are excluded."""
    coarsen: int = Field(1, ge=1)
    """Cells along each axis that form one coarse cell."""
    coarsen_rule: Literal["ocean_mean", "published"] = "ocean_mean"
    """ocean_mean: average of the ocean cells; published (Durand et al. 2024): land counts as zero,
    and forcing is averaged over all cells."""
    rotate_winds: bool = True
    """Turn eastward and northward winds to the grid axes; false as published."""
    allow_gaps: bool = False
    """Accept missing records; windows never cross such a gap."""
    forcing_beyond_state: bool = False
    """Keep the forcing after the end of the state, as long as it continues at the same step, for
    forecasts from the last state."""
    splits: dict[Split, SplitRule] | None = None
    """Files or period of each split, such as {train: {period: [2009, 2016]}}; null: those of the
    entry."""


Gain = Annotated[float, Field(ge=0)]

# Largest standard deviation of the biases of members. Three standard deviations are below 1, so
# that such a bias turns no decrease into an increase.
MAX_BIAS = 0.3
# Where the fast settings differ from the published ones.
FAST_FIT = {
    "epochs": 50,
    "batch_size": 8,
    "learning_rate": 1e-3,
    "weight_decay": 2e-4,
    "schedule": "cosine",
    "warmup_steps": 50,
    "max_gradient_norm": 1.0,
    "averaging": 0.99,
}


class TrainConfig(Config):
    """What to train; the defaults are the published surrogate (Durand et al. 2024)."""

    store: PathText
    """Prepared store."""
    window: str | Window = "self_consistent"
    """Input fields and target: self_consistent, past_state, full_state, no_forcing,
    published_surrogate, published_4dvar, or {inputs, targets, start_h}."""
    network: Network = "UNet3"
    """UNet2 to UNet5, ResNet, PCNN or CNN."""
    width: int = Field(16, ge=1)
    """Channels on the finest grid of the network."""
    network_options: dict[str, bool | int | float] = {}
    """If the network has them: kernel_size (cells, odd), compensation (false: sums are not scaled
    by the number of ocean neighbours), squeeze_excitation (ratio by which it narrows the channels;
    0: none), dropout (share of values set to zero in the encoder)."""
    transport: bool = False
    """Predict a drift as well, which transports the ice from cell to cell."""
    published_network: bool = False
    """Repeat the faults of the published network: land values reach the ocean through pooling and
    batch statistics, CNN and PCNN are linear."""
    loss: Literal["ocean", "published", "crps"] = "ocean"
    """ocean: average over the ocean, weighted by cell area, with a term for the mean error of each
    sample; published: over the whole batch, with land as zero; crps: almost fair CRPS of an
    ensemble, for a network with noise that starts from a trained run."""
    members: int = Field(2, ge=2)
    """Members of each sample, with loss crps."""
    noise_channels: int = Field(4, ge=1)
    """Random fields on each level of a U-Net, with loss crps."""
    noise_memory: float = Field(0.5, ge=0, lt=1)
    """Correlation of the noise of successive steps, with loss crps."""
    noise_intermittency: float = Field(0.0, ge=0, le=1)
    """Standard deviation of the logarithm of the local amplitude of the noise, with loss crps; 0:
    the noise is Gaussian."""
    spectral_weight: float = Field(0.0, ge=0)
    """Weight of the spectral energy score in loss crps; try 1 to 3."""
    global_mean_weight: float = Field(50.0, ge=0)
    """Weight of the global-mean constraint in the loss (lambda)."""
    spread_weight: float = Field(0.0, ge=0)
    """Weight of the standard deviation of the squared errors in the loss (mu)."""
    tikhonov_weight: float = Field(0.0, ge=0)
    """Weight of the mean square of the prediction in the loss (nu)."""
    input_noise: float = Field(0.01, ge=0)
    """Standard deviation of noise on the normalised inputs, in training only."""
    symmetry: Literal["none", "quarter_turns"] = "none"
    """quarter_turns: train on the map turned by a random multiple of 90 degrees."""
    rollout_steps: int = Field(1, ge=1)
    """Successive steps in the loss, with the gradient through all of them."""
    start_from: PathText | None = None
    """Trained run of the same network and window, with whose weights and normalisation the training
    starts."""
    fields_in: Literal["auto", "device", "memory", "store"] = "auto"
    """Where the fields are during training. device: in the memory of the GPU; memory: in the memory
    of the computer; store: read in groups of windows, which changes their order; auto: the first in
    which they fit."""
    preset: Literal["published", "fast"] = "published"
    """Which settings of fit are the defaults. published: those of Durand et al. (2024); fast: 50
    epochs with small batches, a higher rate that falls to zero, and averaged weights, which reach
    the validation loss of the published settings with a fraction of the samples."""
    # The default is validated as well, because it depends on the preset.
    fit: FitConfig = Field(FitConfig(), validate_default=True)
    """How to train."""

    @field_validator("fit", mode="before")
    @classmethod
    def _with_preset(cls, fit, info):
        given = fit.model_dump(exclude_unset=True) if isinstance(fit, FitConfig) else fit
        if info.data.get("preset") != "fast" or not isinstance(given, dict):
            return fit  # pydantic refuses what is wrong
        if all(name in given and given[name] != value for name, value in FAST_FIT.items()):
            raise ValueError(
                "the preset fast has no effect, because all of its settings have other values; "
                "leave them out, or set preset to published"
            )
        return FAST_FIT | given

    @field_validator("window")
    @classmethod
    def _refuse_unknown_window(cls, window):
        if isinstance(window, str):
            find_window(window)
        return window


def window_of(config):
    """The window of a configuration, which is either a name or a complete window."""
    return find_window(config.window) if isinstance(config.window, str) else config.window


class ForecastConfig(Config):
    """What to forecast.

    Given ``starts`` need no truth. Without them, forecasts start at every time of ``split`` from
    which the entire forecast is in the split, so that it can be verified.
    """

    steps: int = Field(60, ge=1)
    """Steps of the surrogate; 60 of 12 h are 30 days."""
    split: Split | None = None
    """Split of the start dates: train, validation or test; null: test, or that of the given
    starts."""
    starts: tuple[str, ...] = ()
    """Start dates such as 2021-03-01T00, or latest for the last state, whether or not the store has
    truth after them; empty: all of the split."""
    every: int = Field(1, ge=1)
    """Use every n-th start date."""
    batch_size: int = Field(64, ge=1)
    """Forecasts (starts times members) at once."""
    members: int = Field(1, ge=1)
    """Members of an ensemble; 1 is a single forecast."""
    perturbation: float | None = Field(None, ge=0)
    """Standard deviation of the perturbations of the initial state, in standard deviations of the
    variable over the training ocean; null: that of the calibration of the run, else 0.1, or 0 for a
    network with noise."""
    noise_gain: Gain | tuple[Gain, ...] | None = None
    """Factor of the noise, or one factor for each level of the network, finest first. 0 means no
    noise; null means the gain of the run's calibration, or 1 without a calibration. A single
    forecast never has noise."""
    noise_memory: float | None = Field(None, ge=0, lt=1)
    """Correlation of the noise of successive steps; null: that of the calibration of the run, else
    that of the training."""
    member_bias: float | None = Field(None, ge=0, le=MAX_BIAS)
    """Standard deviation of the biases of members. A member keeps its bias on the whole map and for
    the whole forecast: with a bias of 0.01, increases of a variable in a cell are 1 % larger and
    decreases 1 % smaller. Velocities have no bias. null: that of the calibration of the run, else
    0."""
    seed: int = Field(0, ge=0)
    """Seed of the perturbations, the noise and the biases."""
    compile: Literal["auto", "always", "never"] = "auto"
    """Compile the network; auto: for long forecasts."""
    store: PathText | None = None
    """Another prepared store on the grid of the run; null: that of the run."""
    output: PathText | None = None
    """Folder for the forecast; null: that of the run or, for another store, RUN_on_STORE beside
    it."""

    @property
    def split_of_starts(self):
        """The split of the start dates if none are given."""
        return self.split or "test"
