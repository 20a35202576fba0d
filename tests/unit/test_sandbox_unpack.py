"""A damaged bundle is unpacked or refused with a sentence: it never ends the job."""

from __future__ import annotations

import base64
import io
import platform
import tempfile
import zipfile

from hypothesis import given
from hypothesis import strategies as st

from scorers.sandbox.inside.job_unpack import answer

COMPRESSIONS = [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA]


def zipped(compression: int) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as archive:
        archive.writestr("register.py", "x = 1\n" * 50)
        archive.writestr("mödule/a.py", "y = 2\n" * 80)
    return buffer.getvalue()


ZIPS = {compression: zipped(compression) for compression in COMPRESSIONS}


def unpack(content: bytes) -> dict:
    with tempfile.TemporaryDirectory() as folder:
        return answer({
            "content": base64.b64encode(content).decode(), "encoding": None, "folder": folder,
            "runtime": "python", "runtime_version": platform.python_version(),
        })


@given(st.data())
def test_a_damaged_zip_is_unpacked_or_refused(data):
    content = bytearray(ZIPS[data.draw(st.sampled_from(COMPRESSIONS))])
    positions = st.integers(min_value=0, max_value=len(content) - 1)
    for position in data.draw(st.lists(positions, min_size=1, max_size=4)):
        content[position] = data.draw(st.integers(min_value=0, max_value=255))
    problem = unpack(bytes(content)).get("problem")
    assert problem is None or problem.startswith("The bundle ")


def test_a_name_that_is_not_utf_8_is_refused():
    name = "mödule".encode()
    content = ZIPS[zipfile.ZIP_DEFLATED].replace(name, b"m\xff" + name[2:])
    assert unpack(content)["problem"].startswith("The bundle is not a usable zip: ")


def test_a_false_offset_is_refused():
    content = bytearray(ZIPS[zipfile.ZIP_DEFLATED])
    end = content.rindex(b"PK\x05\x06")
    content[end + 16:end + 20] = (2**31).to_bytes(4, "little")  # where the directory starts
    assert unpack(bytes(content))["problem"].startswith("The bundle is not a usable zip: ")
