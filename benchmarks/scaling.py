"""Time the scaling diagnostics in processor seconds, and what they flag.

python benchmarks/scaling.py [--starts 4] [--leads 60]

Drift and thickness are those of the bundled sample. The table of 20 starts and 60 lead times is
extrapolated from a few starts, because its time is proportional to their number.
"""

import argparse
import resource
import time
from glob import glob

import numpy as np
import xarray as xr

from seaice_lab.diagnostics import deformation, frames, moments, scaling

DX_M = 25e3
TAILS = {"gradient": 0.009, "increment": 0.05}
FLAGGED = ("zeta", "beta", "tail_weight", "feature_length")


def main():
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--starts", type=int, default=4, choices=range(2, 8), help="runs to use")
    parser.add_argument("--leads", type=int, default=60)
    options = parser.parse_args()
    runs = [open_run(path) for path in sorted(glob("data/sample/*.nc"))[: options.starts]]
    data, mask, ocean = runs[-1]

    def rates_and_moments():
        gradients = deformation.velocity_gradients(data.siu, data.siv, mask, DX_M)
        return moments.scaling_exponents(moments.box_moments(gradients, DX_M, "gradient"))

    seconds = min(processor_seconds(rates_and_moments) for _ in range(3))
    count = data.sizes["time"]
    print(
        f"rates, 5 scales, 4 positions, 6 moments of {count} frames: {seconds:.2f} s (goal: 0.7 s)"
    )

    sums = {"truth": [], "forecast": [], "persistence": [], "blurred": [], "phase_randomised": []}
    began = time.process_time()
    for run in runs:
        for name, each in sums_of(run, options.leads).items():
            sums[name].append(
                {k: v.expand_dims(init_time=[len(sums[name])]) for k, v in each.items()}
            )
    per_start = (time.process_time() - began) / len(runs)
    joined = {
        name: {key: xr.concat([e[key] for e in each], "init_time", join="outer") for key in each[0]}
        for name, each in sums.items()
    }
    began = time.process_time()
    table = scaling.compare(joined)
    rest = time.process_time() - began
    total = 20 * per_start + rest
    print(
        f"one start, {options.leads} lead times: {per_start:.1f} s; exponents and bootstrap: "
        f"{rest:.1f} s; 20 starts: {total:.0f} s of one core (goal: 240 s, or 2 min on 2 cores)"
    )
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    print(f"largest memory {memory:.1f} GB")
    for source in ("persistence", "blurred", "phase_randomised"):
        row = table.sel(source=source)
        texts = []
        for name in FLAGGED:
            value = row[f"{name}_significance"]
            for dim, at in (("q", 1.0), ("increment", 1)):
                value = value.sel({dim: at}) if dim in value.dims else value
            texts.append(f"{name} {float(value):+.1f}")
        print(f"{source}, difference from the truth in standard errors: {', '.join(texts)}")


def open_run(path):
    """Fields, ice mask and ocean of a run."""
    data = xr.open_dataset(path)[["sit", "sic", "siu", "siv", "mask"]].load()
    ocean = data["mask"] == 1
    return data, deformation.ice_mask(ocean, data.sic).transpose("time", "y", "x"), ocean


def sums_of(run, leads):
    """Sums of all sources for a start at the first time of a run, as in a scored forecast."""
    data, mask, ocean = run
    data, mask = (values.isel(time=slice(leads)) for values in (data, mask))
    step = np.timedelta64(6, "h").astype("timedelta64[ns]")
    lead_time = np.arange(data.sizes["time"]) * step
    data, mask = (
        v.rename(time="lead_time").assign_coords(lead_time=lead_time) for v in (data, mask)
    )
    truth = data[["sit", "siu", "siv"]]
    few = np.unique(np.linspace(0, len(lead_time) - 1, 12).astype(int))
    some, cells = truth.isel(lead_time=few), mask.isel(lead_time=few)
    random = frames.phase_randomised(list(some.values()), cells)
    sources = {
        "truth": truth,
        "forecast": truth,
        "persistence": truth.isel(lead_time=0 * few).assign_coords(lead_time=some.lead_time),
        "blurred": some.map(lambda field: frames.blurred(field, cells), keep_attrs=True),
        "phase_randomised": xr.Dataset(dict(zip(truth, random, strict=True))),
    }
    return {
        name: scaling.frame_sums(
            fields,
            mask.sel(lead_time=fields.lead_time),
            ocean & (data.sic.min("lead_time") > 0.8),
            DX_M,
            TAILS,
        )
        for name, fields in sources.items()
    }


def processor_seconds(function):
    """Processor time of one call."""
    began = time.process_time()
    function()
    return time.process_time() - began


if __name__ == "__main__":
    main()
