"""Write beside what the next call imports, or over it."""

from __future__ import annotations

import json
import os
import sys


def opens(path, flags):
    try:
        os.close(os.open(path, flags, 0o644))
    except OSError:
        return False
    return True


def handler():
    here = os.getcwd()
    folders = {os.path.dirname(os.__file__), os.path.dirname(json.__file__)}
    folders |= {each for each in sys.path if each and os.path.abspath(each) != here}
    files = {sys.executable}
    files |= {getattr(each, "__file__", None) for each in list(sys.modules.values())}
    create = os.O_CREAT | os.O_WRONLY
    worked = [each for each in folders if opens(f"{each}/poison_left.py", create)]
    # Opened for writing, and not written: should it work, the machine is as it was.
    worked += [each for each in files if each and opens(each, os.O_WRONLY)]
    for each in folders:
        try:
            os.chmod(each, 0o777)
            worked.append(f"chmod {each}")
        except OSError:
            continue
    return {"score": 1.0 if worked else 0.0, "metadata": {"worked": worked[:9]}}
