"""Networks from which the Gauss-Newton solver starts."""

import numpy as np
import pytest
import torch
from torch.nn.utils import parameters_to_vector

from seaice_lab.emissivity.first_networks import network_of_ice_types, random_network
from seaice_lab.emissivity.ice_types import FIRST_YEAR, NEW, OLD, type_emissivity
from seaice_lab.emissivity.model import EmpiricalState
from seaice_lab.emissivity.observations import prepare
from seaice_lab.emissivity.settings import (
    ModelConfig,
    ObservationsConfig,
    SimulateConfig,
)
from seaice_lab.emissivity.simulate import simulate

SENSORS = ("amsr2", "gmi")


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    torch.set_default_dtype(torch.float32)
    folder = tmp_path_factory.mktemp("case")
    settings = SimulateConfig(sensors=SENSORS, observations=(400, 400), size=16, days=2)
    simulate(settings, folder / "ice", show=False)
    config = ObservationsConfig(data=str(folder / "ice"), sensors=SENSORS)
    observations = prepare(config, folder / "columns", show=False)
    return EmpiricalState(ModelConfig(version=2), observations)


def closest(network, model, emissivity):
    """Emissivity of a network that is closest to a given one, over its gridded properties."""
    grid = torch.linspace(-3, 3, 61)
    properties = torch.cartesian_prod(grid, grid)
    properties = torch.cat([properties, torch.zeros(len(properties), 1)], 1)
    size = len(properties), -1
    inputs = model.frequency[:1].expand(size), model.vertical[None].expand(size)
    cold, zenith = torch.full((size[0], 1), 0.5), torch.full((size[0], 1), 55.0)
    with torch.no_grad():
        values = network(cold, properties, *inputs, zenith).numpy()
    return values[((values - emissivity) ** 2).sum(1).argmin()]


def test_a_network_of_ice_types_has_their_emissivities(model):
    frequency, vertical = model.frequency[0].numpy(), model.vertical.numpy()
    for seed in (0, 1):
        typical, random = network_of_ice_types(model, seed), random_network(model, seed)
        for name in (FIRST_YEAR, OLD, NEW):
            expected = type_emissivity([name], frequency, vertical)
            error, random_error = (
                np.sqrt(((closest(network, model, expected) - expected) ** 2).mean())
                for network in (typical, random)
            )
            assert error < 0.02 < random_error


def test_it_depends_on_the_seed_alone(model):
    state = torch.random.get_rng_state()
    first, again, other = (
        parameters_to_vector(network_of_ice_types(model, seed).parameters()) for seed in (3, 3, 4)
    )
    assert torch.equal(first, again) and not torch.equal(first, other)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert not first.requires_grad
