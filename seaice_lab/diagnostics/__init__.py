"""Scores and spectra of forecasts: xarray in, xarray out, no torch."""
