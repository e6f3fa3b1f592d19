"""Layers against the published implementation (Durand et al. 2024) and closed forms."""

import pytest
import torch
import torch.nn.functional as F
from keras_weights import error, image, read

from seaice_lab.errors import InputError
from seaice_lab.surrogate.layers import (
    OceanBatchNorm2d,
    OceanMaxPool2d,
    PartialConv2d,
    mish,
    ocean_pyramid,
    upsample,
    window_ratio,
    zero_on_land,
)

COAST = torch.tensor(
    [
        [1, 1, 1, 1, 0, 0],
        [1, 1, 1, 0, 0, 0],
        [1, 1, 1, 1, 0, 1],
        [1, 1, 1, 1, 0, 0],
    ]
).bool()


@pytest.fixture(scope="module")
def published():
    return read("pconv")


@pytest.fixture
def double():
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def published_layer(arrays, mask, k, compensation, activation=None):
    kernel = torch.from_numpy(arrays[f"{mask}/k{k}/kernel"]).double().permute(3, 2, 0, 1)
    ocean = torch.from_numpy(arrays[f"{mask}/mask"]) > 0
    layer = PartialConv2d(3, 5, ocean, k, activation, compensation, published=True)
    bias = torch.from_numpy(arrays[f"{mask}/k{k}/bias"]).double()
    layer.load_state_dict({"weight": kernel, "bias": bias})
    return layer


@pytest.mark.usefixtures("double")
@pytest.mark.parametrize("compensation", [True, False])
@pytest.mark.parametrize("k", [1, 3, 5])
@pytest.mark.parametrize("mask", ["A", "C"])
def test_partial_convolution_and_its_gradients_are_the_published_ones(
    published, mask, k, compensation
):
    layer = published_layer(published, mask, k, compensation)
    x = image(published[f"{mask}/x"]).requires_grad_()
    y = layer(x)
    (y * image(published[f"{mask}/k{k}/cotangent"])).sum().backward()
    case = f"{mask}/k{k}/oc{int(compensation)}"
    kernel_gradient = torch.from_numpy(published[f"{case}/grad_kernel"]).permute(3, 2, 0, 1)

    # The limit is the rounding of the published float32 run; ours is in double precision.
    assert error(layer.ratio, torch.from_numpy(published[f"{case}/ratio"])) < 1e-7
    assert error(y, image(published[f"{case}/y"])) < 1e-6
    assert error(x.grad, image(published[f"{case}/grad_x"])) < 1e-6
    assert error(layer.weight.grad, kernel_gradient) < 1e-6
    assert error(layer.bias.grad, torch.from_numpy(published[f"{case}/grad_bias"])) < 2e-6


@pytest.mark.usefixtures("double")
@pytest.mark.parametrize("mask", ["A", "C"])
def test_activation_follows_the_bias_and_the_bias_follows_the_factor(published, mask):
    x = image(published[f"{mask}/x"])
    with_mish = published_layer(published, mask, 3, True, activation=mish)
    assert error(with_mish(x), image(published[f"{mask}/k3/oc1/y_mish"])) < 1e-6
    without_bias = published_layer(published, mask, 3, True)
    torch.nn.init.zeros_(without_bias.bias)
    assert error(without_bias(x), image(published[f"{mask}/k3/oc1/y_nobias"])) < 1e-6


def test_factor_is_the_inverse_of_the_fraction_of_the_window_that_is_sea():
    ratio = window_ratio(COAST, 3)
    assert ratio[1, 1] == 1  # open sea
    assert ratio[2, 5] == 9  # a lake of one cell
    assert ratio[0, 0] == 9 / 4  # a corner: cells outside the image count as land
    assert ratio[0, 1] == 9 / 6  # an edge
    assert ratio[2, 3] == torch.tensor(9 / 5)  # a coast
    assert (ratio[~COAST] == 0).all()
    assert torch.equal(window_ratio(COAST, 3, compensation=False), COAST.float())


@pytest.mark.parametrize("k", [1, 3, 5])
def test_default_convolution_is_the_published_one_at_sea_and_zero_on_land(k):
    torch.manual_seed(0)
    ours = PartialConv2d(3, 4, COAST, k)
    published = PartialConv2d(3, 4, COAST, k, published=True)
    torch.nn.init.normal_(ours.bias)
    published.load_state_dict(ours.state_dict())
    x = torch.randn(2, 3, *COAST.shape)
    y = ours(zero_on_land(x, COAST))
    assert torch.equal(y[..., COAST], published(x)[..., COAST])
    assert (y[..., ~COAST] == 0).all()
    assert torch.allclose(published(x)[0, :, ~COAST], mish(ours.bias)[:, None])


