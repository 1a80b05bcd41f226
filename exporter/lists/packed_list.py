"""What a list is packed with, by its first bytes: gzip, bzip2, xz, Zstandard, a zip or tar of one file."""

import bz2
import gzip
import io
import lzma
import shutil
import tarfile
import tempfile
import zipfile
import zlib
from dataclasses import replace
from pathlib import PurePath
from typing import BinaryIO, cast

import zstandard

from exporter.lists.how_read import Passing, Source
from exporter.system.shell_words import shell_word

#: What reading damaged packed data raises.
BROKEN = (
    *(EOFError, gzip.BadGzipFile, zlib.error, lzma.LZMAError),
    *(zipfile.BadZipFile, zstandard.ZstdError, tarfile.TarError),
)
_HEAD_BYTES = 4096
_MOST_LAYERS = 3
_TAR_END = bytes(1024)
_MAGIC = {b"\x1f\x8b": "gzip", b"BZh91AY&SY": "bzip2", b"\xfd7zXZ\0": "xz", b"\x28\xb5\x2f\xfd": "zstd"}
_MAGIC[b"PK\x03\x04"] = "zip"
#: What a zip holds that is a document by itself: of Office, of OpenDocument, of Apple's Numbers.
_DOCUMENTS = {"[content_types].xml", "mimetype", "meta-inf/manifest.xml", "index/document.iwa", "index.zip"}


def seekable(source: Source) -> BinaryIO:
    """Return the stream where it is a file, else a temporary file with what it holds."""
    if isinstance(source.stream, io.FileIO) and source.stream.seekable():
        return source.stream
    spooled = cast("BinaryIO", tempfile.TemporaryFile())  # noqa: SIM115 - `read` closes it
    source.files.append(spooled)
    shutil.copyfileobj(source.stream, spooled, 1 << 20)
    spooled.seek(0)
    return spooled


def unpacked(source: Source) -> Source:
    """Return a list with every packing around it taken off."""
    for _ in range(_MOST_LAYERS):
        source = _with_head(source)
        packing = next((name for magic, name in _MAGIC.items() if source.head.startswith(magic)), None)
        packing = "tar" if source.head[257:262] == b"ustar" else packing
        source = replace(source, stream=seekable(source)) if packing in ("zip", "tar") else source
        opened = packing and _opened(source, packing)
        if not opened:
            return source
        source.reading.packed = packing
        source = replace(source, stream=opened)
    return _with_head(source)


def _with_head(source: Source) -> Source:
    head, stream = b"", source.stream
    while len(head) < _HEAD_BYTES and (more := stream.read(_HEAD_BYTES - len(head))):
        head += more
    if stream.seekable() and stream.tell() == len(head):
        stream.seek(0)
    else:
        start, rest = io.BytesIO(head), stream
        passing = Passing(lambda size: start.read(size) or rest.read(size))
        stream = cast("BinaryIO", io.BufferedReader(passing, 1 << 20))
    return replace(source, head=head, stream=stream)


def _opened(source: Source, packing: str) -> BinaryIO | None:
    if packing == "zstd":
        reader = zstandard.ZstdDecompressor().stream_reader
        return cast("BinaryIO", reader(source.stream, read_across_frames=True, closefd=False))
    if packing in ("zip", "tar"):
        return _of_zip(source) if packing == "zip" else _of_tar(source)
    return cast("BinaryIO", {"gzip": gzip, "bzip2": bz2, "xz": lzma}[packing].open(source.stream))


def _of_zip(source: Source) -> BinaryIO | None:
    archive = zipfile.ZipFile(source.stream)
    source.files.append(archive)
    names = [one.filename for one in archive.infolist() if not one.is_dir()]
    if any(name.replace("\\", "/").lower() in _DOCUMENTS for name in names):
        source.stream.seek(0)
        return None
    hint = f"Unpack it: unzip {shell_word(source.name)}"
    name = _only(source, "zip", names, hint)
    try:
        return cast("BinaryIO", archive.open(name))
    except (RuntimeError, NotImplementedError) as error:  # a password, or an old way to compress
        source.refuse(f"expected a zip that can be read, got: {error}.", hint)


def _of_tar(source: Source) -> BinaryIO:
    archive = tarfile.open(fileobj=source.stream, mode="r:")  # noqa: SIM115 - `read` closes it
    source.files.append(archive)
    inside = {one.name: one for one in archive.getmembers() if not one.isdir()}
    name = _only(source, "tar", list(inside), f"Unpack it: tar -xf {shell_word(source.name)}")
    source.stream.seek(-len(_TAR_END), io.SEEK_END)
    member = archive.extractfile(inside[name])
    if member is None or source.stream.read() != _TAR_END:
        raise tarfile.ReadError("an end that is missing, or a file that is a link")
    return cast("BinaryIO", member)


def _only(source: Source, packing: str, names: list[str], hint: str) -> str:
    # macOS packs others beside it.
    files = [name for name in names if "__MACOSX" not in name and not PurePath(name).name.startswith("._")]
    if len(files) != 1:
        got = f"{len(files)} in it: {', '.join(files[:5])}"
        source.refuse(f"expected a {packing} of one file, got {got}.", hint)
    return files[0]
