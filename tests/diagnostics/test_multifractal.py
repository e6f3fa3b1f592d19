"""Trace moments and double trace moments of cascades whose parameters are known."""

import numpy as np
import pytest
from scaling_fields import Q, cascade, frames, load

from seaice_lab.diagnostics.multifractal import (
    double_trace_exponents,
    double_trace_moments,
    trace_exponents,
    trace_moments,
)
from seaice_lab.errors import InputError

OPTIONS = {"dx_m": 1e3, "scales": (1, 2, 4, 8, 16, 32), "offsets": False}


def test_a_lognormal_cascade_has_the_moment_function_of_the_parity_set():
    flux = frames(load("cascade")["flux_alpha200"].astype(float))
    trace = trace_exponents(trace_moments(flux, **OPTIONS))
    expected = [-0.0231, 0, 0.0694, 0.185, 0.346, 0.548]
    np.testing.assert_allclose(trace.exponent.sel(q=Q), expected, atol=5e-4)
    np.testing.assert_allclose(trace.C1, 0.0924, atol=2e-4)
    double = double_trace_exponents(double_trace_moments(flux, **OPTIONS))
    np.testing.assert_allclose([double.alpha, double.C1], [1.957, 0.0932], atol=1e-3)


def test_a_stable_cascade_has_its_index():
    flux = frames(cascade(1.5, 0.1, 128, 4, seed=5))
    double = double_trace_exponents(double_trace_moments(flux, **OPTIONS))
    assert abs(double.alpha - 1.486) < 3 * 0.033 and abs(double.C1 - 0.0945) < 3 * 0.0026
    trace = trace_exponents(trace_moments(flux, **OPTIONS)).exponent.sel(q=Q)
    mean, sd = [-0.028, 0, 0.0636, 0.156, 0.272, 0.41], [0.0009, 1e-9, 0.0018, 0.005, 0.011, 0.02]
    assert (abs(trace.values - mean) < 3 * np.array(sd)).all()


def test_white_noise_is_no_multifractal_and_a_floor_raises_quiet_ice():
    noise = frames(np.random.default_rng(0).random((2, 64, 64)))
    double = double_trace_exponents(double_trace_moments(noise, **OPTIONS))
    assert np.isnan(double.alpha) and np.isnan(double.C1)
    flux = frames(np.where(noise > 0.5, 1.0, 0.0))
    floored = double_trace_moments(flux, **OPTIONS, floor=1.0)
    np.testing.assert_allclose(floored.moment / floored["count"], 1.0)


def test_a_negative_flux_is_refused():
    for function in (trace_moments, double_trace_moments):
        with pytest.raises(InputError, match="negative values"):
            function(frames(np.linspace(-1, 1, 64 * 64).reshape(64, 64)), **OPTIONS)
