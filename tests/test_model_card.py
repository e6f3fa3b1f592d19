"""The model card beside the weights: written by a training, renewed by an evaluation."""

import pytest
import torch
import yaml
from conftest import ENTRY, wave_run, write_catalogue
from published import build, observations

from seaice_lab import model_card, runs
from seaice_lab.config import FitConfig
from seaice_lab.emissivity import card as emissivity_card
from seaice_lab.emissivity.settings import EmissivityConfig
from seaice_lab.surrogate import card as surrogate_card
from seaice_lab.surrogate.evaluation import evaluate
from seaice_lab.surrogate.forecast import forecast
from seaice_lab.surrogate.prepare import prepare
from seaice_lab.surrogate.settings import ForecastConfig, PrepareConfig, TrainConfig
from seaice_lab.surrogate.train import train


def sections_of(run):
    text = (run / "README.md").read_text()
    start, *sections = text.split("\n## ")
    return start, dict(section.split("\n\n", 1) for section in sections)


def test_the_card_of_a_surrogate_and_its_scores(waves, tmp_path, capsys):
    wave_run(start="2010-02-01").to_netcdf(waves / "train_1.nc")  # later than the other run
    store = prepare(PrepareConfig(state="waves"), tmp_path / "waves.zarr", show=False)
    fit = FitConfig(epochs=1, batch_size=8, compile="never")
    config = TrainConfig(store=str(store), width=4, fit=fit)
    run = train(config, tmp_path / "r", show=False)
    # A training that was killed between its last epoch and the card writes it later.
    (run / "README.md").unlink()
    train(config, run, show=False)
    start, sections = sections_of(run)
    assert start.startswith("# r\n") and "Sea-ice thickness" in start
    assert "`waves`: Waves of ice. Source: made by the tests. Licence: CC0." in sections["Data"]
    assert "48 records from 2010-01-01 to 2010-02-06" in sections["Data"]
    assert "32 x 32 cells of 25.6 km" in sections["Data"]
    text = sections["Configuration"].split("```")[1].removeprefix("yaml\n")
    assert yaml.safe_load(text) == runs.open_run(run).config
    assert "Not evaluated" in sections["Scores"] and "deterministic" in sections["Limits"]
    # the code of the card runs
    names = {"state": torch.ones(1, 1, 32, 32), "forcing": torch.ones(1, 9, 32, 32)}
    exec(sections["How to load it"].split("```")[1].removeprefix("python\n"), names)
    assert names["next_state"].shape == (1, 1, 32, 32)

    notes = "\n## Notes\n\nMine.\n```\n## Scores of nobody\n## Scores of nobody\n```\n"
    with (run / "README.md").open("a") as file:
        file.write(notes)
    forecast(run, ForecastConfig(steps=2), show=False)
    evaluate(run, show=False)
    text = (run / "README.md").read_text()
    assert text.endswith(notes)
    assert (
        "sit: scores over" in text
        and "exponent" in text
        and "Not evaluated" not in text
        and text.count("## Scores\n") == 1
    )
    capsys.readouterr()
    scores = model_card.read_section(run / "README.md", "Scores")
    count = int(scores.split(" start dates; RMSE")[0].split()[-1])
    smaller = {
        (count - 1, 1.0): f"{count - 1} start dates and 1 day;",
        (count, 0.9): f"{count} start dates and 0.9 days;",
    }
    for extent, words in smaller.items():
        surrogate_card.write_card(run, "smaller", extent)
        assert (run / "README.md").read_text() == text
        said = capsys.readouterr().out
        assert f"of {count} start dates and 1 day, because" in said and words in said
    surrogate_card.write_card(run, "larger", (count + 1, 1.0))
    assert "\nlarger\n" in model_card.read_section(run / "README.md", "Scores")


def test_a_dataset_has_its_doi_or_is_said_to_be_unknown(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_catalogue(tmp_path, {"waves": ENTRY | {"doi": "10.1/2"}})
    assert "(doi [10.1/2](https://doi.org/10.1/2))" in model_card.describe_dataset("waves")
    assert "not in the catalogue any more" in model_card.describe_dataset("other")


@pytest.mark.parametrize("case", ["v1_linear", "v2_imagers"])
def test_the_card_of_an_emissivity_model(case, tmp_path):
    columns = observations(case, tmp_path)
    model = build(case, columns, "pert")
    config = EmissivityConfig(data="data/ice", model=model.config)
    run = runs.create(tmp_path / "run", config, "emissivity")
    emissivity_card.write_card(run, model, columns, "channel 10v: 1 K")
    start, sections = sections_of(run)
    assert "3 empirical properties" in start
    assert "amsr2" in sections["Data"] and "2020-07-01 to 2020-07" in sections["Data"]
    assert "channel 10v: 1 K" in sections["Scores"]
    assert ("not bounded" in sections["Limits"]) == (case == "v1_linear")
    emissivity_card.write_card(run, model, columns, "channel 10v: 2 K")
    assert sections_of(run)[1] == sections | {"Scores": sections["Scores"].replace("1 K", "2 K")}
