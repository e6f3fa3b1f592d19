"""Colours of curves on a dark page."""

from matplotlib.colors import to_hex, to_rgb

from seaice_lab.figures.charts import COLOURS

# Lighter colours for a dark page in place of blue, vermilion and green.
LIGHTER = dict(zip(map(str.lower, COLOURS[1:4]), ("#3a97dc", "#ee7b30", "#1fb58c"), strict=True))
GREY_TOLERANCE = 0.05  # largest difference between red, green and blue of a grey
LIGHTEST = 0.9  # red, green and blue of the grey that replaces black


def dark_colour(colour):
    """The colour of a curve on a dark page: black and greys become light, other colours stay.

    Parameters
    ----------
    colour : str

    Returns
    -------
    str
        Such as "#e6e6e6" for black.
    """
    parts = to_rgb(colour)
    if max(parts) - min(parts) > GREY_TOLERANCE:
        return LIGHTER.get(colour.lower(), colour)
    return to_hex([LIGHTEST - 0.55 * parts[0]] * 3)


def dark_changes(figure):
    """Changes of the colours of a figure of curves for a dark page.

    Parameters
    ----------
    figure : bokeh.plotting.figure

    Returns
    -------
    list of (bokeh.models.Glyph, str, str)
        Glyph, name of its property, and colour.
    """
    changes = []
    for renderer in figure.renderers:
        glyph = renderer.glyph
        for name in ("line_color", "fill_color"):
            colour = getattr(glyph, name, None)
            if isinstance(colour, str) and dark_colour(colour) != colour:
                changes.append((glyph, name, dark_colour(colour)))
    return changes
