"""Invoke a function with the Braintrust SDK of this environment, in each way that it has.

    python sdk_invoke.py PROJECT_NAME SLUG FUNCTION_ID

prints {"by_slug", "by_id", "streamed", "final", "as_scorer", "global", "traced", "raised"}.
"""

from __future__ import annotations

import json
import sys

import braintrust

GIVEN = {"input": "i", "output": "four", "expected": None}


def main() -> None:
    project, slug, function_id = sys.argv[1:]
    told = {
        "by_slug": braintrust.invoke(project_name=project, slug=slug, input=GIVEN),
        "by_id": braintrust.invoke(function_id=function_id, input=GIVEN),
        "as_scorer": braintrust.init_function(project, slug)(**GIVEN),
    }
    stream = braintrust.invoke(function_id=function_id, input=GIVEN, stream=True)
    chunks = list(stream.copy())
    told["streamed"] = [
        [chunk.type, getattr(chunk, "message", None) or getattr(chunk, "data", None)]
        for chunk in chunks
    ]
    told["final"] = stream.final_value()
    told["global"] = braintrust.invoke(
        global_function="ExactMatch", input={"output": "same", "expected": "same"}
    )
    with braintrust.init_logger(project=project).start_span(name="around"):
        told["traced"] = braintrust.invoke(function_id=function_id, input=GIVEN)
    try:
        braintrust.invoke(function_id=function_id, input={**GIVEN, "output": None})
    except Exception as error:  # noqa: BLE001 its class and words are what is asked for
        told["raised"] = [type(error).__name__, str(error)]
    print(json.dumps(told))


if __name__ == "__main__":
    main()
