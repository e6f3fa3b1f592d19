"""The Gauss-Newton solver: exact derivatives, the published cost, ice that is known."""

import math

import pytest
import torch
import xarray as xr
from published import batch, build, observations

from seaice_lab.emissivity import evaluation, gauss_newton, infer, least_squares
from seaice_lab.emissivity.autoregression import autoregressive_precision
from seaice_lab.emissivity.gauss_newton import solve
from seaice_lab.emissivity.gauss_newton_step import solve_concentration
from seaice_lab.emissivity.jacobian import linearise
from seaice_lab.emissivity.least_squares import State, get_state, network_of
from seaice_lab.emissivity.model import EmpiricalState
from seaice_lab.emissivity.networks import FrequencyEmissivity, LinearEmissivity
from seaice_lab.emissivity.normal_equations import (
    assemble,
    is_bilinear,
    sums_of_squares,
)
from seaice_lab.emissivity.observations import prepare
from seaice_lab.emissivity.sampling import (
    certain_background,
    release_contradicted,
    subsample_months,
)
from seaice_lab.emissivity.settings import (
    PUBLISHED_COST,
    ModelConfig,
    ObservationsConfig,
    SimulateConfig,
    SolveConfig,
)
from seaice_lab.emissivity.simulate import simulate
from seaice_lab.errors import InputError


@pytest.fixture(autouse=True)
def double():
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


@pytest.mark.parametrize(
    "network",
    [
        LinearEmissivity(3, 10),
        FrequencyEmissivity(3),
        FrequencyEmissivity(3, zenith_input=True),
        FrequencyEmissivity(3, nadir=True),
    ],
    ids=["linear", "frequency", "zenith", "nadir"],
)
def test_derivatives_of_the_networks(network):
    network = network.double()
    torch.manual_seed(0)
    known = (torch.rand(6, 1), torch.randn(6, 3), 90 * torch.rand(6, 10), torch.rand(6, 10),
             50 * torch.rand(6, 1))  # fmt: skip
    emissivity, by_property, by_weight = network.linearised(*known)
    torch.testing.assert_close(emissivity, network(*known))
    whole = torch.func.jacrev(lambda p: network(known[0], p, *known[2:]))(known[1])
    torch.testing.assert_close(by_property, torch.stack([whole[at, :, at] for at in range(6)]))
    weights = dict(network.named_parameters())
    each = torch.func.jacrev(lambda w: torch.func.functional_call(network, w, known))(weights)
    torch.testing.assert_close(by_weight, torch.cat([each[name].flatten(2) for name in weights], 2))
    *less, nothing = network.linearised(*known, with_weights=False)
    assert nothing is None
    torch.testing.assert_close(less, [emissivity, by_property])


def make_problem(case, folder):
    """A published case around its perturbed state, in double precision."""
    seen = observations(case, folder)
    model = build(case, seen, "pert").double()
    problem = least_squares.build_problem(model, seen, SolveConfig(**PUBLISHED_COST))
    problem = problem._replace(
        index=problem.index.clone(),
        scalars=problem.scalars.double(),
        channels=problem.channels.double(),
        emissivity_limit_weight=least_squares.emissivity_limit_weight(model),
    )
    return seen, model, problem, get_state(model)


@pytest.mark.parametrize("case", ["v1_linear", "v2_imagers", "v2_crosstrack"])
def test_its_cost_is_that_of_the_training(case, tmp_path):
    seen, model, problem, state = make_problem(case, tmp_path)
    ours = assemble(problem, state).cost.sum() / seen.size
    part = batch(seen)
    part = part._replace(scalars=part.scalars.double(), channels=part.channels.double())
    model.config = model.config.model_copy(update={"batch_independent": True})
    with torch.no_grad():
        terms = model.eval()(*model.map_values(part), *part[1:])
        expected = terms["observation"] + model.map_costs(epoch=0)["sea_ice"]
        if model.anchor is not None:
            expected += terms["emissivity"]
        expected += (state.properties**2).sum() / seen.size
        expected += (state.observation_properties**2).sum() / seen.size
    assert ours.item() == pytest.approx(expected.item(), rel=1e-9)