def test_kernels_start_as_a_truncated_normal_of_the_he_variance():
    torch.manual_seed(0)
    kernel = PartialConv2d(50, 400, COAST).weight
    sigma = (2 / (50 * 9)) ** 0.5
    assert kernel.std().item() == pytest.approx(sigma, rel=0.005)
    assert kernel.abs().max().item() == pytest.approx(2 * sigma / 0.87962566, rel=1e-3)


def test_even_windows_are_refused():
    with pytest.raises(InputError, match="kernel_size: found 4, expected an odd number"):
        PartialConv2d(1, 1, COAST, kernel_size=4)


def test_mish_is_one_operation_unless_a_compiler_fuses_its_parts():
    operations = {}

    def keep(name, graph):
        operations[name] = {str(node.target) for node in graph.nodes if node.op == "call_function"}

    def backend(module, example_inputs):
        keep("compiled", module.graph)
        return module.forward

    class Layer(torch.nn.Module):
        def forward(self, x):
            return mish(x)

    x = torch.randn(3)
    torch.compile(mish, backend=backend)(x)
    keep("exported", torch.export.export(Layer(), (x,)).graph)
    assert not any("mish" in name for name in operations["compiled"])
    assert operations["exported"] == {"aten.mish.default"}


@pytest.mark.parametrize("form", [mish, torch.compile(mish, backend="eager")])
def test_mish_and_its_gradient_are_those_of_the_definition(form):
    """Also as traced, where the form with one exponential is in force."""
    x = torch.cat([torch.linspace(-60, 60, 401), torch.tensor([-1e4, 0.0, 1e4])]).double()
    ours, reference = x.clone().requires_grad_(), x.clone().requires_grad_()
    y = form(ours)
    y.sum().backward()
    expected = reference * torch.tanh(F.softplus(reference, threshold=700))
    expected.sum().backward()
    torch.testing.assert_close(y, expected, rtol=1e-13, atol=1e-24)
    torch.testing.assert_close(ours.grad, reference.grad, rtol=1e-13, atol=1e-14)
    assert form(torch.tensor([-1e4, 0.0, 1e4])).tolist() == [0, 0, 1e4]


