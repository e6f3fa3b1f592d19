"""Settings of an assimilation: observations, what to analyse, its errors, and the minimisation."""

from typing import Literal

from pydantic import Field, model_validator

from seaice_lab.config import Config, PathText
from seaice_lab.surrogate.settings import Split

DENSITY = {"unit": "kg m-3"}


class ObservationFilesConfig(Config):
    """How to read files of observations, and what to do with the values."""

    variable: str | None = None
    """Variable to read; null: the first variable with errors, else the first one, of
    weighted_mean_sea_ice_thickness, analysis_sea_ice_thickness, cryosat_sea_ice_thickness,
    smos_sea_ice_thickness, sea_ice_thickness, radar_freeboard, beam_fb_height, ice_conc,
    raw_ice_conc_values, seaice, and the standard name sea_ice_area_fraction."""
    kind: Literal["sit", "sit_of_ice", "sic"] | None = None
    """Kind of the values; sit: thickness as volume per cell area, sit_of_ice: per area of ice;
    null: the kind of the product. It must be a kind of the variable to read."""
    sigma: float | None = Field(None, gt=0)
    """Standard deviation of the errors, for files without errors; in m, or from 0 to 1 for a
    concentration."""
    time: str | None = None
    """Time of the values, for files without times; files with times are refused."""
    period_h: float | None = Field(None, ge=0)
    """Period of a mean, centred on its time, if the file has no time bounds; 0: the values are
    instantaneous."""
    smoothing_km: float = Field(0.0, ge=0)
    """Standard deviation of the Gaussian filter that made a smooth map out of the values of its
    cells; the states are filtered like the map. 0: no filter."""
    snow_m: float | None = Field(None, ge=0)
    """Snow thickness for the conversion of freeboard to ice thickness where the file has none. An
    error of 0.1 m is assumed where the file has no error of the snow thickness."""
    snow_density: float = Field(320.0, gt=0, lt=900, json_schema_extra=DENSITY)
    """Density of snow."""
    ice_density: float = Field(900.0, gt=800, lt=1000, json_schema_extra=DENSITY)
    """Density of ice (error: 20 kg m-3); 917 for first-year ice, 882 for multi-year ice."""
    thin_km: float | None = Field(None, ge=0)
    """Smallest distance between observations of one kind and source; closer ones are rejected.
    null: the correlation length of their errors."""
    cells_of: PathText | None = None
    """Prepared store, in each of whose cells the observations of a day are averaged
    (superobservations); null: no averages."""
    representation_error: float = Field(0.0, ge=0)
    """Representation error of a superobservation, which does not decrease with the number of its
    values, in m or from 0 to 1; for observations of one variable."""
    track_error: float = Field(0.0, ge=0)
    """Error of a superobservation that all values of a track have in common, in m or from 0 to 1;
    for observations of one variable."""

    @model_validator(mode="after")
    def _refuse_errors_of_means_without_cells(self):
        names = [name for name in ("representation_error", "track_error") if getattr(self, name)]
        if names and self.cells_of is None:
            raise ValueError(
                f"cells_of is null, expected a prepared store with {' and '.join(names)}, which "
                "count only for means in its cells; give cells_of, or set them to 0"
            )
        return self


class BackgroundConfig(Config):
    """The first background, and the covariance B of the errors of all backgrounds."""

    first: str = "start"
    """Background of the first window. start: the state of the store at the start; mean: the mean of
    the training states; a time: the state of the store at that time."""
    std: float | dict[str, float] = 0.3
    """Standard deviation of the errors, in standard deviations of each variable over the training
    ocean; or by variable, in its unit, such as {sit: 0.3}."""
    pattern: Literal["constant", "training"] = "constant"
    """constant: std is the same in all cells; training: it is proportional to the standard
    deviation of the training states in each cell, and std is its root mean square."""
    length_km: float = Field(150.0, ge=0)
    """Correlation length (Daley) of the errors, through water only; 0: B is diagonal."""
    ensemble_weight: float = Field(0.0, ge=0, le=1)
    """Hybrid: share of B that is the localised covariance of up to 50 training states, with the
    root mean square of the standard deviations given by std; the rest has the correlation of
    length_km. 0: no hybrid."""
    localisation_km: float = Field(300.0, gt=0)
    """Length of the localisation of a hybrid (Daley): the covariance of the training states falls
    to 0.6 of its value at this distance, through water only."""
    normalisation_probes: int | None = Field(400, ge=10)
    """Random vectors from which the variance of the diffusion is estimated; null: it is computed
    exactly, which is slow."""


