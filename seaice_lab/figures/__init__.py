"""Figures: maps and curves for print, and pictures that move in a browser."""
