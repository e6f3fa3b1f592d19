"""Animated maps for a slide: fields side by side, one frame for each time."""

from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib import animation

from seaice_lab import files, progress
from seaice_lab.errors import InputError
from seaice_lab.figures import maps
from seaice_lab.figures.plane import grid_on_plane


@maps.styled(maps.FONT)
def animate(fields, ocean, path, colour_range=None, frames_per_second=12):
    """Animate fields side by side through time.

    Parameters
    ----------
    fields : dict of str to DataArray (time, y, x)
        By label, on the same grid and times. The first dimension is time, its coordinate of the
        same name has the dates. Name and positions as in `plot_map`.
    ocean : DataArray of bool (y, x)
        True where sea.
    path : str or Path
        ``.gif``, or ``.mp4`` if ffmpeg is installed.
    colour_range : (float, float), optional
        By default that of the variable.
    frames_per_second : int

    Returns
    -------
    Path

    Raises
    ------
    InputError
        As `plot_map`, and if the ending is different or ffmpeg is missing.
    """
    path = Path(path)
    writers = {".gif": "pillow"}
    if animation.writers.is_available("ffmpeg"):
        writers[".mp4"] = "ffmpeg"
    if path.suffix not in writers:
        raise InputError(f"{path}: cannot be written here; use the ending {' or '.join(writers)}")
    first = next(iter(fields.values()))
    map_grid = grid_on_plane(first, ocean)
    colour_map, colour_range, label = maps.colours_and_label(first, colour_range)
    dates = pd.to_datetime(first[first.dims[0]].values)
    figure = {"figsize": (4.6 * len(fields), 5.0), "layout": "constrained"}
    plane = {"projection": maps.map_projection(first)}
    fig, axes = plt.subplots(1, len(fields), squeeze=False, subplot_kw=plane, **figure)
    images = []
    for ax, (title, field) in zip(axes[0], fields.items(), strict=True):
        images.append(maps.draw(ax, map_grid, field[0], colour_map, colour_range))
        ax.set_title(title)
    frames = (maps.visible_values(map_grid, frame) for field in fields.values() for frame in field)
    extend = maps.exceeded_ends([frame.filled(np.nan) for frame in frames], colour_range)
    fig.colorbar(images[0], ax=axes[0], label=label, extend=extend, shrink=0.8)
    date = fig.suptitle(f"{dates[0]:%Y-%m-%d}")

    fig.draw_without_rendering()
    fig.set_layout_engine("none")  # all frames have the layout of the first

    writer = animation.writers[writers[path.suffix]](frames_per_second)
    bar = progress.bar(len(dates), f"animate {path.name}", "frame")
    with bar, files.replacing(path) as temporary, writer.saving(fig, temporary, dpi=90):
        for frame, moment in enumerate(dates):
            for image, field in zip(images, fields.values(), strict=True):
                image.set_array(maps.visible_values(map_grid, field[frame]))
            date.set_text(f"{moment:%Y-%m-%d}")
            writer.grab_frame()
            bar.update()
    plt.close(fig)
    return path
