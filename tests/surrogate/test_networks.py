"""Networks against the published implementation (Durand et al. 2024), and the rule of land."""

import pytest
import torch
import torch.nn.functional as F
from keras_weights import error, image, load, manifest, parameters, read

from seaice_lab.errors import InputError
from seaice_lab.surrogate.networks import UNet, build_network


@pytest.fixture(scope="module")
def arrays():
    return read("model_UNet3")


def published_unet3(arrays):
    """The published network of width 4 with its published weights, in double precision."""
    torch.set_default_dtype(torch.float64)
    try:
        ocean = torch.from_numpy(arrays["mask"]) > 0
        return load(build_network("UNet3", ocean, 10, 1, 4, published=True), arrays)
    finally:
        torch.set_default_dtype(torch.float32)


def test_forecast_is_the_published_one_in_double_precision(arrays):
    network = published_unet3(arrays).eval()
    reference = image(arrays["y_inference_float64"])
    assert error(network(image(arrays["x"])), reference) < 1e-13


def test_forecast_is_the_published_one_in_single_precision(arrays):
    network = published_unet3(arrays).eval().float()
    y = network(image(arrays["x"]).float())
    assert error(y, image(arrays["y_inference"])) < 3e-6


def test_every_layer_gives_what_the_published_layer_gives(arrays):
    network = published_unet3(arrays).eval()
    found = {}
    roles = [layer["role"] for layer in manifest("UNet3")["layers"]]
    for role in roles:
        network.get_submodule(role).register_forward_hook(
            lambda module, x, y, role=role: found.update({role: y})
        )
    network(image(arrays["x"]))
    assert list(found) == roles
    for role in roles:
        assert error(found[role], image(arrays[f"act/{role}"])) < 3e-6, role


def test_training_forward_and_running_statistics_are_the_published_ones(arrays):
    network = published_unet3(arrays).train()
    assert error(network(image(arrays["x"])), image(arrays["y_training"])) < 1e-5
    statistics = parameters(arrays, "after_training_forward")
    assert len(statistics) == 10
    for name, reference in statistics.items():
        assert error(network.state_dict()[name], reference) < 1e-6, name


@pytest.mark.parametrize(
    ("name", "width", "weights", "statistics"),
    [
        ("UNet2", 16, 497_777, 320),
        ("UNet3", 16, 594_897, 448),
        ("UNet4", 16, 908_945, 704),
        ("UNet5", 16, 3_639_057, 1_472),
        ("UNet3", 32, 2_374_049, 896),
    ],
)
def test_networks_have_the_published_number_of_weights(name, width, weights, statistics):
    network = build_network(name, torch.ones(16, 16, dtype=torch.bool), 10, 1, width)
    assert sum(p.numel() for p in network.parameters()) == weights
    # Only weights and statistics are stored, no masks: a weights file fits any grid.
    assert sum(v.numel() for v in network.state_dict().values()) == weights + statistics


def test_weights_of_one_grid_load_on_another():
    small = UNet(torch.ones(8, 8, dtype=torch.bool), 2, width=2)
    large = UNet(island(16, 24), 2, width=2)
    torch.nn.init.normal_(small.head.weight)
    large.load_state_dict(small.state_dict(), strict=True)
    assert torch.equal(large.head.weight, small.head.weight)


def test_unknown_network_is_refused_with_the_known_ones():
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
    """A network whose every weight, biases and head included, is drawn at random."""
    torch.manual_seed(0)
    network = UNet(ocean, 3, width=4, **options)
    for name, weight in network.named_parameters():
        if name.endswith("bias") or name == "head.weight":
            torch.nn.init.normal_(weight, std=0.5)
    return network


def test_new_network_predicts_zero_increments():
    network = UNet(island(16, 16), 3)
    assert torch.equal(network(torch.randn(2, 3, 16, 16)), torch.zeros(2, 1, 16, 16))


@pytest.mark.parametrize("training", [True, False])
def test_nothing_on_land_reaches_the_ocean(training):
    ocean = island(16, 24)
    network = random_unet(ocean).train(training)
    x = torch.randn(2, 3, *ocean.shape, generator=torch.Generator().manual_seed(1))
    reference = network(x)
    statistics = {k: v.clone() for k, v in network.state_dict().items()}
    for strange in (1e6, float("nan"), float("inf")):
        network.load_state_dict(random_unet(ocean).state_dict())
        disturbed = torch.where(ocean, x, strange).requires_grad_()
        y = network(disturbed)
        assert torch.equal(y, reference)
        assert (y[..., ~ocean] == 0).all()
        for name, value in network.state_dict().items():
            assert torch.equal(value, statistics[name]), name
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
    eager, traced = random_unet(ocean), random_unet(ocean)
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