@pytest.mark.parametrize("case", ["v1_linear", "v2_imagers", "v2_crosstrack"])
def test_derivatives_of_the_departures(case, tmp_path):
    _, model, problem, state = make_problem(case, tmp_path)
    rows = slice(0, 40)
    network = network_of(model, state.weights)
    cell, jacobian = linearise(problem, state, network, rows, with_weights=True)
    moved, step = torch.randn(3, generator=torch.Generator().manual_seed(0)), 1e-6
    properties = torch.randn_like(state.properties)
    own = torch.randn_like(state.observation_properties)
    weights = torch.randn_like(state.weights)

    def at(size):
        trial = State(
            state.sea_ice + size * moved[0],
            state.properties + size * properties,
            state.observation_properties + size * own,
            state.weights + size * weights,
        )
        network = network_of(model, trial.weights)
        return linearise(problem, trial, network, rows, with_weights=False)[1][..., -1]

    numeric = (at(step) - at(-step)) / (2 * step)
    change = [own[rows], moved[0].expand(40, 1), properties[cell], weights.expand(40, -1)]
    analytic = -(jacobian[..., :-1] @ torch.cat(change, 1)[..., None])[..., 0]
    torch.testing.assert_close(numeric, analytic, rtol=1e-5, atol=1e-4)


def test_squares_of_a_cell_stand_for_its_observations(tmp_path):
    _, _, problem, state = make_problem("v1_linear", tmp_path)
    assert is_bilinear(problem.model)
    squares = sums_of_squares(problem, state)
    for one in (state, state._replace(sea_ice=0.5 - state.sea_ice)):
        of_squares, of_all = (
            assemble(problem, one, squares=squares),
            assemble(problem, one),
        )
        for name in ("cost", "curvature", "rhs"):
            torch.testing.assert_close(getattr(of_squares, name), getattr(of_all, name), msg=name)
    moved = state._replace(weights=1.1 * state.weights)
    squares = sums_of_squares(problem, moved)
    torch.testing.assert_close(
        assemble(problem, moved, squares=squares).cost, assemble(problem, moved).cost
    )


@pytest.mark.parametrize(
    "change", [{"emissivity_background": {"10v": 0.8}}, {"n_observation_properties": 1}]
)
def test_limits_and_properties_of_observations_are_not_bilinear(change, tmp_path):
    seen = observations("v1_linear", tmp_path)
    config = build("v1_linear", seen).config.model_copy(update=change)
    assert not is_bilinear(EmpiricalState(config, seen))


@pytest.mark.parametrize("case", ["v1_linear", "v2_imagers"])
@pytest.mark.parametrize("month", [2, 3, 31])
def test_months_hold_what_their_observations_see(case, month, tmp_path):
    _, model, whole, state = make_problem(case, tmp_path)
    state = state._replace(sea_ice=torch.rand_like(state.sea_ice))
    index = whole.index.clone()
    part, start = subsample_months(
        whole, state, 2 * model.size, torch.Generator().manual_seed(0), month
    )
    network, everything = network_of(model, state.weights), slice(0, len(index))
    expected = linearise(whole, state, network, everything, False)[1][..., -1]
    found = linearise(part, start, network, everything, False)[1][..., -1]
    torch.testing.assert_close(found, expected)
    assert torch.equal(whole.index, index) and len(start.sea_ice) <= month + 1
    few, start = subsample_months(whole, state, 0, torch.Generator().manual_seed(0), month)
    assert few.points == 1 and 0 < len(few.index) == len(start.observation_properties) < len(index)


@pytest.mark.parametrize("common", [0.0, 2.0])
def test_biases_over_ice_and_water_have_an_error_in_common(common, tmp_path):
    seen = observations("v2_imagers", tmp_path)
    model = build("v2_imagers", seen, "init")
    config = SolveConfig(lowest_bias_error_k=common)
    problem = least_squares.build_problem(model, seen, config)
    weights = get_state(model).weights
    curvature, _, _ = least_squares.weight_background(problem, weights)
    number = least_squares.split_weights(model, torch.arange(len(weights)))[2]
    own = model.bias_error.clip(common / 4).double()[:, 0] ** 2
    for sensor, variance in enumerate(own):
        pair = number[:, sensor, 3]
        covariance = torch.linalg.inv(curvature[pair][:, pair])
        expected = variance * torch.eye(2) + common**2
        torch.testing.assert_close(covariance, expected.double(), rtol=1e-4, atol=0)


def test_a_step_that_is_too_long_is_shortened(tmp_path, monkeypatch):
    _, _, problem, state = make_problem("v2_imagers", tmp_path)
    problem = problem._replace(emissivity_limit_weight=1 / least_squares.SOFT_LIMIT_ERROR)
    whole = gauss_newton.step

    def too_long(problem, state, normal, damping):
        trial = whole(problem, state, normal, torch.full_like(damping, 0.01))
        return State(*(torch.lerp(*pair, 8.0) for pair in zip(state, trial, strict=True)))

    monkeypatch.setattr(gauss_newton, "step", too_long)
    _, costs = gauss_newton.fit_network(problem, state, 8, 1e-3)
    assert costs[-1] < 0.9 * costs[0]


