"""Covariances of background errors: adjoint, normalised, and never across land."""

import numpy as np
import pytest
from scipy.sparse.linalg import aslinearoperator
from scipy.special import gamma, kv

from seaice_lab.assimilation import background, diffusion
from seaice_lab.errors import InputError

SIDES = (25e3, 25e3)


def two_seas(ny=16, nx=21):
    """Two seas on both sides of an isthmus one cell wide, and an island with a bay."""
    ocean = np.ones((ny, nx), bool)
    ocean[:, 10] = False
    ocean[4:8, 3] = ocean[8, 3:6] = False
    return ocean


def uneven_sides(ocean):
    rng = np.random.default_rng(3)
    return tuple(25e3 * (1 + 0.3 * rng.random(ocean.shape)) for _ in range(2))


def roots():
    """One square root of each kind, on two variables of the same sea."""
    ocean, rng = two_seas(), np.random.default_rng(1)
    cells = int(ocean.sum())
    one = diffusion.covariance(ocean, uneven_sides(ocean), 80e3, rng.random(cells), probes=50)
    other = diffusion.covariance(ocean, SIDES, 120e3 * (0.5 + rng.random(ocean.shape)), probes=50)
    static = background.block_diagonal([one, other])
    members = background.ensemble(rng.standard_normal((5, 2, cells)), other)
    return {
        "diagonal": background.diagonal(rng.random(2 * cells)),
        "eofs": background.scaled_eofs(rng.standard_normal((9, 2 * cells)), 8),
        "diffusion": static,
        "ensemble": members,
        "hybrid": background.weighted_sum([0.7, 0.3], [static, members]),
    }


ROOTS = roots()


@pytest.mark.parametrize("kind", ROOTS)
def test_square_root_and_adjoint_agree_in_the_dot_product_and_give_a_symmetric_covariance(kind):
    root, rng = ROOTS[kind], np.random.default_rng(0)
    v, x = (rng.standard_normal((length, 2)) for length in root.shape[::-1])
    left, right = ((root @ v) * x).sum(0), (v * (root.H @ x)).sum(0)
    scale = np.linalg.norm(root @ v, axis=0) * np.linalg.norm(x, axis=0)
    assert (np.abs(left - right) < 1e-12 * scale).all()
    np.testing.assert_array_equal(root @ v[:, 0], (root @ v[:, :1])[:, 0])
    a, b = x.T
    ab, ba = a @ (root @ (root.H @ b)), b @ (root @ (root.H @ a))
    assert abs(ab - ba) < 1e-12 * np.abs(root.H @ a) @ np.abs(root.H @ b)
    assert a @ (root @ (root.H @ a)) > 0


def test_the_correlation_has_variance_one_everywhere_and_stops_at_an_isthmus():
    ocean = two_seas()
    root = diffusion.covariance(ocean, uneven_sides(ocean), 100e3)
    np.testing.assert_allclose(background.variance(root), 1, rtol=1e-12)
    columns = root @ (root.H @ np.eye(root.shape[0]))
    west = np.broadcast_to(np.arange(ocean.shape[1]) < 10, ocean.shape)[ocean]
    assert (columns[np.ix_(west, ~west)] == 0).all()
    # On the same side of the isthmus, neighbours at the same distance are correlated.
    numbers = np.full(ocean.shape, -1)
    numbers[ocean] = np.arange(root.shape[0])
    assert columns[numbers[5, 9], numbers[5, 7]] > 0.5
    # Around the island the way is longer than across it.
    assert columns[numbers[6, 2], numbers[6, 4]] < columns[numbers[13, 2], numbers[13, 4]]


def test_the_randomised_normalisation_has_the_error_of_its_number_of_probes():
    ocean = two_seas()
    root = diffusion.covariance(ocean, SIDES, 80e3, probes=800)
    error = np.sqrt(background.variance(root)) - 1
    assert error.std() < 1.3 / np.sqrt(2 * 800)


