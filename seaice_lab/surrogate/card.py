"""Model card of a surrogate."""

import re

from seaice_lab import grid, model_card, names, runs
from seaice_lab.errors import InputError
from seaice_lab.parameters import load_yaml
from seaice_lab.surrogate.settings import TrainConfig, window_of
from seaice_lab.surrogate.store import in_split, open_store

NOT_EVALUATED = "Not evaluated yet: run `seaice-lab forecast` and `seaice-lab evaluate`."
EXTENT = "<!-- extent: {starts} start dates, {days} days -->"  # Markdown does not show it
LIMITS = {
    "deterministic": """
- It is deterministic. Long forecasts of such networks lose detail; the exponents of the spectra
  among the scores show how much.""",
    "ensemble": """
- `seaice-lab calibrate` fits its spread to the error of the first variable in single cells and in
  the mean over the ocean, on the validation split. The spread of means over parts of the ocean is
  not fitted and may be too small.
- A member may have too much power at some wavelengths and too little at others; compare its
  spectrum with that of the truth. Scores of the ensemble mean do not show this.""",
}
LOADING = """```python
import seaice_lab

surrogate = seaice_lab.load("{run}")
# state and forcing (batch, channel, y, x) in physical units; their channels in order:
print(surrogate.window.state, surrogate.window.forcing)
next_state = surrogate.step(state, forcing)
```

`seaice-lab forecast {run}` forecasts from a prepared store.
`seaice-lab export {run} model.pt2` writes one file that needs PyTorch only.
The folder must hold `config.yaml`, `provenance.json`, `normalisation.json` and
`weights.safetensors`."""


def write_card(run, scores=None, extent=(0, 0.0)):
    """Write the model card of a trained surrogate, or renew its scores.

    The scores of a larger evaluation, with more start dates or longer forecasts, are kept.

    Parameters
    ----------
    run : str or Path
        Run folder.
    scores : str, optional
        Report of an evaluation.
    extent : (int, float)
        Number of start dates of the scores, and their longest lead time in days.

    Returns
    -------
    Path
    """
    opened = runs.open_run(run, "surrogate")
    starts, days = extent
    evaluated = f"{EXTENT.format(starts=starts, days=days)}\n\n```\n{scores}\n```"
    section = {"Scores": NOT_EVALUATED if scores is None else evaluated}
    card = opened.path / model_card.CARD
    if card.exists():
        kept = _extent(model_card.read_section(card, "Scores"))
        if scores is not None and (starts < kept[0] or days < kept[1]):
            print(
                f"{card} keeps the scores of {_in_words(kept)}, because these are of "
                f"{_in_words(extent)}; remove its section Scores to replace them"
            )
            return card
        return model_card.write_card(run, "", {} if scores is None else section)
    config = TrainConfig.parse(opened.config, opened.path / "config.yaml")
    window = window_of(config)
    predicted = ", ".join(names.variable(name).long_name for name in window.variables)
    forcing = ", ".join(dict.fromkeys(name for name, _ in window.forcing)) or "no forcing"
    summary = (
        f"Surrogate of a sea-ice model. From the present state and {forcing}, this "
        f"{config.network} computes the state {window.step_h:g} hours later: {predicted}."
    )
    data, limits = _describe_store(config.store)
    limits += LIMITS["ensemble" if config.loss == "crps" else "deterministic"]
    sections = {"Data": data, "Configuration": model_card.describe_configuration(opened)}
    sections |= section | {"Limits": limits, "How to load it": LOADING.format(run=run)}
    return model_card.write_card(run, summary, sections)


def _extent(section):
    """Number of start dates and longest lead time in days of scores on a card; 0 if not known."""
    pattern = EXTENT.format(starts=r"(\d+)", days=r"(\d+(?:\.\d+)?)")
    match = re.search(pattern, section)
    return (int(match[1]), float(match[2])) if match else (0, 0.0)


def _in_words(extent):
    starts, days = extent
    text = f"{starts} start date{'' if starts == 1 else 's'}"
    return f"{text} and {names.in_days(days)}" if days else text


def _describe_store(path):
    """The datasets of a prepared store, and what follows from them for the use of the network."""
    try:
        store = open_store(path)
    except InputError:
        return (
            f"The prepared store `{path}`, which is not here any more.",
            "- The training data are unknown.",
        )
    prepared = load_yaml(store.attrs.get("configuration", "{}"))
    datasets = dict.fromkeys(filter(None, [prepared.get("state"), prepared.get("forcing")]))
    data = "\n".join(model_card.describe_dataset(name) for name in datasets)
    times = store.time.values[in_split(store, "train")]
    # Separate runs are stored one after another, and may overlap in time.
    period = f"{len(times)} records from {str(times.min())[:10]} to {str(times.max())[:10]}"
    spacing_km = grid.spacing_m(store) / 1e3
    cells = f"{store.sizes['y']} x {store.sizes['x']} cells of {spacing_km:.3g} km"
    limits = (
        f"- It was trained with {period}. Other seasons, periods and models are outside its "
        "training data.\n"
        f"- It works on its own grid only: {cells}."
    )
    return f"{data}\n\nTraining split: {period}, on {cells}.", limits