@pytest.mark.parametrize("case", ["v1_linear", "v2_imagers"])
def test_a_fit_whose_trials_have_no_cost_ends(case, tmp_path, monkeypatch):
    _, _, problem, state = make_problem(case, tmp_path)
    step = gauss_newton.step

    def step_to_nan(*arguments):
        trial = step(*arguments)
        return trial._replace(weights=trial.weights * float("nan"))

    monkeypatch.setattr(gauss_newton, "step", step_to_nan)
    fitted, costs = gauss_newton.fit_network(problem, state, gauss_newton.PATIENCE + 3, 1e-3)
    assert fitted is state and costs == [costs[0]] * gauss_newton.PATIENCE
    assert costs[0] > 0


def test_the_candidate_with_the_lowest_cost_is_chosen(tmp_path):
    _, _, problem, state = make_problem("v1_linear", tmp_path)
    config = SolveConfig(network_steps=1, state_steps=1)
    broken, far, near = (state.weights * factor for factor in (float("nan"), 3.0, 1.0))
    chosen = [
        gauss_newton.best_weights(problem, state, candidates, config, False)
        for candidates in ([near, far], [far, near], [broken, near], [near])
    ]
    for weights, _ in chosen[:-1]:
        torch.testing.assert_close(weights, chosen[-1][0])
    assert [step["stage"] for step in chosen[-1][1]] == ["network 1"]
    with pytest.raises(InputError, match="no network has a finite cost"):
        gauss_newton.best_weights(problem, state, [broken, broken], config, False)


@pytest.mark.parametrize("case, number", [("v1_linear", 3), ("v2_imagers", 4)])
def test_bilinear_starts_with_the_same_cost_count_once(case, number, tmp_path, monkeypatch):
    _, _, problem, state = make_problem(case, tmp_path)
    costs = iter([1.001, 2.0, math.nan, 1.0])

    def fit(problem, trial, *arguments):
        return trial, [next(costs)]

    monkeypatch.setattr(gauss_newton, "fit_network", fit)
    config = SolveConfig(starts=4, tolerance=0.003)
    with torch.no_grad():
        candidates, history = gauss_newton.first_weights(problem, state, config, False)
    assert len(candidates) == number and len(history) == 4


@pytest.mark.parametrize("memory", [None, 0.8])
def test_days_tied_by_mixture_and_background_are_solved_as_a_dense_system(memory, tmp_path):
    _, model, problem, state = make_problem("v1_linear", tmp_path)
    inverse = torch.zeros(model.days + 1, model.days + 1)
    if memory is not None:
        error = torch.full_like(state.sea_ice, 2.0)
        weight, coupling = autoregressive_precision(error, memory)
        first_guess = torch.full_like(error, 0.4)
        problem = problem._replace(
            prior_weight=weight, prior_coupling=coupling, first_guess=first_guess
        )
        lag = torch.arange(model.days + 1)
        inverse = torch.linalg.inv(4 * memory ** (lag[:, None] - lag).abs().double())
    rng = torch.Generator().manual_seed(1)
    state = state._replace(sea_ice=torch.full_like(state.sea_ice, 0.5))
    shape = (model.days, model.points)
    curvature, lean = 1 + torch.rand(shape, generator=rng), torch.randn(shape, generator=rng) / 20
    moved = solve_concentration(problem, state.sea_ice, curvature, lean)
    mixture = torch.zeros(model.days, model.days + 1)
    for day in range(model.days):
        mixture[day, day + 1], mixture[day, day] = 0.6, 0.4
    for point in (0, 17):
        matrix = mixture.T @ torch.diag(curvature[:, point]) @ mixture
        matrix += 1e-4 * torch.eye(len(matrix)) + inverse
        right = mixture.T @ lean[:, point] + inverse.sum(1) * (0.4 - 0.5)
        expected = torch.linalg.solve(matrix, right)
        error = (mixture @ (moved[:, point] - 0.5 - expected)).abs().max()
        assert error < 2e-3  # of the concentration at the observation


