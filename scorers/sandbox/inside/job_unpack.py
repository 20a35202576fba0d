"""Unpacks a pushed bundle into a folder: a zip of Python modules, or one file of JavaScript.

It executes nothing. It refuses anything that does not look like a bundle of the command-line
client. Later jails show the folder read-only.
"""

from __future__ import annotations

import base64
import compileall
import io
import re
import shutil
import stat
import sys
import zipfile
import zlib
from pathlib import Path, PurePosixPath
from py_compile import PycInvalidationMode
from typing import Any

from scorers.sandbox.inside.job import Powers

# The largest native modules of common packages have 60 MB.
POWERS = Powers(file_mb=256)

JAVASCRIPT = "bundle.js"
ENTRY = "register.py"                    # the client adds it: it imports the user's module
# A bundle of five common packages has 1 200 files and 25 MB; with scipy 3 500 and 200 MB.
FILES_MAX = 20_000
BYTES_MAX = 500 * 2**20
JAVASCRIPT_BYTES_MAX = 64 * 2**20
NAME_CHARACTERS_MAX = 1024
CHUNK_BYTES = 2**20
GZIP = 16 + zlib.MAX_WBITS               # tells zlib to expect gzip's header
VERSION = re.compile(r"(\d+)\.(\d+)")


class NotABundle(Exception):
    """The upload is not a usable bundle. The message tells its author what to change."""


def answer(request: dict[str, Any]) -> dict[str, Any]:
    """Unpack the request's `content` into its `folder`; answer {} or {problem}.

    The request is {content (base64), encoding, runtime, runtime_version, folder}.
    """
    folder = Path(request["folder"])
    try:
        content = base64.b64decode(request["content"])
        if request["encoding"] == "gzip":
            content = _inflated(content)
        if request["runtime"] == "python":
            _fits_this_python(request["runtime_version"])
            _unzip(content, folder)
            _compile(folder)
        else:
            _write_javascript(content, folder)
    except NotABundle as refused:
        return {"problem": str(refused)}
    return {}


def _inflated(content: bytes) -> bytes:
    inflate = zlib.decompressobj(GZIP)
    try:
        whole = inflate.decompress(content, JAVASCRIPT_BYTES_MAX + 1)
    except zlib.error as error:
        raise NotABundle(f"The bundle is not valid gzip: {error}.") from None
    if len(whole) > JAVASCRIPT_BYTES_MAX:
        raise NotABundle(_too_large(JAVASCRIPT_BYTES_MAX))
    if not inflate.eof:
        raise NotABundle("The bundle's gzip ends too early: push it again.")
    return whole


def _write_javascript(content: bytes, folder: Path) -> None:
    if len(content) > JAVASCRIPT_BYTES_MAX:
        raise NotABundle(_too_large(JAVASCRIPT_BYTES_MAX))
    try:
        content.decode()
    except UnicodeDecodeError:
        raise NotABundle("The bundle is not JavaScript: it is not text in UTF-8.") from None
    (folder / JAVASCRIPT).write_bytes(content)


def _fits_this_python(given: str) -> None:
    """Raise NotABundle if the bundle was built for another minor version of Python.

    Native modules, and the packages that the client chose, fit one minor version only.
    """
    found = VERSION.match(given)
    wanted = f"{found[1]}.{found[2]}" if found else given
    ours = f"{sys.version_info.major}.{sys.version_info.minor}"
    if wanted != ours:
        raise NotABundle(
            f"The bundle was built for Python {wanted[:20]}, but the workers run Python "
            f"{ours}: push it again with Python {ours}."
        )


def _unzip(content: bytes, folder: Path) -> None:
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            _extract_all(archive, folder)
    except NotABundle:
        raise
    except OSError as error:
        raise NotABundle(f"The bundle cannot be unzipped: {error.strerror or error}.") from None
    except Exception as error:  # noqa: BLE001 zipfile raises many types, and lists none
        raise NotABundle(f"The bundle is not a usable zip: {error}.") from None
    if not (folder / ENTRY).is_file():
        raise NotABundle(f"The bundle has no {ENTRY}: push it with `braintrust push`.")


def _extract_all(archive: zipfile.ZipFile, folder: Path) -> None:
    members = archive.infolist()
    if len(members) > FILES_MAX:
        raise NotABundle(f"The bundle has over {FILES_MAX} files.")
    if sum(each.file_size for each in members) > BYTES_MAX:
        raise NotABundle(_too_large(BYTES_MAX))
    left = BYTES_MAX
    for each in members:
        left -= _extract(archive, each, folder, left)


def _extract(
    archive: zipfile.ZipFile, member: zipfile.ZipInfo, folder: Path, most: int
) -> int:
    """Write one file or folder and return its bytes, at most `most`.

    The bytes are counted, because the sizes that a zip states may be false.
    """
    path = _inner_path(member)
    if member.is_dir():
        (folder / path).mkdir(parents=True, exist_ok=True)
        return 0
    (folder / path).parent.mkdir(parents=True, exist_ok=True)
    written = 0
    with archive.open(member) as source, (folder / path).open("wb") as target:
        while chunk := source.read(CHUNK_BYTES):
            written += len(chunk)
            if written > most:
                raise NotABundle(_too_large(BYTES_MAX))
            target.write(chunk)
    return written


def _inner_path(member: zipfile.ZipInfo) -> PurePosixPath:
    path = PurePosixPath(member.filename)
    kind = stat.S_IFMT(member.external_attr >> 16)
    plain = kind in (0, stat.S_IFREG, stat.S_IFDIR)
    if path.is_absolute() or ".." in path.parts or "\\" in member.filename or not plain:
        raise NotABundle(
            f"The bundle holds {member.filename[:100]!r}: links, special files and paths out "
            "of it are not allowed."
        )
    if len(member.filename) > NAME_CHARACTERS_MAX:
        raise NotABundle(f"The bundle holds a name of {len(member.filename)} characters.")
    return path


def _too_large(most: int) -> str:
    return f"The bundle is larger than {most >> 20} MB, unpacked."


def _compile(folder: Path) -> None:
    """Write bytecode beside each source, which saves a third of the time of a first import.

    A file that cannot be compiled is left as it is: packages hold templates that end in .py.
    """
    for cached in folder.rglob("__pycache__"):
        shutil.rmtree(cached)            # it may hold other code than the source beside it
    compileall.compile_dir(
        folder, quiet=2, invalidation_mode=PycInvalidationMode.UNCHECKED_HASH
    )
