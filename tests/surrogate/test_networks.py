"""Networks against the published implementation (Durand et al. 2024), and the rule of land."""

from typing import get_args

import pytest
import torch
import torch.nn.functional as F
from keras_weights import error, image, manifest, parameters, published_network, read

from seaice_lab.errors import InputError
from seaice_lab.surrogate.networks import OPTIONS, UNet, build_network, check_options
from seaice_lab.surrogate.settings import Network
from seaice_lab.surrogate.wrappers import PastChanges, Transport

MODELS = {
    "UNet2": {},
    "UNet3": {},
    "UNet3_B": {},
    "UNet3_nocomp": {"compensation": False},
    "UNet3_k5": {"kernel_size": 5},
    "UNet3_SE2": {"squeeze_excitation": 2},
    "UNet4": {},
    "UNet5": {},
    "CNN": {},
    "PCNN": {},
    "ResNet": {"kernel_size": 3, "width": (4, 6, 8)},
}


@pytest.fixture(scope="module")
def arrays():
    return read("model_UNet3")


def published(model, arrays):
    """One of MODELS with its published weights."""
    outputs = arrays["y_inference"].shape[-1]
    return published_network(model.split("_")[0], arrays, None, outputs, **MODELS[model])


@pytest.mark.parametrize("model", MODELS)
def test_every_published_network_in_inference_and_training(model):
    arrays = read(f"model_{model}")
    network = published(model, arrays).eval()
    x = image(arrays["x"])
    assert error(network(x), image(arrays["y_inference"])) < 1e-5
    if "y_inference_float64" in arrays:
        assert error(network(x), image(arrays["y_inference_float64"])) < 1e-13
    assert error(network.float()(x.float()), image(arrays["y_inference"])) < 1e-5
    counts = manifest(model)
    assert sum(p.numel() for p in network.parameters()) == counts["n_trainable"]
    if "y_training" in arrays:
        network = network.double().train()
        # float32 limit of the published training mode, with statistics of a batch of two
        assert error(network(x), image(arrays["y_training"])) < 2e-5
        statistics = parameters(arrays, "after_training_forward")
        assert sum(value.numel() for value in statistics.values()) == counts["n_non_trainable"]
        for name, reference in statistics.items():
            assert error(network.state_dict()[name], reference) < 1e-5, name


def test_every_layer_gives_what_the_published_layer_gives(arrays):
    network = published("UNet3", arrays).eval()
    outputs = {}
    roles = [layer["role"] for layer in manifest("UNet3")["layers"]]
    for role in roles:
        network.get_submodule(role).register_forward_hook(
            lambda module, x, y, role=role: outputs.update({role: y})
        )
    network(image(arrays["x"]))
    assert list(outputs) == roles
    for role in roles:
        assert error(outputs[role], image(arrays[f"act/{role}"])) < 3e-6, role


@pytest.mark.parametrize(
    ("name", "width", "weights", "statistics"),
    [
        ("UNet2", 16, 497_777, 320),
        ("UNet3", 16, 594_897, 448),
        ("UNet4", 16, 908_945, 704),
        ("UNet5", 16, 3_639_057, 1_472),
        ("UNet3", 32, 2_374_049, 896),
        ("CNN", 16, 780_945, 0),
        ("PCNN", 16, 780_945, 0),
        ("PCNN", 32, 3_119_393, 0),
        ("ResNet", 16, 459_777, 768),
    ],
)
def test_networks_have_the_published_number_of_weights(name, width, weights, statistics):
    network = build_network(name, torch.ones(16, 16, dtype=torch.bool), 10, 1, width)
    assert sum(p.numel() for p in network.parameters()) == weights
    # Only weights and statistics are stored, no masks: a weights file fits any grid.
    assert sum(v.numel() for v in network.state_dict().values()) == weights + statistics


@pytest.mark.parametrize(
    ("options", "weights"),
    [({"squeeze_excitation": 2}, 632_105), ({"squeeze_excitation": 4}, 613_701)],
)
def test_squeeze_excitation_has_the_published_number_of_weights(options, weights):
    network = build_network("UNet3", torch.ones(16, 16, dtype=torch.bool), 10, **options)
    assert sum(p.numel() for p in network.parameters()) == weights