@pytest.mark.parametrize("case", ["v1_linear", "v2_imagers"])
def test_it_ends_lower_than_the_published_epochs(case, tmp_path):
    from published import numbers

    torch.set_default_dtype(torch.float32)
    seen = observations(case, tmp_path)
    model = build(case, seen, "init")
    random_state = torch.random.get_rng_state()
    config = SolveConfig(sample=3000, starts=2, **PUBLISHED_COST)
    history, _ = solve(model, seen, config, show=False)
    assert torch.equal(torch.random.get_rng_state(), random_state)
    part = batch(seen)
    with torch.no_grad():
        terms = model.eval()(*model.map_values(part), *part[1:]) | model.map_costs(epoch=0)
    total = sum(term.item() for term in terms.values())
    assert total < 0.1 * numbers(case).epochs_loss.values[-1]
    costs = [step["cost"] for step in history if step["stage"] == "state"]
    assert costs[-1] <= costs[0]


def test_closed_ice_and_open_water_of_the_first_guess_are_certain():
    background, weight = certain_background(torch.tensor([0.0, 0.1, 0.5, 0.9]))
    torch.testing.assert_close(background, torch.tensor([-0.05, -0.05, 0.5, 1.05]))
    error = weight**-0.5
    assert error[0] == error[1] == error[3] < 0.07 < 0.1 < error[2]


def test_a_first_guess_that_the_solution_contradicts_is_not_certain(tmp_path):
    _, _, problem, state = make_problem("v1_linear", tmp_path)
    first_guess, weight = certain_background(torch.tensor([[0.0], [0.0], [0.9], [0.9], [0.5]]))
    problem = problem._replace(first_guess=first_guess, prior_weight=weight)
    sea_ice = torch.tensor([[0.1], [0.6], [0.9], [0.4], [0.9]])
    released = release_contradicted(problem, state._replace(sea_ice=sea_ice))
    error = released.prior_weight**-0.5
    torch.testing.assert_close(error, torch.tensor([[0.06], [0.15], [0.06], [0.15], [0.15]]))
    expected = torch.tensor([[-0.05], [0.0], [1.05], [1.0], [0.5]])
    torch.testing.assert_close(released.first_guess, expected)
    unweighted = problem._replace(prior_weight=torch.zeros_like(weight))
    assert not release_contradicted(unweighted, state._replace(sea_ice=sea_ice)).prior_weight.any()


def test_biases_that_are_not_the_published_ones_do_not_move_the_concentration(tmp_path):
    torch.set_default_dtype(torch.float32)
    case = SimulateConfig(
        layout="year", sensors=("amsr2",), observations=(9000,), size=24, days=5, largest_bias_k=1.0
    )
    folder = simulate(case, tmp_path / "ice", show=False)
    seen = prepare(ObservationsConfig(data=str(folder)), tmp_path / "columns", show=False)
    truth = xr.load_dataset(folder / "truth.nc").sic.values
    model = EmpiricalState(ModelConfig(), seen).eval()
    solve(model, seen, SolveConfig(starts=1), show=False)
    sea_ice = evaluation.sea_ice_maps(model)
    assert sea_ice.min() >= 0 and sea_ice.max() <= 1
    scores, before = (
        evaluation.concentration_scores(maps, truth) for maps in (sea_ice, seen.sea_ice_first_guess)
    )
    assert scores["rmse"] < 0.5 * before["rmse"]
    assert abs((sea_ice - truth)[truth > 0.95].mean()) < 0.03


def test_models_that_it_does_not_support_are_refused(tmp_path):
    seen = observations("v1_deep", tmp_path)
    model = build("v1_deep", seen)
    message = "solver .* supports only the networks linear and frequency .* found sigmoid and 2"
    with pytest.raises(InputError, match=message):
        solve(model, seen, SolveConfig())
    with pytest.raises(InputError, match=message):
        infer.infer(model, seen)
    with pytest.raises(InputError, match=message):
        infer.uncertainty(model, seen)


def test_the_uncertainty_counts_the_backgrounds_of_the_solver(tmp_path):
    torch.set_default_dtype(torch.float32)
    seen = observations("v2_imagers", tmp_path)
    model = build("v2_imagers", seen, "pert")
    options = {"estimate_errors": False, "within_bounds": False}
    held, of_held = infer.uncertainty(model, seen, SolveConfig(**options))
    free, _ = infer.uncertainty(model, seen, SolveConfig(hold_first_guess=False, **options))
    _, of_narrow = infer.uncertainty(model, seen, SolveConfig(property_error=0.1, **options))
    assert (free > held).all() and free.max() > 1  # days known by their mixture alone
    assert of_held.max() > 0.5 and of_narrow.max() <= 0.1 + 1e-6
    bounded, _ = infer.uncertainty(model, seen)
    assert 0 < bounded.min() and bounded.max() <= 12**-0.5  # that of any value from 0 to 1
