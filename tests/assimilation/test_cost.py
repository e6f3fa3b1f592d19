"""4D-Var with strong and weak constraint: adjoint, gradient, closed forms, limits and bounds."""

from functools import partial

import numpy as np
import pytest
import small_windows
import torch
from scipy.sparse.linalg import aslinearoperator
from small_windows import (
    CELLS,
    OCEAN,
    analysis,
    every_cell,
    linear_model,
    surrogate_model,
    surrogate_problem,
)

from seaice_lab.assimilation import commands
from seaice_lab.assimilation.background import block_diagonal, diagonal
from seaice_lab.assimilation.bounds import (
    change_of_variable,
    clipped,
    control_limits,
)
from seaice_lab.assimilation.checks import check, taylor_slope
from seaice_lab.assimilation.cost import (
    Cost,
    Observations,
    cell_positions,
    cost,
    hessian_product,
    increment_of,
    observations,
    problem_of,
    weighted_cells,
    window_states,
)
from seaice_lab.assimilation.minimise import Stopping, incremental, lbfgs, minimise
from seaice_lab.assimilation.model import open_window, states, to_image, to_vector
from seaice_lab.config import FitConfig
from seaice_lab.errors import InputError
from seaice_lab.surrogate.evaluation import open_forecast
from seaice_lab.surrogate.forecast import forecast
from seaice_lab.surrogate.prepare import prepare
from seaice_lab.surrogate.settings import ForecastConfig, PrepareConfig, TrainConfig
from seaice_lab.surrogate.train import train

EXACT = Stopping(gradient=1e-12, decrease=0.0, iterations=300)
SMOOTH = partial(change_of_variable, softness=0.1)


def linear_problem(intervals=0):
    """Two windows with correlated errors; the second has fewer observations than the first."""
    rng = np.random.default_rng(0)
    model = linear_model(batch=2)
    background = to_image(torch.from_numpy(rng.standard_normal((2, CELLS))), OCEAN)
    roots = [
        aslinearoperator(size * rng.standard_normal((CELLS, CELLS)) / np.sqrt(CELLS))
        for size in (0.5, *[0.3] * intervals)
    ]
    # Each observation is a mean of three cells, at one of two steps.
    positions = torch.from_numpy(rng.integers(0, CELLS, (2, 20, 3)))
    cells = torch.cat([cell_positions(OCEAN, number) for number in (0, 1)])
    operator = weighted_cells(cells[positions], torch.full((2, 20, 3), 1 / 3).double())
    sigma = 0.2 + rng.random((2, 20))
    sigma[1, 12:] = np.inf
    values = np.where(np.isfinite(sigma), rng.standard_normal((2, 20)), np.nan)
    observed = observations(model, (2, 4), operator, values, sigma)
    root = block_diagonal(roots)
    return problem_of(model, background, root, observed, intervals=intervals)


def window_of(problem, number):
    """The problem of one window of a batch."""
    observed = problem.observations
    columns = {name: getattr(observed, name)[[number]] for name in ("values", "sigma")}
    model = problem.model._replace(forcing=problem.model.forcing[:, [number]])
    return problem._replace(
        model=model,
        background=problem.background[[number]],
        observations=observed._replace(**columns),
    )


def test_windows_of_different_difficulty_reach_their_own_minima_together():
    problem = surrogate_problem(batch=3)
    problem.observations.sigma[1] *= 10  # small gradients, so that another window decides the end
    stopping = Stopping(gradient=1e-6, decrease=1e-10, iterations=300)
    together = lbfgs(problem, stopping=stopping)
    terms = cost(problem, together.control)
    for number in range(3):
        alone = lbfgs(window_of(problem, number), stopping=stopping)
        total = terms.background[number] + terms.observations[number]
        assert total == pytest.approx(alone.history[-1], rel=1e-5)
        np.testing.assert_allclose(together.control[number], alone.control[0], atol=1e-2)


