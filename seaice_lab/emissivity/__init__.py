"""The empirical-state emissivity model of sea ice (Geer 2024, versions 1 and 2)."""
