"""Settings of an assimilation."""

from typing import Literal

from pydantic import Field

from seaice_lab.config import Config, PathText


class ObservationFilesConfig(Config):
    """How to read files of observations, and what to do with the values."""

    variable: str | None = Field(
        None, description="Variable to read; null: the first one of the documented order."
    )
    kind: Literal["sit", "sit_of_ice", "sic", "snt"] | None = Field(
        None,
        description="Kind of the values; sit: thickness as volume per cell area, sit_of_ice: per "
        "area of ice; null: that of the product.",
    )
    sigma: float | None = Field(
        None, gt=0, description="Standard error where the file has none, m or from 0 to 1."
    )
    time: str | None = Field(None, description="Time of the values of a file that has none.")
    period_h: float | None = Field(
        None, ge=0, description="Hours of the mean, around its time, if the file has no bounds."
    )
    snow_m: float | None = Field(
        None, ge=0, description="Snow thickness on ice for freeboard, if the file has none."
    )
    snow_error_m: float = Field(0.1, ge=0, description="Standard error of the snow thickness.")
    snow_density: float = Field(320.0, gt=0, lt=900, description="Density of snow, kg m-3.")
    ice_density: float = Field(
        900.0, gt=800, lt=1000, description="Density of ice, kg m-3; 917 first-year, 882 older ice."
    )
    ice_density_error: float = Field(20.0, ge=0, description="Standard error of this density.")
    thin_km: float | None = Field(
        None, ge=0, description="Distance of observations; null: the correlation length of errors."
    )
    cells_of: PathText | None = Field(
        None, description="Prepared store: values are averaged in each of its cells; null: not."
    )
    representation_error: float = Field(
        0.0, ge=0, description="Error of such a mean that does not fall with the number of values."
    )
    track_error: float = Field(
        0.0, ge=0, description="Error of such a mean that all values of a track share."
    )
