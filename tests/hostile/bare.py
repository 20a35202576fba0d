"""The control: runs an attack without a sandbox, and prints its answer as JSON.

    python bare.py ATTACK.py < record.json

The caller's own limits keep it from harming the machine. Records of somebody else's are in
reach here, as they would be in a worker that ran scorers itself.
"""

from __future__ import annotations

import inspect
import json
import sys
from pathlib import Path


def main() -> None:
    given = json.load(sys.stdin)
    others = given["others"]
    names: dict = {"__name__": "scorer"}
    exec(compile(Path(sys.argv[1]).read_text(), "scorer.py", "exec"), names)
    handler = names["handler"]
    taken = {name: given["record"][name] for name in inspect.signature(handler).parameters}
    answer = handler(**taken)
    print(json.dumps({"answer": answer, "others": len(others)}))


if __name__ == "__main__":
    main()
