"""Small files in the documented layouts of observed products, as bytes."""

import tempfile
from datetime import date
from functools import cache

import numpy as np
import xarray as xr

EASE2 = {
    "grid_mapping_name": "lambert_azimuthal_equal_area",
    "longitude_of_projection_origin": 0.0,
    "latitude_of_projection_origin": 90.0,
    "false_easting": 0.0,
    "false_northing": 0.0,
    "semi_major_axis": 6378137.0,
    "inverse_flattening": 298.257223563,
}
POLAR = {
    "grid_mapping_name": "polar_stereographic",
    "latitude_of_projection_origin": 90.0,
    "standard_parallel": 70.0,
    "straight_vertical_longitude_from_pole": -45.0,
    "semi_major_axis": 6378273.0,
    "inverse_flattening": 298.279411123064,
    "false_easting": 0.0,
    "false_northing": 0.0,
}
LAND, LAKE = 1, 2


def content(dataset, **encoding):
    with tempfile.NamedTemporaryFile(suffix=".nc") as file:
        dataset.to_netcdf(file.name, engine="netcdf4", encoding=encoding)
        return file.read()


def plane(cells, spacing_km):
    """Cell centres along y (north at the top) and x, kilometres, and the latitude and longitude."""
    from pyproj import Transformer

    axis = (np.arange(cells) - cells / 2 + 0.5) * spacing_km
    x, y = np.meshgrid(axis * 1e3, -axis * 1e3)
    longitude, latitude = Transformer.from_crs("EPSG:6931", "EPSG:4326", always_xy=True).transform(
        x, y
    )
    attrs = {"units": "km"}
    axes = {
        "xc": ("xc", axis, attrs | {"standard_name": "projection_x_coordinate"}),
        "yc": ("yc", -axis, attrs | {"standard_name": "projection_y_coordinate"}),
        "lat": (("yc", "xc"), latitude.astype("f4"), {"units": "degrees_north"}),
        "lon": (("yc", "xc"), longitude.astype("f4"), {"units": "degrees_east"}),
    }
    return axes


def time_axis(day, hours=12):
    seconds = ((day - date(1978, 1, 1)).days * 24 + hours) * 3600.0
    return {
        "time": ("time", [seconds], {
            "units": "seconds since 1978-01-01 00:00:00", "calendar": "standard", "axis": "T",
            "standard_name": "time", "bounds": "time_bnds",
        }),
        "time_bnds": (("time", "nv"), [[seconds - 43200, seconds + 43200]]),
    }  # fmt: skip


@cache
def osisaf(day, cells=64):
    """Concentration of OSI SAF (product manual of OSI-450-a1, OSI-458 and OSI-438)."""
    dims = ("time", "yc", "xc")
    percent = np.full((1, cells, cells), 30.0 + day.day)
    percent[:, :, :3] = 0
    percent[:, -2:] = np.nan  # land
    flags = np.where(np.isnan(percent), LAND, 0).astype("i1")
    shared = {"grid_mapping": "Lambert_Azimuthal_Grid", "coordinates": "time lat lon"}
    meanings = "land lake open_water_filter land_spill_over high_t2m_flag interpolated_flag"
    fields = {
        "Lambert_Azimuthal_Grid": ((), 0, EASE2),
        "ice_conc": (dims, percent, shared | {
            "standard_name": "sea_ice_area_fraction", "units": "%", "valid_min": 0,
            "valid_max": 10000, "ancillary_variables": "total_standard_uncertainty status_flag",
        }),
        "raw_ice_conc_values": (dims, percent, shared | {"units": "%"}),
        "total_standard_uncertainty": (dims, percent * 0 + 3, shared | {
            "standard_name": "sea_ice_area_fraction standard_error", "units": "%"}),
        "status_flag": (dims, flags, shared | {
            "standard_name": "sea_ice_area_fraction status_flag", "flag_meanings": meanings,
            "flag_masks": np.array([1, 2, 4, 8, 16, 32], "i1"),
        }),
    }  # fmt: skip
    packed = {"dtype": "i4", "scale_factor": 0.01, "add_offset": 0.0, "_FillValue": -32767}
    names = ("ice_conc", "raw_ice_conc_values", "total_standard_uncertainty")
    dataset = xr.Dataset(fields | plane(cells, 25.0) | time_axis(day))
    return content(dataset, **dict.fromkeys(names, packed), status_flag={"_FillValue": None})


