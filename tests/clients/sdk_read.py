"""Read a project's spans back with the Braintrust SDK of this environment.

    python sdk_read.py PROJECT_ID [ROOT_SPAN_ID]

prints {"rows": every row by the SDK's own page loop over /btql, "trace": the spans that
`trace.get_spans()` gives a scorer (null where the SDK has no such thing)}.
"""

from __future__ import annotations

import asyncio
import json
import sys

import braintrust
from braintrust import logger as sdk


class ProjectLogs(sdk.ObjectFetcher):
    """What datasets and experiments are to the SDK, for a project's logs."""

    def __init__(self, project_id: str, state) -> None:
        super().__init__("project_logs")
        self._project_id = project_id
        self._own_state = state

    @property
    def id(self) -> str:
        return self._project_id

    def _get_state(self):
        return self._own_state


def trace_spans(project_id: str, root_span_id: str, state, **options):
    from braintrust.trace import LocalTrace  # noqa: PLC0415 older SDKs do not have it

    async def flushed() -> None:
        """Nothing was logged here."""

    trace = LocalTrace(
        object_type="project_logs", object_id=project_id, root_span_id=root_span_id,
        ensure_spans_flushed=flushed, state=state,
    )
    return [span.to_dict() for span in asyncio.run(trace.get_spans(**options))]


def main() -> None:
    project_id, *trace = sys.argv[1:]
    braintrust.login()
    state = sdk._state
    told = {"rows": list(ProjectLogs(project_id, state)), "trace": None, "llm": None}
    if trace:
        told["trace"] = trace_spans(project_id, trace[0], state)
        told["llm"] = trace_spans(project_id, trace[0], state, span_type=["llm"])
        told["filtered"] = trace_spans(
            project_id, trace[0], state,
            filters={"name": ["completion", "nothing"], "has_error": False,
                     "metadata": {"model": "gpt-4o"}, "duration": {"min": 0, "max": 60}},
        )
    print(json.dumps(told))


if __name__ == "__main__":
    main()
