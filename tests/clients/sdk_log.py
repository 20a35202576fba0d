"""Log a trace with the Braintrust SDK of this environment, and print what was logged.

Run by the tests with the SDK's own Python:

    python sdk_log.py PROJECT     log; print {"project_id", "org", "version", "spans": {...}}

Every span is given as the SDK knows it: its ids, and the fields that it was logged with.
"""

from __future__ import annotations

import json
import sys
from contextlib import suppress
from importlib.metadata import version

import braintrust

QUESTION = {
    "question": "Grüße, 漢字 \U0001f600?", "n": [1, 2.5, None, True, {"deep": {"er": []}}]
}


def told(span, **fields):
    return {
        "id": span.id, "span_id": span.span_id, "root_span_id": span.root_span_id,
        "fields": fields,
    }


def main() -> None:
    project = sys.argv[1]
    state = braintrust.login()
    logger = braintrust.init_logger(project=project)
    spans = {}

    with logger.start_span(name="answer", type="task", input=QUESTION) as root:
        with root.start_span(name="completion", type="llm") as llm:
            fields = {
                "input": [{"role": "user", "content": "Which river runs through Vienna?"}],
                "output": [{"role": "assistant", "content": "the Danube"}],
                "metadata": {"model": "gpt-4o", "temperature": 0},
                "metrics": {"prompt_tokens": 12, "completion_tokens": 3, "tokens": 15},
            }
            llm.log(**fields)
            spans["completion"] = told(llm, **fields)
        with root.start_span(name="tool", type="tool", input={"q": 1}) as tool:
            with tool.start_span(name="inner") as inner:
                inner.log(output=0)
                spans["inner"] = told(inner, output=0)
            tool.log(output=False)
            spans["tool"] = told(tool, input={"q": 1}, output=False)
        fields = {
            "output": "the Danube", "expected": "the Danube", "tags": ["river", "prod"],
            "metadata": {"topic": "geography", "user": {"id": 7, "name": "Zoë"}},
            "scores": {"thumbs": 0.5},
        }
        root.log(**fields)
        spans["answer"] = told(root, input=QUESTION, **fields)

    with suppress(RuntimeError), logger.start_span(name="broken", input="x") as broken:
        spans["broken"] = told(broken, input="x")
        raise RuntimeError("the tool is away")

    @braintrust.traced
    def shout(text):
        spans["shout"] = told(
            braintrust.current_span(), input={"text": text}, output=text.upper()
        )
        return text.upper()

    shout("hello")
    logger.flush()

    # A long span: its first part is stored before the second is logged.
    long = logger.start_span(name="long", input="a question that takes its time")
    logger.flush()
    long.log(output="an answer", expected="an answer", metadata={"step": {"one": 1}})
    logger.flush()
    long.log(metadata={"step": {"two": 2}})
    long.end()
    logger.flush()
    spans["long"] = told(
        long, input="a question that takes its time", output="an answer",
        expected="an answer", metadata={"step": {"one": 1, "two": 2}},
    )

    logger.log_feedback(
        id=root.id, scores={"accuracy": 1}, tags=["reviewed"], comment="well done",
        metadata={"reviewer": "ada"}, source="app",
    )
    logger.log_feedback(id=tool.id, expected={"a": True})
    logger.flush()
    for thumbs in (1, 0, 1):     # somebody who changes their mind, and changes it back
        logger.log_feedback(id=root.id, scores={"thumbs": thumbs})
        logger.flush()
    spans["answer"]["fields"]["scores"]["thumbs"] = 1
    spans["answer"]["fields"]["scores"]["accuracy"] = 1
    spans["tool"]["fields"]["expected"] = {"a": True}

    logger.update_span(id=long.id, metadata={"step": {"three": 3}})
    braintrust.update_span(exported=llm.export(), metadata={"checked": True})
    logger.flush()
    spans["long"]["fields"]["metadata"]["step"]["three"] = 3
    spans["completion"]["fields"]["metadata"]["checked"] = True

    org = getattr(state, "org_name", None) or braintrust.org_id()
    print(json.dumps({
        "project_id": logger.project.id, "org": org, "version": version("braintrust"),
        "spans": spans,
    }))


if __name__ == "__main__":
    main()
