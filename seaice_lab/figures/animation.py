"""Moving maps, for a slide: fields side by side, one frame a time."""

from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib import animation

from seaice_lab import files, progress
from seaice_lab.errors import InputError
from seaice_lab.figures.maps import FONT, colours_of, draw, ends_of, scene_of, styled


@styled(FONT)
def animate(fields, ocean, path, name=None, colour_range=None, frames_per_second=12):
    """Fields side by side, moving through time, for a slide.

    Parameters
    ----------
    fields : dict of str to DataArray (time, y, x)
        By label, on the same grid and times; the first dimension is time, its coordinate of the
        same name the date. Positions as in `plot_map`.
    ocean : DataArray of bool (y, x)
        True where sea.
    path : str or Path
        ``.gif``, or ``.mp4`` where ffmpeg is installed.
    name, colour_range : optional
        As in `plot_map`.
    frames_per_second : int

    Returns
    -------
    Path

    Raises
    ------
    InputError
        As `plot_map`, and if the ending is another one or ffmpeg is missing.
    """
    path = Path(path)
    writers = {".gif": "pillow", ".mp4": "ffmpeg"}
    if path.suffix not in writers or not animation.writers.is_available(writers[path.suffix]):
        usable = [end for end, writer in writers.items() if animation.writers.is_available(writer)]
        raise InputError(f"{path}: cannot be written here; use the ending {' or '.join(usable)}")
    first = next(iter(fields.values()))
    scene = scene_of(first, ocean)
    colour_map, colour_range, label = colours_of(first, name, colour_range)
    dates = pd.to_datetime(first[first.dims[0]].values)
    fig, axes = plt.subplots(
        1, len(fields), figsize=(4.6 * len(fields), 5.0), squeeze=False, layout="constrained"
    )
    meshes = []
    for ax, (title, field) in zip(axes[0], fields.items(), strict=True):
        meshes.append(draw(ax, scene, field[0], colour_map, colour_range))
        ax.set_title(title)
    beyond = ends_of(fields.values(), scene, colour_range)
    fig.colorbar(meshes[0], ax=axes[0], label=label, extend=beyond, shrink=0.8)
    date = fig.suptitle(f"{dates[0]:%Y-%m-%d}")

    def show(frame):
        for mesh, field in zip(meshes, fields.values(), strict=True):
            values = field[frame].transpose("y", "x").values
            mesh.set_array(np.ma.masked_invalid(np.ma.masked_where(~scene.ocean, values)))
        date.set_text(f"{dates[frame]:%Y-%m-%d}")

    moving = animation.FuncAnimation(fig, show, frames=len(dates))
    bar = progress.bar(len(dates), f"animate {path.name}", "frame")
    with bar, files.replacing(path) as temporary:
        moving.save(
            temporary, writers[path.suffix], frames_per_second, dpi=90,
            progress_callback=lambda frame, total: bar.update(),
        )  # fmt: skip
    plt.close(fig)
    return path
