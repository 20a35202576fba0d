"""Reads the text of files that users write: scorers, rules and other YAML."""

from __future__ import annotations

import codecs
from pathlib import Path

from spans.errors import BadInput

# Longest first: the mark of UTF-32 begins with that of UTF-16.
_OTHERS = {
    codecs.BOM_UTF32_LE: "UTF-32", codecs.BOM_UTF32_BE: "UTF-32",
    codecs.BOM_UTF16_LE: "UTF-16", codecs.BOM_UTF16_BE: "UTF-16",
}


def read_text_file(file: Path) -> str:
    r"""The file's text, which is UTF-8 whatever the locale says, with lines that end in \n.

    A byte order mark is left out. Raises BadInput, which names the file.
    """
    data = file.read_bytes()
    for mark, encoding in _OTHERS.items():
        if data.startswith(mark):
            raise BadInput(f"{file}: the file is {encoding}: save it as UTF-8")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise BadInput(f"{file}:{line}: the file is not UTF-8: save it as UTF-8") from error
    return text.replace("\r\n", "\n").replace("\r", "\n")
