"""Frames of a prepared store or a forecast, each read from its file into memory that is given.

A frame is a chunk. Each chunk of a prepared store is a file. A file of a forecast, a shard, holds
the chunks of successive lead times, and an index behind them. Zarr passes a chunk through threads
and copies it, which takes longer than the decompression: ten times as long for small grids.
"""

import os

import google_crc32c
import numpy as np
from numcodecs import Blosc
from xarray.backends import BackendArray
from xarray.core import indexing

CODECS = ["bytes", "blosc", "crc32c"]  # of the chunks of a prepared store or a forecast
# Codecs of the index of a shard, which has the first byte and the number of bytes of each chunk,
# both NO_CHUNK if it is missing.
INDEX_CODECS = [{"name": "bytes", "configuration": {"endian": "little"}}, {"name": "crc32c"}]
NO_CHUNK = 2**64 - 1
NAN = "AAAAAAAA+H8="  # as xarray writes the attribute _FillValue
PACKING = {"scale_factor", "add_offset", "missing_value"}  # attributes by which values are decoded
BLOSC = Blosc()  # decompresses with any settings, which each chunk holds


def open_frames(folder, array):
    """Open the frames of a variable of a prepared store or a forecast.

    Parameters
    ----------
    folder : Path
        Folder of the array.
    array : zarr.Array

    Returns
    -------
    FrameFiles or None
        None if the values are packed, or the chunks are not single frames as `seaice-lab prepare`
        and `seaice-lab forecast` store them: in stores of older versions, and in copies that other
        programs made.
    """
    about = array.metadata.to_dict()
    codecs, files, index = about.get("codecs", []), array.chunks, None
    if [codec["name"] for codec in codecs] == ["sharding_indexed"]:
        index, files = codecs[0]["configuration"], array.shards
        codecs = index["codecs"]
        if index["index_location"] != "end" or list(index["index_codecs"]) != INDEX_CODECS:
            return None
    if [codec["name"] for codec in codecs] != CODECS or len(array.shape) < 3:
        return None
    if PACKING & array.attrs.keys() or array.attrs.get("_FillValue", NAN) != NAN:
        return None
    *others, _, ny, nx = array.shape
    ones = (1,) * len(others)
    is_usual = (
        array.chunks == (*ones, 1, ny, nx)
        and files == (*ones, files[-3], ny, nx)
        and array.dtype == np.dtype("float32")
        and codecs[0]["configuration"]["endian"] == "little"
        and about["chunk_key_encoding"] == {"name": "default", "configuration": {"separator": "/"}}
        and np.isnan(array.fill_value)
    )
    in_shard = None if index is None else files[-3]
    return FrameFiles(folder / "c", array.shape, in_shard) if is_usual else None


class FrameFiles(BackendArray):
    """Reads frames of a variable (..., y, x), float32; xarray can index it lazily.

    Parameters
    ----------
    folder : Path
        Folder of the chunks.
    shape : tuple of int
    in_shard : int, optional
        Number of frames in a file, along the axis before y. By default each frame is a file
        without an index.
    """

    def __init__(self, folder, shape, in_shard=None):
        self.folder, self.shape, self.dtype = folder, shape, np.dtype("float32")
        self.in_shard = in_shard

    def read(self, frames, out):
        """Read frames.

        Parameters
        ----------
        frames : sequence of int
            Positions on the time axis; with more axes before y, numbers in the order of the array.
        out : ndarray (len(frames), y, x), float32
            Receives the frames. A missing file or chunk is read as NaN, as Zarr does.

        Raises
        ------
        ValueError, RuntimeError, OSError
            If a file is damaged.
        """
        for number, frame in zip(frames, out, strict=True):
            try:
                content = self._content(number)
            except FileNotFoundError:
                content = None
            if content is None:
                frame[...] = np.nan
                continue
            compressed = _checked(content, f"frame {number}")
            size = int.from_bytes(compressed[4:8].tobytes(), "little")  # in the header of Blosc
            if size != frame.nbytes:
                raise ValueError(f"frame {number} has {size} bytes, expected {frame.nbytes}")
            BLOSC.decode(compressed, out=frame)

    def _content(self, number):
        """Bytes of a frame, None if its shard does not have it."""
        *others, last = np.unravel_index(number, self.shape[:-2])
        file, place = divmod(last, self.in_shard or 1)
        path = os.path.join(self.folder, *map(str, (*others, file, 0, 0)))
        with open(path, "rb", buffering=0) as content:
            if self.in_shard is None:
                return content.read()
            size = 16 * self.in_shard + 4  # of the index with its checksum
            if os.fstat(content.fileno()).st_size < size:
                raise ValueError(f"the file of frame {number} is cut short")
            content.seek(-size, os.SEEK_END)
            index = _checked(content.read(), f"the index of the file of frame {number}")
            first, size = np.frombuffer(index, "<u8")[2 * place : 2 * place + 2]
            if first == NO_CHUNK:
                return None
            content.seek(first)
            return content.read(size)

    def __getitem__(self, key):
        support = indexing.IndexingSupport.OUTER
        return indexing.explicit_indexing_adapter(key, self.shape, support, self._select)

    def _select(self, key):
        """Values at an integer, a slice or an array of positions along each axis."""
        *others, rows, columns = key
        sizes = self.shape[:-2]
        along = [np.arange(size)[each] for size, each in zip(sizes, others, strict=True)]
        numbers = np.ravel_multi_index(np.ix_(*map(np.atleast_1d, along)), sizes).ravel()
        frame = np.empty((1, *self.shape[-2:]), self.dtype)
        result = np.empty((numbers.size, *frame[0][rows][..., columns].shape), self.dtype)
        for place, number in enumerate(numbers):
            self.read([number], frame)
            result[place] = frame[0][rows][..., columns]
        return result.reshape(*(n for each in along for n in each.shape), *result.shape[1:])


def _checked(content, name):
    """Content without the checksum at its end, after a comparison with it."""
    content, checksum = np.frombuffer(content, "uint8")[:-4], content[-4:]
    if google_crc32c.value(content) != int.from_bytes(checksum, "little"):
        raise ValueError(f"{name} has another checksum than when it was written")
    return content