def test_the_huber_norm_bounds_the_pull_of_an_outlier():
    model = linear_model()
    background = torch.zeros(1, 1, 8, 8).double()
    positions = cell_positions(OCEAN, 0)[:3, None]
    operator = weighted_cells(positions, torch.ones(3, 1).double())
    observed = observations(model, (0,), operator, np.array([[0.5, -10.0, 3.0]]), 1.0, huber=2.0)
    terms = cost(problem_of(model, background, diagonal(np.ones(CELLS)), observed), np.zeros(CELLS))
    assert terms.observations == pytest.approx(0.5**2 / 2 + (2 * 10 - 2) + (2 * 3 - 2))
    np.testing.assert_allclose(terms.gradient[0, :3], [-0.5, 2, -2])
    # Outliers have no curvature.
    problem = problem_of(model, background, diagonal(np.ones(CELLS)), observed)
    curvature = hessian_product(problem, np.zeros(CELLS), np.ones(CELLS))[0]
    np.testing.assert_allclose(curvature[:4], [2, 1, 1, 1])


@pytest.mark.parametrize(
    ("method", "intervals"),
    [
        (partial(lbfgs, stopping=EXACT), 0),
        (partial(incremental, outer=2, inner=200, tolerance=1e-11), 0),
        (partial(lbfgs, stopping=EXACT), 2),
        (partial(incremental, outer=2, inner=400, tolerance=1e-11), 4),
    ],
)
def test_the_analysis_of_a_linear_model_is_the_closed_form(method, intervals):
    problem = linear_problem(intervals)
    minimum = method(problem)
    size = problem.root.shape[0]
    analysed = increment_of(problem, minimum.control).numpy()
    initial = to_vector(problem.background, OCEAN).numpy()
    np.testing.assert_allclose(
        to_vector(analysis(problem, minimum.control), OCEAN), initial + analysed[:, :CELLS]
    )
    # The unknowns are the initial state, and the error of each interval around 0.
    background = np.pad(initial, ((0, 0), (0, size - CELLS)))
    analysed = background + analysed
    columns = problem.root @ np.eye(size)
    covariance = columns @ columns.T

    def observed(vectors):
        unknowns = to_image(torch.from_numpy(vectors), OCEAN)
        state, window = unknowns[:, :1], []
        for number, forcing in enumerate(problem.model.forcing):
            state = problem.model.step(state, forcing)
            if intervals:
                state = state + unknowns[:, [1 + number * intervals // 4]]
            window.append(state)
        return problem.observations.operator(torch.stack(window[1::2], 1)).numpy()

    forecast_of_background = observed(background)
    for window in range(2):
        matrix = (
            np.stack([observed(background + unit)[window] for unit in np.eye(size)], 1)
            - forecast_of_background[window][:, None]
        )
        sigma = problem.observations.sigma[window].numpy()
        used = np.isfinite(sigma)
        matrix, departures = matrix[used], problem.observations.values[window].numpy()[used]
        departures = departures - forecast_of_background[window][used]
        # x_a = x_b + B H' (H B H' + R)^-1 d
        error = matrix @ covariance @ matrix.T + np.diag(sigma[used] ** 2)
        gain = covariance @ matrix.T @ np.linalg.inv(error)
        expected = background[window] + gain @ departures
        np.testing.assert_allclose(analysed[window], expected, atol=1e-8)
    assert minimum.history[-1] < minimum.history.min() + 1e-10


@pytest.mark.parametrize("intervals", [0, 3])
@pytest.mark.parametrize("combine", [None, clipped, SMOOTH])
def test_without_information_the_analysis_is_exactly_the_background(combine, intervals):
    nothing = Observations((), None, None, None)
    problem = surrogate_problem(combine=combine, observed=nothing, intervals=intervals)
    problem.background[0, :2, 3, 3] = 0.0  # open water
    for minimum in (lbfgs(problem), incremental(problem)):
        assert torch.equal(analysis(problem, minimum.control), problem.background)
        window = window_states(problem, increment_of(problem, minimum.control), (1, 3))
        assert torch.equal(window, states(problem.model, problem.background, (1, 3)))
    observed = surrogate_problem()
    ignored = observed.observations._replace(
        sigma=torch.full_like(observed.observations.sigma, np.inf)
    )
    problem = observed._replace(observations=ignored)
    assert torch.equal(analysis(problem, lbfgs(problem).control), problem.background)


def test_without_background_errors_the_analysis_is_the_background():
    problem = surrogate_problem(std=1e-9)
    analysed = analysis(problem, lbfgs(problem).control)
    assert (analysed - problem.background).abs().max() < 1e-7


def test_perfect_observations_of_everything_restore_the_truth():
    _, model, truth = surrogate_model("self_consistent")
    noise = np.random.default_rng(1).standard_normal((1, CELLS))
    shift = to_image(torch.from_numpy(0.05 * noise), OCEAN)
    observed = every_cell(model, truth, (1, 2), noise=0)
    problem = surrogate_problem("self_consistent", std=10.0, observed=observed)
    problem = problem._replace(background=truth + shift)
    minimum = incremental(problem)
    assert minimum.history[-1] < 1e-3 * minimum.history[0]
    error = (analysis(problem, minimum.control) - truth).abs().max()
    assert error < 0.05 * shift.abs().max()


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize(
    ("window", "combine", "options"),
    [
        ("full_state", None, {}),
        ("full_state", SMOOTH, {"transport": True}),
        (small_windows.THICKNESS_AND_CONCENTRATION, clipped, {}),
        (small_windows.THICKNESS_AND_CONCENTRATION, SMOOTH, {"intervals": 3}),
    ],
)
def test_every_check_passes_for_networks_of_all_kinds(window, combine, options, dtype):
    problem = surrogate_problem(window, 0.02, combine, dtype=dtype, **options)
    failed = [result for result in check(problem) if not result.passed]
    assert not failed


def test_a_wrong_gradient_has_the_slope_one():
    point, direction = np.array([0.3, 0.5]), np.array([1.0, -2.0])
    derivative = (np.cos(point) * direction).sum()

    def function(x):
        return np.sin(x).sum()

    assert taylor_slope(function, derivative, point, direction) == pytest.approx(2, abs=0.05)
    assert taylor_slope(function, 1.01 * derivative, point, direction) == pytest.approx(1, abs=0.3)
    assert taylor_slope(np.sum, direction.sum(), point, direction) == 2


@pytest.mark.parametrize("intervals", [0, 3])
def test_the_gradient_does_not_depend_on_the_length_of_the_segments(intervals):
    problem = surrogate_problem(intervals=intervals)
    control = np.random.default_rng(0).standard_normal(problem.shape)
    gradients = [
        cost(problem._replace(model=problem.model._replace(segment=segment)), control).gradient
        for segment in (0, 1, 2)
    ]
    for gradient in gradients[1:]:
        np.testing.assert_allclose(gradient, gradients[0], rtol=1e-12, atol=1e-14)


def test_recomputation_keeps_the_states_only():
    problem = surrogate_problem()
    initial = problem.background.clone().requires_grad_()

    def kept(segment):
        bytes_kept = []

        def pack(tensor):
            bytes_kept.append(tensor.nbytes)
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            states(problem.model._replace(segment=segment), initial, (3,))
        return sum(bytes_kept)

    assert kept(1) < 0.1 * kept(0)


def test_the_hessian_of_a_linear_model_is_the_derivative_of_the_gradient():
    problem = linear_problem()
    control, direction = np.random.default_rng(2).standard_normal((2, *problem.shape))
    change = cost(problem, control + direction).gradient - cost(problem, control).gradient
    np.testing.assert_allclose(hessian_product(problem, control, direction), change, atol=1e-10)


def test_a_float32_network_has_the_minimum_of_a_float64_one():
    double, single = (
        surrogate_problem("self_consistent", dtype=dtype)
        for dtype in (torch.float64, torch.float32)
    )
    single = single._replace(observations=double.observations)
    single = single._replace(
        model=single.model._replace(forcing=double.model.forcing.float()),
        background=double.background,
    )
    minima = [lbfgs(problem) for problem in (double, single)]
    assert minima[0].history[-1] == pytest.approx(minima[1].history[-1], rel=1e-5)
    states_of = [analysis(double, minimum.control) for minimum in minima]
    assert (states_of[0] - states_of[1]).abs().max() < 1e-3


def test_incremental_and_direct_minimisation_meet():
    problem = surrogate_problem("self_consistent")
    direct, outer = lbfgs(problem), incremental(problem)
    assert outer.history[-1] == pytest.approx(direct.history[-1], rel=1e-4)
    stopped = lbfgs(problem, stopping=Stopping(iterations=1))
    assert direct.history[-1] < stopped.history[-1] < stopped.history[0]
    assert stopped.reason == "the limit of 1 iterations was reached"


def open_water():
    """No ice and no concentration in the background; observed is 0.5 of both, and then less."""
    problem = surrogate_problem("full_state", std=0.3)
    background = problem.background.clone()
    background[:, :2, :4] = 0.0
    background[:, 1, 6:] = torch.where(OCEAN[6:], 1.0, 0.0)  # full cover
    positions = torch.cat([cell_positions(OCEAN, 0, channel, 5) for channel in range(5)])[:, None]
    operator = weighted_cells(positions, torch.ones(positions.shape).double())
    values = to_vector(background, OCEAN).numpy()
    values = values + np.where(np.arange(values.size) % 2, 0.5, -0.5)
    observed = observations(problem.model, (0,), operator, values, 0.1)
    return problem._replace(background=background, observations=observed)


def test_all_forms_of_bounds_keep_the_analysis_within_them_and_let_ice_appear():
    problem = open_water()
    low = to_vector(torch.zeros_like(problem.background[:, :1]), OCEAN).numpy()
    inf = np.full_like(low, np.inf)
    lows = np.concatenate([low, low, -inf, -inf, low], 1)
    highs = np.concatenate([inf, low + 1, inf, inf, low + 1], 1)
    background = to_vector(problem.background, OCEAN).numpy()
    limits = control_limits(background, np.full(background.size, 0.3), lows, highs)
    bounds = [torch.from_numpy(b[0, ::CELLS].copy()).reshape(1, 5, 1, 1) for b in (lows, highs)]
    analyses = {
        "unbounded": analysis(problem, lbfgs(problem).control),
        "direct": analysis(
            problem._replace(combine=clipped(*bounds)), lbfgs(problem, limits).control
        ),
    }
    for name, combine in {"clipped": clipped, "change of variable": SMOOTH}.items():
        changed = problem._replace(combine=combine(*bounds))
        analyses[name] = analysis(changed, lbfgs(changed).control)
    for name, state in analyses.items():
        is_within = bool(((state >= bounds[0]) & (state <= bounds[1]))[..., OCEAN].all())
        assert is_within == (name != "unbounded"), name
        ice = to_vector(state[:, :1, :4], OCEAN[:4])[0, 1::2]
        assert (ice > 0.2).all(), name
    torch.testing.assert_close(
        analyses["direct"], analyses["unbounded"].clamp(*bounds), atol=1e-3, rtol=0
    )


def test_the_change_of_variable_has_slope_one_away_from_the_bounds_and_ends_at_them():
    combine = change_of_variable(torch.tensor(0.0), torch.tensor(1.0), 0.05)
    background = torch.tensor([0.0, 0.02, 0.5, 1.0]).double()
    for increment in (-10.0, 0.0, 1e-3, 10.0):
        state = combine(background, torch.full_like(background, increment))
        assert (state >= 0).all() and (state <= 1).all()
    change = combine(background, torch.full_like(background, 1e-3)) - background
    assert change[2] == pytest.approx(1e-3, rel=1e-3)
    assert 5e-5 < change[0] < change[1] < 1e-3
    free = change_of_variable(torch.tensor(-np.inf), torch.tensor(np.inf), 0.05)
    assert torch.equal(free(background, background), background + background)


def test_an_increment_moves_past_states_like_the_present_one():
    problem = surrogate_problem(small_windows.THICKNESS_AND_CONCENTRATION)
    control = np.random.default_rng(0).standard_normal(problem.shape)
    change = analysis(problem, control) - problem.background
    torch.testing.assert_close(change[:, :2], change[:, 2:])
    assert change[..., ~OCEAN].abs().max() == 0 < change.abs().max()


@pytest.mark.parametrize(
    ("message", "steps", "value", "sigma"),
    [
        ("found steps 5, expected ascending steps from 0 to 4", (2, 5), 1.0, 1.0),
        ("expected ascending", (3, 2), 1.0, 1.0),
        ("not positive", (2,), 1.0, 0.0),
        ("missing", (2,), np.nan, 1.0),
        ("missing", (2,), 1.0, np.nan),
    ],
)
def test_wrong_observations_are_refused_in_one_sentence(message, steps, value, sigma):
    with pytest.raises(InputError, match=message):
        observations(linear_model(), steps, None, [[value]], [[sigma]])


@pytest.mark.parametrize(
    ("message", "change"),
    [
        ("value is missing", {"background": torch.full((2, 1, 8, 8), torch.nan)}),
        ("2 of forcing, 1 of background", {"background": torch.zeros(1, 1, 8, 8)}),
        ("increments of 7 values", {"root": diagonal(np.ones(7))}),
        ("for the start and 2 intervals", {"intervals": 2}),
        ("state of 3 channels", {"background": torch.zeros(2, 3, 8, 8)}),
    ],
)
def test_a_background_of_another_state_is_refused(message, change):
    problem = linear_problem()._asdict() | change
    if "channels" in message:
        problem["variables"] = None
    with pytest.raises(InputError, match=message):
        problem_of(**problem)


def test_models_without_a_gradient_or_a_finite_forecast_are_refused():
    problem = linear_problem()
    step = problem.model.step
    for message, broken in {
        "do not depend": lambda state, forcing: step(state.detach(), forcing),
        "not finite": lambda state, forcing: step(state, forcing) * 1e200,
    }.items():
        changed = problem._replace(model=problem.model._replace(step=broken, segment=0))
        for method in (lbfgs, incremental):
            with pytest.raises(InputError, match=message):
                method(changed)


@pytest.mark.parametrize("value", [np.inf, np.nan])
def test_a_step_to_where_the_cost_is_not_finite_is_halved(value):
    lengths = []

    def function(control):
        # The first step of the minimiser has the length 1.
        lengths.append(np.abs(control).max())
        if lengths[-1] > 0.15:
            return Cost(np.array([value]), np.zeros(1), np.full_like(control, value))
        departure = control - 0.1
        return Cost(50 * departure**2, np.zeros(1), 100 * departure)

    minimum = minimise(function, np.zeros(1))
    np.testing.assert_allclose(minimum.control, 0.1, atol=1e-6)
    np.testing.assert_allclose(lengths[:5], [0, 1, 0.5, 0.25, 0.125], rtol=0.01)


def test_the_window_of_a_run_is_its_forecast(store, tmp_path, capsys):
    fit = FitConfig(epochs=1, batch_size=16)
    config = TrainConfig(store=str(store), width=2, network="UNet2", fit=fit)
    run = train(config, tmp_path / "runs" / "small", show=False)
    dataset = open_forecast(forecast(run, ForecastConfig(steps=3), show=False))
    starts = [str(time) for time in dataset.init_time.values[:2]]
    config = ForecastConfig(starts=starts, steps=3, split="test")
    for dtype, tolerance in ((torch.float32, 1e-6), (torch.float64, 1e-4)):
        _, model, initial = open_window(run, config, device="cpu", dtype=dtype)
        with torch.no_grad():
            result = states(model, initial, (1, 2, 3))
        assert result.dtype == dtype
        ocean = model.ocean
        expected = torch.from_numpy(dataset.sit[:2].values)[..., ocean]
        difference = (result[:, :, 0][..., ocean] - expected).abs().max()
        assert difference < tolerance
    commands.check(run)
    output = capsys.readouterr().out
    assert output.count("passed") == 5
    assert "adjoint of the entire chain" in output
    with pytest.raises(InputError, match="has no state at this time"):
        commands.check(run, start="1999-01-01")
    other = prepare(PrepareConfig(state="waves", coarsen=2), tmp_path / "coarse.zarr", show=False)
    with pytest.raises(InputError, match="coarse.zarr: .*prepare it on the grid of the run"):
        commands.check(run, store=other)