def test_residual_network_of_kernel_three_has_the_published_number_of_weights():
    network = build_network("ResNet", torch.ones(8, 8, dtype=torch.bool), 10, kernel_size=3)
    assert sum(p.numel() for p in network.parameters()) == 173_057


def test_default_chains_are_not_linear_and_published_ones_are():
    ocean = island(16, 16)
    x, z = torch.randn(2, 1, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    for name in ("CNN", "PCNN"):
        for is_published in (True, False):
            network = random_network(name, ocean, published=is_published)
            zero = network(torch.zeros_like(x))
            sum_of_parts = network(x) + network(z) - zero
            linear = torch.allclose(network(x + z), sum_of_parts, rtol=1e-3, atol=1e-3)
            assert linear == is_published, name


def test_blocks_of_the_residual_network_start_as_the_identity():
    network = build_network("ResNet", island(16, 16), 3, width=4)
    x = torch.randn(2, 16, 16, 16)
    assert torch.equal(network.block3(x), torch.zeros_like(x))


def test_equal_kernels_start_with_different_numbers():
    network = build_network("UNet3", island(16, 16), 3)
    assert not torch.equal(network.enc1.conv1.weight, network.enc1.conv2.weight)


def test_dropout_acts_in_training_only():
    network = build_network("UNet3", island(16, 16), 3, width=4, dropout=0.5)
    torch.nn.init.normal_(network.head.weight)
    x = torch.randn(1, 3, 16, 16)
    network.train()
    assert not torch.equal(network(x), network(x))
    network.eval()
    assert torch.equal(network(x), network(x))


def test_an_option_that_a_network_lacks_is_refused():
    ocean = torch.ones(8, 8, dtype=torch.bool)
    with pytest.raises(InputError, match="dropout: ResNet has no such option"):
        build_network("ResNet", ocean, 2, dropout=0.1)
    with pytest.raises(InputError, match="squeeze_excitation: found a ratio of 0.3, expected 1"):
        build_network("UNet3", ocean, 2, squeeze_excitation=0.3)


def test_weights_of_one_grid_load_on_another():
    small = UNet(torch.ones(8, 8, dtype=torch.bool), 2, width=2)
    large = UNet(island(16, 24), 2, width=2)
    torch.nn.init.normal_(small.head.weight)
    large.load_state_dict(small.state_dict(), strict=True)
    assert torch.equal(large.head.weight, small.head.weight)


def test_unknown_network_is_refused_with_the_known_ones():
    assert get_args(Network) == tuple(OPTIONS)
    with pytest.raises(InputError, match="found 'unet', expected one of UNet2, UNet3"):
        build_network("unet", torch.ones(8, 8, dtype=torch.bool), 2)


def test_data_of_another_grid_are_refused():
    network = UNet(torch.ones(8, 8, dtype=torch.bool), 1, width=2)
    with pytest.raises(InputError, match=r"found a grid of \(8, 12\), expected \(8, 8\)"):
        network(torch.zeros(1, 1, 8, 12))


def island(ny, nx):
    """An irregular half-sea mask, without a cell of sea at most edges."""
    ocean = torch.ones(ny, nx, dtype=torch.bool)
    ocean[: ny // 3, : nx // 2] = False
    ocean[ny // 2 + 1 : ny // 2 + 4, nx // 4 : nx - 2] = False
    ocean[2, 1] = True
    return ocean


def random_unet(ocean, **options):
    return random_network("UNet3", ocean, **options)


def random_network(name, ocean, **options):
    """A network whose every weight, biases and head included, is drawn at random."""
    torch.manual_seed(0)
    network = build_network(name, ocean, 3, width=4, **options)
    for name, weight in network.named_parameters():
        if name.endswith("bias") or name == "head.weight":
            torch.nn.init.normal_(weight, std=0.5)
    return network


def test_new_network_predicts_zero_increments():
    network = UNet(island(16, 16), 3)
    assert torch.equal(network(torch.randn(2, 3, 16, 16)), torch.zeros(2, 1, 16, 16))


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("UNet2", {}),
        ("UNet3", {"squeeze_excitation": 2}),
        ("UNet4", {"compensation": False}),
        ("UNet3", {"kernel_size": 5}),
        ("ResNet", {}),
        ("PCNN", {}),
        ("CNN", {}),
    ],
)
def test_nothing_on_land_reaches_the_ocean(name, options, training):
    ocean = island(16, 24)

    def fresh():
        return random_network(name, ocean, **options).train(training)

    network = fresh()
    x = torch.randn(2, 3, *ocean.shape, generator=torch.Generator().manual_seed(1))
    reference = network(x)
    statistics = {k: v.clone() for k, v in network.state_dict().items()}
    for strange in (1e6, float("nan"), float("inf")):
        network.load_state_dict(fresh().state_dict())
        disturbed = torch.where(ocean, x, strange).requires_grad_()
        y = network(disturbed)
        assert torch.equal(y, reference)
        assert (y[..., ~ocean] == 0).all()
        for key, value in network.state_dict().items():
            assert torch.equal(value, statistics[key]), key
        gradient = torch.autograd.grad(y.square().sum(), disturbed)[0]
        assert (gradient[..., ~ocean] == 0).all()
        assert gradient.isfinite().all()


@pytest.mark.parametrize("training", [True, False])
def test_land_around_the_domain_changes_nothing(training):
    """The edge of the domain is a coast, and statistics and pooling see the sea alone."""
    ocean = island(16, 24)
    frame = (8, 12, 4, 8)
    x = torch.randn(2, 3, *ocean.shape, generator=torch.Generator().manual_seed(1))
    y = random_unet(ocean).train(training)(x)
    framed = random_unet(F.pad(ocean, frame)).train(training)(F.pad(x, frame))
    torch.testing.assert_close(framed[..., 4:-8, 8:-12], y, rtol=1e-4, atol=1e-5)


def test_published_form_does_feel_land_around_the_domain():
    ocean = island(16, 24)
    frame = (8, 12, 4, 8)
    x = torch.randn(2, 3, *ocean.shape, generator=torch.Generator().manual_seed(1))
    y = random_unet(ocean, published=True)(x)
    framed = random_unet(F.pad(ocean, frame), published=True)(F.pad(x, frame))
    assert (framed[..., 4:-8, 8:-12] - y)[..., ocean].abs().max() > 0.01


def test_bfloat16_stays_near_float32_through_forward_and_backward():
    ocean = island(16, 24)
    x = torch.randn(4, 3, *ocean.shape, generator=torch.Generator().manual_seed(1))
    wide, narrow = random_unet(ocean), random_unet(ocean)
    exact = wide(x)
    with torch.autocast("cpu", torch.bfloat16):
        y = narrow(x)
    assert error(y, exact) < 0.06
    exact.square().sum().backward()
    y.square().sum().backward()
    gradients = [torch.cat([p.grad.flatten() for p in n.parameters()]) for n in (wide, narrow)]
    assert F.cosine_similarity(*gradients, dim=0) > 0.98
    for name in ("enc1.bn.running_var", "mid.bn.running_var"):
        assert error(narrow.state_dict()[name], wide.state_dict()[name]) < 0.02


def test_traced_network_gives_the_numbers_statistics_and_gradients_of_the_eager_one():
    """Traced with all that torch.compile does short of generating code, which takes long."""
    ocean = island(16, 24)
    eager, traced = (random_network("UNet2", ocean) for _ in range(2))
    x = torch.randn(2, 3, *ocean.shape, generator=torch.Generator().manual_seed(1))
    y = eager(x)
    z = torch.compile(traced, backend="aot_eager_decomp_partition", fullgraph=True)(x)
    assert error(z, y) < 1e-5
    y.square().sum().backward()
    z.square().sum().backward()
    for (name, a), b in zip(traced.named_parameters(), eager.parameters(), strict=True):
        assert error(a.grad, b.grad) < 1e-4, name
    for name, value in eager.state_dict().items():
        torch.testing.assert_close(traced.state_dict()[name], value, rtol=1e-5, atol=1e-6)


def random_transport(ocean):
    """A drift alone, drawn at random, that carries one field."""
    torch.manual_seed(0)
    network = build_network("UNet3", ocean, 3, 3, width=4)
    torch.nn.init.normal_(network.head.weight, std=0.3)
    network.head.weight.data[0] = 0
    return Transport(network, [(0, 0, 2.0, 20.0)])


def test_a_drift_neither_makes_nor_loses_ice_and_moves_none_onto_land():
    ocean = island(16, 24)
    x = torch.randn(2, 3, *ocean.shape, generator=torch.Generator().manual_seed(1))
    y = random_transport(ocean)(torch.where(ocean, x, torch.nan))
    assert y.abs().max() > 0.1
    assert (y[..., ~ocean] == 0).all()
    assert y.double().sum((1, 2, 3)).abs().max() < 1e-4


def test_a_uniform_drift_moves_a_smooth_field_by_its_length():
    """A wave carried a quarter of a cell along x, to the order of the scheme."""
    ocean = torch.ones(8, 64, dtype=torch.bool)
    column = torch.arange(64.0)
    wave = torch.sin(2 * torch.pi * (column - 0.25) / 32) - torch.sin(2 * torch.pi * column / 32)

    class Constant(torch.nn.Module):
        def forward(self, x):
            drift = torch.zeros(len(x), 3, 8, 64)
            drift[:, 1] = 2.5  # tenths of a cell
            return drift

    network = Constant()
    network.ocean = ocean
    x = torch.sin(2 * torch.pi * column / 32).expand(1, 1, 8, 64)
    y = Transport(network, [(0, 0, 5.0, 1.0)])(x)
    assert error(y[0, 0, 4, 2:-2], wave[2:-2]) < 0.03


def test_a_network_with_drift_starts_as_persistence():
    network = Transport(build_network("UNet3", island(16, 16), 3, 3), [(0, 0, 2.0, 20.0)])
    assert torch.equal(network(torch.randn(2, 3, 16, 16)), torch.zeros(2, 1, 16, 16))


def test_past_states_reach_a_network_as_changes_and_nothing_reaches_it_from_land():
    ocean, inputs_of_network = island(16, 16), []
    inner = build_network("UNet3", ocean, 4, width=4).eval()
    torch.nn.init.normal_(inner.head.weight, std=0.3)
    inner.register_forward_pre_hook(lambda _, inputs: inputs_of_network.append(inputs[0]))
    network = PastChanges(inner, [(1, 0, 40.0), (2, 1, 40.0)])
    x = torch.randn(2, 4, 16, 16, generator=torch.Generator().manual_seed(1))
    y = network(x)
    changes = 40 * (x[:, 0] - x[:, 1]), 40 * (x[:, 1] - x[:, 2])
    torch.testing.assert_close(inputs_of_network[0], torch.stack([x[:, 0], *changes, x[:, 3]], 1))
    elsewhere = network(torch.where(ocean, x, torch.nan))
    assert torch.equal(elsewhere[..., ocean], y[..., ocean])


WRONG_OPTIONS = {
    "an option of no network": (
        "UNet3",
        {"kernal_size": 5},
        r"kernal_size: .* kernel_size = 3, comp",
    ),
    "a setting of its own": ("UNet3", {"width": 8}, "width: UNet3 has no .*settings of their own"),
    "of another network": ("ResNet", {"dropout": 0.1}, r"has no such option \(its options are ker"),
    "an even window": ("UNet3", {"kernel_size": 4}, "kernel_size is 4, expected an odd number"),
    "a part of a cell": ("CNN", {"kernel_size": 2.5}, "kernel_size is 2.5, expected an odd"),
    "a negative window": ("CNN", {"kernel_size": -3}, "kernel_size is -3, expected an odd"),
    "a switch as a number": (
        "UNet3",
        {"kernel_size": True},
        "kernel_size is True, expected an odd",
    ),
    "text": ("UNet3", {"compensation": "no"}, "compensation is 'no', expected true or false"),
    "a number as a switch": ("UNet3", {"compensation": 3}, "compensation is 3, expected true or"),
    "everything dropped": ("UNet3", {"dropout": 1.0}, "dropout is 1.0, expected a fraction"),
    "no finite ratio": (
        "UNet3",
        {"squeeze_excitation": float("inf")},
        "is inf, expected 0 or a ratio",
    ),
}


@pytest.mark.parametrize("case", WRONG_OPTIONS)
def test_wrong_options_are_refused_in_a_sentence(case):
    network, options, message = WRONG_OPTIONS[case]
    with pytest.raises(InputError, match=f"^network_options: .*{message}") as caught:
        check_options(network, options)
    assert "\n" not in str(caught.value)


def test_a_whole_number_may_be_written_with_a_point():
    network = build_network("CNN", torch.ones(8, 8, dtype=torch.bool), 1, width=1, kernel_size=3.0)
    assert network.conv1.weight.shape[-1] == 3