class MinimiserConfig(Config):
    """How to minimise the cost."""

    method: Literal["lbfgs", "incremental"] = "lbfgs"
    """lbfgs: minimise the cost itself; incremental: minimise linearised costs."""
    iterations: int = Field(40, ge=1)
    """Largest number of iterations of L-BFGS, or of the conjugate gradients for each linearised
    cost."""
    gradient: float = Field(1e-2, gt=0, lt=1)
    """Stop when the gradient is this fraction of the gradient at the background."""
    bounds: Literal["clipped", "smooth"] = "clipped"
    """Physical bounds of the analysis. clipped: values beyond are set to the bound; smooth: the
    increment is added to a transformed variable, which stays within the bounds."""
    precision: Literal["float32", "float64"] = "float32"
    """Precision of the network; all else is float64."""
    segment: int = Field(1, ge=0)
    """Steps that are computed again at a time for a gradient, so that only their activations are in
    memory; 0: all activations are kept, which is faster."""


class AssimilationConfig(Config):
    """A cycle of assimilation windows, each of which continues the analysis of the one before."""

    run: PathText
    """Run folder of a trained surrogate."""
    store: PathText | None = None
    """Another prepared store on the grid of the run; null: that of the run."""
    split: Split | None = None
    """Split that contains the times, if several series of the store have them."""
    observations: tuple[PathText, ...] = ()
    """Tables of observations; empty: a free run, without observations."""
    start: str
    """Start of the first window, such as 2021-03-01T00."""
    windows: int = Field(1, ge=1)
    """Number of windows."""
    window_steps: int = Field(32, ge=1)
    """Steps of the surrogate in a window; 32 of 12 h are 16 days."""
    shift_steps: int | None = Field(None, ge=1)
    """Steps from one window to the next; null: windows do not overlap. Observations in an overlap
    are used twice."""
    forecast_steps: int = Field(20, ge=0)
    """Steps of the forecast from the end of each window; 0: none."""
    background: BackgroundConfig = BackgroundConfig()
    """First background, and errors of all backgrounds."""
    minimiser: MinimiserConfig = MinimiserConfig()
    """How to minimise the cost."""
    model_error_steps: int | None = Field(None, ge=1)
    """Weak constraint: steps of the intervals of a window, in each of which the surrogate has a
    constant error; the standard deviation and the correlation length are those of its forecast
    errors in the validation split. null: strong constraint, the surrogate has no errors."""
    background_check: float | None = Field(5.0, gt=0)
    """An observation is rejected if its departure from the background is more than this number
    times sqrt(sigma_o^2 + sigma_b^2), where 20 random perturbations of the background give sigma_b;
    null: no check, and sigma_b is unknown."""
    huber: float | None = Field(None, gt=0)
    """Departure in standard deviations beyond which the cost grows linearly, such as 2; null: the
    cost is quadratic."""
    signal_probes: int = Field(0, ge=0)
    """Random vectors from which the degrees of freedom for signal are estimated; 0: no estimate."""
    seed: int = Field(0, ge=0)
    """Seed of the random vectors."""

    @model_validator(mode="after")
    def _refuse_gaps_and_unequal_intervals(self):
        if self.shift_steps is not None and self.shift_steps > self.window_steps:
            raise ValueError(
                f"shift_steps is {self.shift_steps}, expected at most window_steps, "
                f"{self.window_steps}: the next window starts within or at the end of this one"
            )
        if self.model_error_steps and self.window_steps % self.model_error_steps:
            raise ValueError(
                f"model_error_steps is {self.model_error_steps}, expected a divisor of "
                f"window_steps, {self.window_steps}, because the intervals of a window are equal"
            )
        return self

    @property
    def intervals(self):
        """Number of intervals of a window with a constant model error; 0: strong constraint."""
        return self.window_steps // self.model_error_steps if self.model_error_steps else 0

    @property
    def shift(self):
        """Steps from one window to the next."""
        return self.shift_steps or self.window_steps
