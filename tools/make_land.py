"""Make land_north.npz and land_south.npz from the 1:50 million land file of Natural Earth.

    npm pack world-atlas@2.0.2 && tar xf world-atlas-2.0.2.tgz
    python tools/make_land.py package/land-50m.json seaice_lab/data

The script was run once. Its results are package data. Natural Earth has the Antarctic ice shelves
in a layer of their own, which world-atlas lacks: they are sea here.
"""

import json
import sys
from pathlib import Path

import numpy as np
import shapely

from seaice_lab.grid import project

LIMIT = 30.0  # degrees: the land poleward of it is kept
SNAP_M = 10.0  # the 1:50 million lines are generalised to about a kilometre


def decode_arcs(topology):
    """Decode the arcs of a TopoJSON file: list of arrays (n, 2) of longitude and latitude."""
    scale = topology["transform"]["scale"]
    translate = topology["transform"]["translate"]
    return [np.cumsum(arc, axis=0) * scale + translate for arc in topology["arcs"]]


def ring(arc_numbers, arcs):
    """Join the arcs of one ring; a negative number ~n means arc n in reverse."""
    pieces = [arcs[n] if n >= 0 else arcs[~n][::-1] for n in arc_numbers]
    joined = np.concatenate([pieces[0], *(piece[1:] for piece in pieces[1:])])
    # Eurasia crosses the date line: remove the jump from 180 to -180 degrees.
    joined[:, 0] = np.unwrap(joined[:, 0], period=360)
    if abs(joined[-1, 0] - joined[0, 0]) > 180:
        # Antarctica surrounds the pole: in longitude and latitude its ring ends along the pole.
        joined = np.concatenate([joined, [[joined[-1, 0], -90], [joined[0, 0], -90]]])
    return joined


def without_holes(polygon):
    """Cut a polygon through its holes into pieces without holes."""
    if not polygon.interiors:
        return [polygon]
    west, south, east, north = polygon.bounds
    cut = shapely.Polygon(polygon.interiors[0]).centroid.x
    halves = (shapely.box(west, south, cut, north), shapely.box(cut, south, east, north))
    pieces = [
        piece
        for half in halves
        for piece in shapely.get_parts(polygon.intersection(half))
        if piece.geom_type == "Polygon"
    ]
    return [simple for piece in pieces for simple in without_holes(piece)]


def write_land(arcs, geometries, hemisphere, folder):
    """Project and clip the land of one hemisphere, and write its rings."""
    limits = (LIMIT, 91) if hemisphere == "north" else (-91, -LIMIT)
    around_pole = shapely.box(-540, limits[0], 540, limits[1])

    def to_plane(positions):
        """Project (n, 2) longitude, latitude to (n, 2) x, y."""
        return np.column_stack(project(positions[:, 1], positions[:, 0], hemisphere))

    projected = []
    for geometry in geometries:
        for outer, *holes in geometry["arcs"]:
            holes = [ring(hole, arcs) for hole in holes]
            # world-atlas leaves a hole of some metres at the South Pole.
            holes = [hole for hole in holes if hole[:, 1].max() > -89.9]
            shell = shapely.Polygon(ring(outer, arcs), holes)
            clipped = shapely.make_valid(shell).intersection(around_pole)
            # More points along the limit, which is a circle in the plane.
            clipped = shapely.segmentize(clipped, 1.0)
            projected += [
                shapely.transform(piece, to_plane)
                for piece in shapely.get_parts(clipped)
                if piece.geom_type == "Polygon"
            ]
    # Natural Earth cuts some islands at the date line; the union joins them.
    snapped = [shapely.make_valid(shapely.set_precision(piece, SNAP_M)) for piece in projected]
    land = shapely.union_all(snapped, grid_size=SNAP_M)
    rings = [
        np.asarray(piece.exterior.coords)
        for polygon in shapely.get_parts(land)
        for piece in without_holes(polygon)
    ]
    rings.sort(key=len, reverse=True)
    starts = np.cumsum([0, *(len(points) for points in rings)])[:-1].astype(np.int32)
    # Whole steps from point to point have few digits, so that the compressed file is small.
    steps = np.diff(np.concatenate(rings) / SNAP_M, axis=0, prepend=0.0).round().astype(np.int32)
    path = Path(folder) / f"land_{hemisphere}.npz"
    np.savez_compressed(path, steps=steps, step_m=SNAP_M, starts=starts)
    print(f"{path}: {len(rings)} rings, {len(steps)} points, {path.stat().st_size / 1000:.0f} kB")


def main(topojson_path, folder):
    """Read the TopoJSON file and write the land of both hemispheres."""
    topology = json.loads(Path(topojson_path).read_text(encoding="utf-8"))
    arcs, geometries = decode_arcs(topology), topology["objects"]["land"]["geometries"]
    for hemisphere in ("north", "south"):
        write_land(arcs, geometries, hemisphere, folder)


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    main(*sys.argv[1:])
