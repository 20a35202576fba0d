"""Log values that JSON or PostgreSQL does not know with the Braintrust SDK of this environment.

Run by the tests with the SDK's own Python:

    python sdk_odd_values.py PROJECT     log; print {name: row id}
"""

from __future__ import annotations

import json
import math
import sys

import braintrust

ODD = {
    "metric": {"metrics": {"tps": math.nan, "cost": math.inf}},
    "metadata": {"metadata": {"loss": math.nan, "seed": 2**70, "kept": 1}},
    "tags": {"tags": ["long " * 50, *(f"t{number}" for number in range(120))]},
    "text": {"metadata": {"cut": "\ud83d", "nul": "a\0b"}},
}


def main() -> None:
    logger = braintrust.init_logger(project=sys.argv[1])
    ids = {}
    for name, fields in ODD.items():
        span = logger.start_span(name=name, type="task", input="a question")
        span.log(output="a real answer", expected="a real answer", **fields)
        logger.flush()   # so that the end of the span is a request of its own
        span.end()
        logger.flush()
        ids[name] = span.id
    print(json.dumps(ids))


if __name__ == "__main__":
    main()
