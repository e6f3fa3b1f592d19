"""Colours of curves on a dark page."""

from matplotlib.colors import to_hex, to_rgb

from seaice_lab.figures.charts import COLOURS

# Colours that are too dark for a dark page: blue, vermilion and green.
SEEN = dict(zip(map(str.lower, COLOURS[1:4]), ("#3a97dc", "#ee7b30", "#1fb58c"), strict=True))
GREY = 0.05  # largest difference between red, green and blue
LIGHTEST = 0.9  # in place of black


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
    if max(parts) - min(parts) > GREY:
        return SEEN.get(colour.lower(), colour)
    return to_hex([LIGHTEST - 0.55 * parts[0]] * 3)


def dark_changes(figure):
    """What a dark page changes in a figure of curves.

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