@cache
def asi(hole):
    """Concentration of the University of Bremen, without time: land and unseen cells are NaN."""
    x = np.arange(12) * 6250.0 - 34375.0
    y = np.arange(14) * 6250.0 - 40625.0
    values = np.tile(np.linspace(0, 100, 12, dtype="f4"), (14, 1))
    values[:, -1] = np.nan  # land
    values[3, :hole] = np.nan  # not seen on this day
    dataset = xr.Dataset(
        {
            "z": (("y", "x"), values, {
                "long_name": "z", "actual_range": [0.0, 100.0],
                "grid_mapping": "polar_stereographic",
            }),
            "polar_stereographic": ((), 0, POLAR),
        },
        {
            "x": ("x", x, {"long_name": "x"}),
            "y": ("y", y, {"long_name": "y"}),
        },
    )  # fmt: skip
    return content(dataset, z={"_FillValue": np.nan})


@cache
def cs2smos(day, cells=16):
    """Thickness of CS2SMOS, the mean of a week: only where there is ice."""
    dims = ("time", "yc", "xc")
    thickness = np.linspace(0.1, 3, cells * cells).reshape(1, cells, cells)
    thickness[:, : day.day % 5] = np.nan
    shared = {"grid_mapping": "Lambert_Azimuthal_Grid", "coordinates": "time lat lon", "units": "m"}
    fields = {
        "Lambert_Azimuthal_Grid": ((), 0, EASE2),
        "analysis_sea_ice_thickness": (dims, thickness, shared | {
            "standard_name": "sea_ice_thickness",
            "long_name": "CS2SMOS merged sea ice thickness"}),
        "analysis_sea_ice_thickness_unc": (dims, thickness * 0.1, shared),
        "sea_ice_concentration": (dims, thickness * 0 + 90, shared | {"units": "%"}),
    }  # fmt: skip
    packed = {"dtype": "i4", "scale_factor": 1e-3, "_FillValue": -2147483647}
    names = ("analysis_sea_ice_thickness", "analysis_sea_ice_thickness_unc")
    dataset = xr.Dataset(fields | plane(cells, 25.0) | time_axis(day))
    return content(dataset, **dict.fromkeys(names, packed))


