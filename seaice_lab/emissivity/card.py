"""Model card of an emissivity model."""

import numpy as np

from seaice_lab import model_card, runs

EPOCH_JULIAN_DAY = 2440587.5  # 1970-01-01 00 UTC
LOADING = """```python
import torch
from seaice_lab.emissivity.export import EmissivityModel
from seaice_lab.emissivity.run import load

model = EmissivityModel.from_state(*load("{run}"))
skin_temperature, properties = torch.tensor([250.0]), torch.zeros(1, {properties})
print(model.for_channels(skin_temperature, properties, {channels}))
```

`seaice-lab emissivity export {run} --coefficients FILE --table FILE` writes the model
for Fortran and C, and as a lookup table.
`seaice-lab emissivity infer {run} --data DIR --output RUN` estimates other days with it.
The folder must hold `config.yaml`, `provenance.json`, `weights.safetensors` and
`observations/`."""


def write_card(run, model, observations, scores):
    """Write the model card of a trained emissivity model, or renew its scores.

    Parameters
    ----------
    run : str or Path
        Run folder.
    model : EmpiricalState
    observations : Observations
    scores : str
        Report of the departures after training.

    Returns
    -------
    Path
    """
    opened, config, instruments = runs.open_run(run), model.config, observations.instruments
    days = (observations.step_days[[0, -1]] - EPOCH_JULIAN_DAY).round().astype("int64")
    first, last = days.astype("datetime64[D]")
    sensors, channels = ", ".join(instruments.sensors), list(instruments.channels)
    frequency = instruments.frequency_ghz
    interval = f"{np.nanmin(frequency):g} to {np.nanmax(frequency):g} GHz"
    data = (
        f"{observations.size} observations of {sensors} at {model.points} grid points, {first} to "
        f"{last}, from `{opened.config['data']}`. The files hold neither licence nor doi: those of "
        "their source apply."
    )
    limits = (
        f"- It was trained with {sensors}, {interval}, {first} to {last}. Other frequencies, "
        "seasons and regions are outside its training data.\n"
        "- The empirical properties have no unit and belong to this training; do not mix those of "
        "two trainings.\n"
    )
    if not (config.zenith_input or config.nadir):
        limits += "- It does not use the zenith angle: it holds at the angles of its sensors.\n"
    if config.network != "frequency":
        limits += "- It holds for the channels of its training only.\n"
    if config.network == "linear":
        limits += "- The linear network is not bounded: emissivities above 1 are possible.\n"
    loading = LOADING.format(run=run, properties=model.network_properties, channels=channels[:2])
    sections = {
        "Data": data,
        "Method": "Geer (2024), doi [10.1029/2023MS004080](https://doi.org/10.1029/2023MS004080), "
        f"version {config.version}.",
        "Configuration": model_card.describe_configuration(opened),
        "Scores": f"Observed minus simulated, after the training:\n\n```\n{scores}\n```",
        "Limits": limits,
        "How to load it": loading,
    }
    summary = (
        f"Emissivity of sea ice, {interval}, from skin temperature and "
        f"{model.network_properties} empirical properties, trained together with the concentration."
    )
    if (opened.path / model_card.CARD).exists():
        sections = {"Scores": sections["Scores"]}
    return model_card.write_card(run, summary, sections)
