"""The bytes of a file, unpacked if it is compressed, in blocks of bounded size."""

import gzip
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from continuum.errors import IntegrityError, PreflightError

if TYPE_CHECKING:
    from zstandard import ZstdDecompressor

BLOCK_BYTES = 1 << 19
"""Bytes decoded at a time."""
ZSTD_MAX_WINDOW_BYTES = 1 << 31
"""What `zstd --long=31` writes; the library's own limit is lower."""
ZSTD_SLICE_BYTES = 1 << 14
"""Compressed bytes taken at a time, so that one step's text stays small."""

OnBytes = Callable[[int], None]
"""Told how many more bytes of the kept files were read."""


def read_blocks(
    path: Path, source: str, compression: str, on_bytes: OnBytes | None = None
) -> Iterator[bytes]:
    """The file's bytes, unpacked.

    Args:
        source: How the user knows the file.

    Raises:
        IntegrityError: the file is missing.
        PreflightError: it cannot be read or unpacked.
    """
    try:
        raw = path.open("rb")
    except OSError as error:
        raise IntegrityError(
            f"{path}: this file of the corpus cannot be opened ({error.strerror}); "
            "run the stage that made it again"
        ) from None
    with raw:
        position = 0
        try:
            for block in _unpacked(raw, path, compression):
                now = raw.tell()
                if on_bytes is not None:
                    on_bytes(now - position)
                position = now
                yield block
        except (OSError, EOFError, zlib.error) as error:
            raise PreflightError(
                f"{path} ({source}): cannot be read (compression: {compression}) near "
                f"byte {raw.tell():,}: {error}; the source is damaged or of another kind"
            ) from error


def _unpacked(raw: BinaryIO, path: Path, compression: str) -> Iterator[bytes]:
    if compression == "none":
        yield from iter(lambda: raw.read(BLOCK_BYTES), b"")
    elif compression == "gz":
        with gzip.GzipFile(fileobj=raw) as stream:
            yield from iter(lambda: stream.read(BLOCK_BYTES), b"")
    elif compression == "zst":
        yield from _unzstd(raw)
    else:
        raise PreflightError(f"{path}: unknown compression {compression!r}; none, gz, zst are read")


def _unzstd(raw: BinaryIO) -> Iterator[bytes]:
    import zstandard

    try:
        yield from _zstd_frames(
            raw, zstandard.ZstdDecompressor(max_window_size=ZSTD_MAX_WINDOW_BYTES)
        )
    except zstandard.ZstdError as error:
        raise OSError(str(error)) from error


def _zstd_frames(raw: BinaryIO, context: "ZstdDecompressor") -> Iterator[bytes]:
    # Frame by frame, because the library's stream reader takes a cut-off frame for the end.
    frame = None
    while compressed := raw.read(ZSTD_SLICE_BYTES):
        while compressed:
            if frame is None:
                frame = context.decompressobj()
            if block := frame.decompress(compressed):
                yield block
            compressed = frame.unused_data if frame.eof else b""
            if frame.eof:
                frame = None
    if frame is not None:
        raise EOFError("the last zstd frame is incomplete")