@cache
def topaz(day, cells=10):
    """Sea ice of the TOPAZ4b reanalysis on its plane, whose axes have the unit 100 km."""
    from pyproj import CRS, Transformer

    axis = (np.arange(cells) - cells // 2 + 0.3) * 0.125
    sphere = {key: POLAR[key] for key in ("grid_mapping_name", "latitude_of_projection_origin")}
    sphere |= {"straight_vertical_longitude_from_pole": -45.0, "false_easting": 0.0}
    sphere |= {"scale_factor_at_projection_origin": 1.0, "false_northing": 0.0}
    sphere |= {"semi_major_axis": 6378273.0, "semi_minor_axis": 6378273.0}
    to_degrees = Transformer.from_crs(CRS.from_cf(sphere), "EPSG:4326", always_xy=True)
    degrees = to_degrees.transform(*np.meshgrid(axis * 1e5, axis * 1e5))
    longitude, latitude = (values.astype("f4") for values in degrees)
    values = np.linspace(0, 1, cells * cells, dtype="f4").reshape(1, cells, cells)
    values[:, -2:] = np.nan  # land
    shared = {"grid_mapping": "stereographic", "coordinates": "longitude latitude"}
    ice = {
        "siconc": (1, {"standard_name": "sea_ice_area_fraction", "units": "1"}),
        "sithick": (3, {"standard_name": "sea_ice_thickness", "units": "m"}),
        "sisnthick": (0.3, {"standard_name": "surface_snow_thickness", "units": "m"}),
        "vxsi": (0.2, {"standard_name": "sea_ice_x_velocity", "units": "m s-1"}),
        "vysi": (-0.1, {"standard_name": "sea_ice_y_velocity", "units": "m s-1"}),
    }
    dims = ("time", "y", "x")
    fields = {name: (dims, values * size, attrs | shared) for name, (size, attrs) in ice.items()}
    fields["thetao"] = (("time", "depth", "y", "x"), values[:, None], {"units": "degrees_C"})
    fields["stereographic"] = ((), 0, sphere)
    hours = (day - date(1950, 1, 1)).days * 24.0
    attrs = {"units": "100 km"}
    coords = {
        "time": ("time", [hours], {"units": "hours since 1950-01-01 00:00:00", "axis": "T"}),
        "x": ("x", axis, attrs | {"standard_name": "projection_x_coordinate", "axis": "X"}),
        "y": ("y", axis, attrs | {"standard_name": "projection_y_coordinate", "axis": "Y"}),
        "longitude": (("y", "x"), longitude, {"units": "degrees_east"}),
        "latitude": (("y", "x"), latitude, {"units": "degrees_north"}),
        "depth": ("depth", [0.0], {"units": "m"}),
    }
    packed = {"dtype": "i2", "scale_factor": 1e-4, "_FillValue": -32767}
    return content(xr.Dataset(fields, coords), **dict.fromkeys(ice, packed))


@cache
def nsidc0051(day):
    """Concentration of NSIDC-0051 version 2: bytes with flags, named by the sensor."""
    shape = (1, 14, 12)
    values = np.tile(np.linspace(0, 250, 12).astype("u1"), (14, 1)).reshape(shape)
    values[:, 7, 6] = 251  # the hole at the pole
    values[:, :, -1] = 254  # land
    x, y = (np.arange(n) * 25000.0 - n * 12500 + 12500 for n in (12, 14))
    fields = {
        "crs": ((), b"", POLAR | {"long_name": "NSIDC_NH_PolarStereo_25km"}),
        "F17_ICECON": (("time", "y", "x"), values, {
            "long_name": "Sea Ice Concentration", "standard_name": "sea_ice_area_fraction",
            "units": "1", "scale_factor": 0.004, "add_offset": 0.0, "grid_mapping": "crs",
            "valid_range": np.array([0, 250], "u1"),
            "flag_values": np.array([251, 252, 253, 254], "u1"),
            "flag_meanings": "pole_hole_mask unused coast land",
        }),
    }  # fmt: skip
    coords = {
        "time": ("time", [(day - date(1970, 1, 1)).days], {
            "units": "days since 1970-01-01", "calendar": "gregorian", "standard_name": "time"}),
        "x": ("x", x, {"units": "meters", "standard_name": "projection_x_coordinate"}),
        "y": ("y", y[::-1], {"units": "meters", "standard_name": "projection_y_coordinate"}),
    }  # fmt: skip
    return content(xr.Dataset(fields, coords), F17_ICECON={"_FillValue": None})


@cache
def emissivity_month(month):
    """The three files of a month of the data of Geer (2024), version 1, by name."""
    observations, points, days = 20, 5, 3
    rng = np.random.default_rng(int(month))
    first = 2459062.375 + np.sort(rng.random(observations)) * days
    fields = {
        "JULIAN_DAY": ("OBS", first),
        "IGRID": ("OBS", rng.integers(0, points, observations).astype("i4")),
        "TSFC": ("OBS", np.full(observations, 260.0)),
        "WINDSPEED10M": ("OBS", np.full(observations, 5.0)),
        "CLOUD_FRACTION": ("OBS", np.full(observations, 0.5)),
    }
    values = {"OBSVALUE": 220, "EMIS_WATER": 0.5, "TAUSFC": 0.9, "TDOWN": 30, "TUP": 30}
    values |= {"TAUSFC_CLD": 0.8, "TDOWN_CLD": 60, "TUP_CLD": 60}
    channels = (("OBS", "CHANNEL"), (observations, 14))
    fields |= {n: (channels[0], np.full(channels[1], float(v))) for n, v in values.items()}
    positions = {
        "LAT": ("LON", np.linspace(70, 80, points)),
        "LON": ("LON", np.arange(points) * 9.0),
    }
    maps = {
        "seaice": {"SEAICE": ("LON", np.full(points, 0.9))},
        "tsfc_dailyx": {"TSFC": (("LON", "DAY"), np.full((points, days), 260.0))},
    }
    files = {f"amsr2_v2_{month}.nc": content(xr.Dataset(fields))}
    for name, field in maps.items():
        dataset = xr.Dataset(
            field | {key: value for key, value in positions.items() if key == "LAT"}
        )
        dataset = dataset.assign_coords(LON=positions["LON"])
        files[f"ifs_{name}_{month}.nc"] = content(dataset)
    return files