def test_batch_norm_over_an_all_ocean_grid_is_that_of_torch():
    torch.manual_seed(0)
    everywhere = torch.ones(6, 8, dtype=torch.bool)
    ours = OceanBatchNorm2d(3, everywhere)
    reference = torch.nn.BatchNorm2d(3, eps=1e-3, momentum=0.01)
    for _ in range(3):
        x = 2 + 3 * torch.randn(4, 3, 6, 8)
        torch.testing.assert_close(ours(x), reference(x), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(ours.running_mean, reference.running_mean)
    torch.testing.assert_close(ours.running_var, reference.running_var)
    torch.testing.assert_close(ours.eval()(x), reference.eval()(x))


def test_batch_norm_counts_ocean_cells_only():
    torch.manual_seed(0)
    ours = OceanBatchNorm2d(3, COAST)
    reference = torch.nn.BatchNorm1d(3, eps=1e-3, momentum=0.01)
    for norm in (ours, reference):
        norm.load_state_dict({"weight": torch.rand(3), "bias": torch.rand(3)}, strict=False)
    reference.weight.data, reference.bias.data = ours.weight.data, ours.bias.data
    x = zero_on_land(2 + 3 * torch.randn(4, 3, *COAST.shape), COAST).requires_grad_()
    cotangent = torch.randn_like(x)
    y = ours(x)
    gradient = torch.autograd.grad((y * cotangent).sum(), x)[0]

    table = x.detach().permute(0, 2, 3, 1)[:, COAST].reshape(-1, 3).requires_grad_()
    table_cotangent = cotangent.permute(0, 2, 3, 1)[:, COAST].reshape(-1, 3)
    expected = reference(table)
    expected_gradient = torch.autograd.grad((expected * table_cotangent).sum(), table)[0]

    def at_sea(field):
        return field.permute(0, 2, 3, 1)[:, COAST].reshape(-1, 3)

    torch.testing.assert_close(at_sea(y), expected)
    torch.testing.assert_close(at_sea(gradient), expected_gradient)
    torch.testing.assert_close(ours.running_mean, reference.running_mean)
    torch.testing.assert_close(ours.running_var, reference.running_var)
    assert (y[..., ~COAST] == 0).all()


def test_batch_norm_keeps_its_digits_when_the_mean_is_large_against_the_spread():
    torch.manual_seed(0)
    norm = OceanBatchNorm2d(1, COAST)
    x = zero_on_land(1000 + torch.randn(8, 1, *COAST.shape), COAST)
    y = norm(x)[..., COAST]
    exact = x.double()[..., COAST]
    exact = (exact - exact.mean()) / (exact.var(correction=0) + 1e-3).sqrt()
    assert (y - exact).abs().max() < 5e-4  # the rounding of 1000 in float32 is 6e-5


def test_batch_statistics_of_bfloat16_fields_are_float32():
    torch.manual_seed(0)
    x = zero_on_land(torch.randn(8, 2, *COAST.shape), COAST).bfloat16()
    narrow, wide = OceanBatchNorm2d(2, COAST), OceanBatchNorm2d(2, COAST)
    assert torch.equal(narrow(x), wide(x.float()))
    assert torch.equal(narrow.running_var, wide.running_var)


def test_pooling_takes_the_largest_ocean_child_and_never_land():
    pool = OceanMaxPool2d(COAST)
    x = -1 - torch.arange(24.0).reshape(1, 1, 4, 6)
    y = pool(zero_on_land(x, COAST))
    assert y.tolist() == [[[[-1, -3, 0], [-13, -15, -18]]]]


def test_gradient_of_pooling_reaches_no_land():
    x = zero_on_land(-torch.rand(1, 1, *COAST.shape), COAST).requires_grad_()
    OceanMaxPool2d(COAST)(x).sum().backward()
    assert (x.grad[..., ~COAST] == 0).all()
    assert x.grad.sum() == 5  # five of the six coarse cells hold sea


@pytest.mark.parametrize("published", [True, False])
def test_layers_keep_the_channels_last_layout(published):
    """Lost, every following convolution reorders its input, and the network slows down."""
    layout = torch.channels_last
    x = zero_on_land(torch.randn(2, 3, *COAST.shape), COAST).to(memory_format=layout)
    x = PartialConv2d(3, 5, COAST, published=published).to(memory_format=layout)(x)
    assert x.is_contiguous(memory_format=layout)
    assert OceanBatchNorm2d(5, COAST)(x).is_contiguous(memory_format=layout)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_upsampling_repeats_each_cell(layout):
    x = torch.randn(2, 3, 4, 5).to(memory_format=layout)
    assert torch.equal(upsample(x), F.interpolate(x, scale_factor=2, mode="nearest"))


def test_coarse_cell_is_ocean_if_any_child_is():
    masks = ocean_pyramid(COAST, 1)
    assert torch.equal(masks[0], COAST)
    assert masks[1].tolist() == [[True, True, False], [True, True, True]]


def test_grid_that_cannot_be_halved_is_refused_with_the_crop_that_would_do():
    ocean = torch.ones(603, 528, dtype=torch.bool)
    with pytest.raises(InputError, match="603 x 528.*divisible by 4; crop it to 600 x 528"):
        ocean_pyramid(ocean, 2)


@pytest.mark.parametrize(
    ("ocean", "message"),
    [
        (COAST.float(), "found 2 dimensions of torch.float32"),
        (COAST[None], "found 3 dimensions of torch.bool"),
        (torch.zeros(4, 4, dtype=torch.bool), "no cell is sea"),
    ],
)
def test_masks_that_are_no_masks_are_refused(ocean, message):
    with pytest.raises(InputError, match=message):
        ocean_pyramid(ocean, 1)


def test_compiled_layers_give_the_numbers_statistics_and_gradients_of_eager_ones():
    def layers():
        torch.manual_seed(0)
        return torch.nn.Sequential(PartialConv2d(2, 3, COAST), OceanBatchNorm2d(3, COAST))

    eager, compiled = layers(), layers()
    x = zero_on_land(3 + torch.randn(2, 2, *COAST.shape), COAST)
    cotangent = torch.randn(2, 3, *COAST.shape)
    for run in (eager, torch.compile(compiled)):
        (run(x) * cotangent).sum().backward()
    assert eager[1].running_mean.abs().min() > 0.001
    for (name, a), b in zip(compiled.named_parameters(), eager.parameters(), strict=True):
        assert error(a.grad, b.grad) < 1e-5, name
    for name, value in eager.state_dict().items():
        torch.testing.assert_close(compiled.state_dict()[name], value)
