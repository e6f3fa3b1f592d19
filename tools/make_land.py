"""Make land_50m.npz from the Natural Earth 1:50 million land file of the npm package world-atlas.

    npm pack world-atlas@2.0.2 && tar xf world-atlas-2.0.2.tgz
    python tools/make_land.py package/land-50m.json seaice_lab/data/land_50m.npz

The script was run once. Its result is package data.
"""

import json
import sys

import numpy as np
import shapely

from seaice_lab.grid import project

SOUTHERN_LIMIT = 30.0  # degrees north
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


def to_plane(positions):
    """Project (n, 2) longitude, latitude to (n, 2) x, y."""
    return np.column_stack(project(positions[:, 1], positions[:, 0]))


def main(topojson_path, npz_path):
    """Read the TopoJSON file, project and clip the land, and write its rings."""
    with open(topojson_path) as stream:
        topology = json.load(stream)
    arcs = decode_arcs(topology)
    north = shapely.box(-540, SOUTHERN_LIMIT, 540, 91)
    projected = []
    for geometry in topology["objects"]["land"]["geometries"]:
        for outer, *holes in geometry["arcs"]:
            shell = shapely.Polygon(ring(outer, arcs), [ring(hole, arcs) for hole in holes])
            clipped = shapely.make_valid(shell).intersection(north)
            # More points along the southern limit, which is a circle in the plane.
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
    points = np.concatenate(rings).astype(np.float32)
    np.savez_compressed(npz_path, points=points, starts=starts)
    print(f"{npz_path}: {len(rings)} rings, {len(points)} points")


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    main(*sys.argv[1:])
