"""Reads the four files of MNIST, or of a data set in the same IDX format."""

import gzip
import os
import struct
import zlib
from pathlib import Path
from typing import NamedTuple, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

Bytes: TypeAlias = NDArray[np.uint8]

CLASSES = 10
_UINT8 = 0x08
_MOST_BYTES = 1 << 30


class Images(NamedTuple):
    """Images, flattened to a row each, with their labels, for training and for the test; brightness is 0 to `scale`."""

    x_train: Bytes
    t_train: Bytes
    x_test: Bytes
    t_test: Bytes
    scale: int


class _Readable(Protocol):
    def read(self, size: int, /) -> bytes: ...


def _take(file: _Readable, count: int) -> bytes:
    # In pieces: read(count) would reserve what a damaged header asks for.
    pieces = []
    while count > 0 and (piece := file.read(min(count, 1 << 20))):
        pieces.append(piece)
        count -= len(piece)
    return b"".join(pieces)


def _read_idx(file: _Readable, dimensions: int) -> Bytes:
    header = _take(file, 4 + 4 * dimensions)
    if len(header) < 4:
        raise ValueError(f"has {len(header)} bytes, too few for an IDX file")
    if header[:2] != b"\0\0":
        raise ValueError(f"starts with {header[:4].hex(' ')}, expected 00 00 08 {dimensions:02x}: not an IDX file")
    if header[2] != _UINT8:
        raise ValueError(f"has elements of type 0x{header[2]:02x}, expected 0x08 (unsigned bytes)")
    if header[3] != dimensions:
        raise ValueError(f"has {header[3]} dimensions, expected {dimensions}")
    if len(header) < 4 + 4 * dimensions:
        raise ValueError(f"ends in its header, after {len(header)} bytes")
    shape = struct.unpack(f">{dimensions}I", header[4:])
    count = 1
    for length in shape:
        count *= length
    if count == 0:
        raise ValueError(f"is empty: its header says {' x '.join(map(str, shape))}")
    if count > _MOST_BYTES:
        raise ValueError(f"is too large: its header says {' x '.join(map(str, shape))} bytes, more than {_MOST_BYTES}")
    data = _take(file, count + 1)
    if len(data) < count:
        raise ValueError(f"is truncated: {len(data)} bytes of data, its header says {count}")
    if len(data) > count:
        raise ValueError(f"has more data than the {count} bytes that its header says")
    return np.frombuffer(data, np.uint8).reshape(shape)


def read_idx(path: Path, dimensions: int) -> Bytes:
    """The array of unsigned bytes in an IDX file; gzip is undone where the name ends in .gz.

    Raises:
        ValueError: The file is not one, or has another number of dimensions, or another length than its header says.
        OSError: The file can't be read.
    """
    try:
        if not path.is_file():
            raise ValueError("is not a file")
        with path.open("rb") as raw:
            if path.suffix != ".gz":
                return _read_idx(raw, dimensions)
            with gzip.open(raw) as unpacked:
                return _read_idx(unpacked, dimensions)
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise ValueError(f"{path}: broken gzip: {error}") from error
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def _find(directory: Path, start: str, end: str) -> Path:
    names = [f"{start}{dot}{end}{gz}" for dot in "-." for gz in ("", ".gz")]
    for name in names:
        if os.path.lexists(directory / name):
            return directory / name
    raise FileNotFoundError(f"{directory}: lacks {names[0]} (or {', '.join(names[1:])})")


def _read_pair(directory: Path, part: str) -> tuple[Bytes, Bytes]:
    images_path = _find(directory, f"{part}-images", "idx3-ubyte")
    labels_path = _find(directory, f"{part}-labels", "idx1-ubyte")
    images, labels = read_idx(images_path, 3), read_idx(labels_path, 1)
    if len(images) != len(labels):
        raise ValueError(f"{labels_path}: has {len(labels)} labels for the {len(images)} images of {images_path.name}")
    if labels.max() >= CLASSES:
        raise ValueError(f"{labels_path}: has a label {labels.max()}, expected 0 to {CLASSES - 1}")
    return images, labels


def load(directory: Path) -> Images:
    """The data set in the four files train-images-idx3-ubyte, train-labels-idx1-ubyte and t10k-...

    Each may be packed with gzip, its name then ending in .gz, and may have a dot before idx in place of the hyphen.

    Raises:
        ValueError: A file is damaged or doesn't fit the others; the message names it.
        OSError: A file is missing or can't be read.
    """
    if not directory.is_dir():
        raise NotADirectoryError(f"{directory}: is not a directory")
    x_train, t_train = _read_pair(directory, "train")
    x_test, t_test = _read_pair(directory, "t10k")
    if x_train.shape[1:] != x_test.shape[1:]:
        sizes = [" x ".join(map(str, x.shape[1:])) for x in (x_train, x_test)]
        raise ValueError(f"{directory}: training images are {sizes[0]} pixels, test images {sizes[1]}")
    return Images(x_train.reshape(len(x_train), -1), t_train, x_test.reshape(len(x_test), -1), t_test, 255)
