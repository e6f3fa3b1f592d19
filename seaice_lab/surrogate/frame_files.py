"""Frames of a prepared store, each read from its file into memory that is given.

A frame is a chunk, and each chunk is a file. Zarr passes a chunk through threads and copies, which
takes longer than its decompression; of small grids, ten times as long.
"""

import google_crc32c
import numpy as np
import zarr
from numcodecs import Blosc
from xarray.backends import BackendArray
from xarray.core import indexing

CODECS = ["bytes", "blosc", "crc32c"]  # of the chunks of a prepared store
BLOSC = Blosc()  # decompresses with any settings, which each chunk holds


def open_frames(path, name):
    """Open a variable of a prepared store, if each of its chunks is a frame.

    Parameters
    ----------
    path : Path
    name : str

    Returns
    -------
    FrameFiles or None
        None if the chunks are others, or compressed in another way than `seaice-lab prepare` does:
        in stores of older versions, and in copies that other programs made.
    """
    array = zarr.open_group(path, mode="r")[name]
    about = array.metadata.to_dict()
    codecs = about.get("codecs", [])
    if [codec["name"] for codec in codecs] != CODECS:
        return None
    is_usual = (
        array.chunks == (1, *array.shape[1:])
        and len(array.shape) == 3
        and array.dtype == np.dtype("float32")
        and codecs[0]["configuration"]["endian"] == "little"
        and about["chunk_key_encoding"] == {"name": "default", "configuration": {"separator": "/"}}
        and np.isnan(array.fill_value)
    )
    return FrameFiles(path / name / "c", array.shape) if is_usual else None


class FrameFiles(BackendArray):
    """Reads frames of a variable (time, y, x), float32; xarray can index it lazily.

    Parameters
    ----------
    folder : Path
        Folder of the chunks.
    shape : (int, int, int)
    """

    def __init__(self, folder, shape):
        self.folder, self.shape, self.dtype = folder, shape, np.dtype("float32")

    def read(self, times, out):
        """Read frames.

        Parameters
        ----------
        times : sequence of int
            Positions on the time axis.
        out : ndarray (len(times), y, x), float32
            Receives the frames. A missing file is read as NaN, as Zarr does.

        Raises
        ------
        ValueError, RuntimeError
            If a file is damaged.
        """
        for time, frame in zip(times, out, strict=True):
            try:
                content = np.fromfile(self.folder / f"{time}/0/0", "uint8")
            except FileNotFoundError:
                frame[...] = np.nan
                continue
            compressed, checksum = content[:-4], content[-4:].tobytes()
            if google_crc32c.value(compressed) != int.from_bytes(checksum, "little"):
                raise ValueError(f"frame {time} has another checksum than when it was written")
            size = int.from_bytes(compressed[4:8].tobytes(), "little")  # in the header of Blosc
            if size != frame.nbytes:
                raise ValueError(f"frame {time} has {size} bytes, expected {frame.nbytes}")
            BLOSC.decode(compressed, out=frame)

    def __getitem__(self, key):
        support = indexing.IndexingSupport.OUTER
        return indexing.explicit_indexing_adapter(key, self.shape, support, self._select)

    def _select(self, key):
        """Values at an integer, a slice or an array of positions along each axis."""
        times, rows, columns = key
        times = np.arange(self.shape[0])[times]
        frame = np.empty((1, *self.shape[1:]), self.dtype)
        result = np.empty((times.size, *frame[0][rows][..., columns].shape), self.dtype)
        for number, time in enumerate(times.flat):
            self.read([time], frame)
            result[number] = frame[0][rows][..., columns]
        return result if times.ndim else result[0]