def test_the_correlation_in_open_water_is_the_matern_function():
    ocean, order, daley = np.ones((81, 81), bool), 8, 6.0
    _, step = diffusion.implicit_step(ocean, (1.0, 1.0), daley / np.sqrt(2 * order - 4))
    centre, column = 40 * 81 + 40, np.zeros(ocean.size)
    column[centre] = 1
    column = step**order @ column
    correlation = column.reshape(81, 81)[40, 40:60] / column[centre]
    # Weaver and Mirouze (2013): c(r) = 2^(1-nu) / Gamma(nu) (r/l)^nu K_nu(r/l), nu = M - 1.
    nu, r = order - 1, np.arange(1, 20) / (daley / np.sqrt(2 * order - 4))
    matern = 2 ** (1 - nu) / gamma(nu) * r**nu * kv(nu, r)
    np.testing.assert_allclose(correlation[1:], matern, atol=0.02)


def test_diffusion_keeps_the_mean_and_a_constant():
    ocean = two_seas()
    area, step = diffusion.implicit_step(ocean, uneven_sides(ocean), 60e3)
    ones = np.ones(ocean.sum())
    np.testing.assert_allclose(step @ ones, ones, rtol=1e-12)
    field = np.random.default_rng(0).random(ones.size)
    mean = area @ field
    assert abs(area @ (step @ field) - mean) < 1e-12 * mean


def test_scaled_eofs_give_the_sample_covariance():
    fields = np.random.default_rng(0).standard_normal((7, 12))
    root = background.scaled_eofs(fields, 6)
    covariance = root @ (root.H @ np.eye(12))
    np.testing.assert_allclose(covariance, np.cov(fields.T), atol=1e-12)


def test_an_ensemble_without_localisation_gives_its_sample_covariance():
    members = np.random.default_rng(0).standard_normal((6, 2, 5))
    everywhere_alike = aslinearoperator(np.ones((5, 1)))
    root = background.ensemble(members, everywhere_alike)
    covariance = root @ (root.H @ np.eye(10))
    np.testing.assert_allclose(covariance, np.cov(members.reshape(6, 10).T), atol=1e-12)


def test_forecast_differences_give_the_standard_deviation_of_their_errors():
    rng = np.random.default_rng(0)
    later, earlier = 0.3 * rng.standard_normal((2, 4000, 20))
    std = background.std_of_differences(later, earlier)
    np.testing.assert_allclose(std, 0.3, rtol=0.06)
    _, smoothing = diffusion.implicit_step(np.ones((4, 5), bool), (1.0, 1.0), 3.0)
    smooth = background.std_of_differences(later, earlier, smoothing)
    assert smooth.std() < 0.5 * std.std()


@pytest.mark.parametrize(
    ("message", "call"),
    [
        ("standard deviation is negative", lambda: background.diagonal([1.0, -0.1])),
        ("all are 0", lambda: background.diagonal([0.0, 0.0])),
        ("not positive", lambda: diffusion.covariance(two_seas(), SIDES, 0.0)),
        ("even number", lambda: diffusion.covariance(two_seas(), SIDES, 1e5, order=5)),
        ("at most 3 patterns", lambda: background.scaled_eofs(np.eye(4), 4)),
        ("do not vary", lambda: background.std_of_differences(np.ones((3, 4)), np.zeros((3, 4)))),
        (
            "2 cells, expected at least 2",
            lambda: background.ensemble(np.ones((1, 1, 2)), background.diagonal(np.ones(2))),
        ),
        (
            "equal states",
            lambda: background.weighted_sum(
                [1, 1], [background.diagonal(np.ones(2)), background.diagonal(np.ones(3))]
            ),
        ),
    ],
)
def test_wrong_covariances_are_refused_in_one_sentence(message, call):
    with pytest.raises(InputError, match=message):
        call()
