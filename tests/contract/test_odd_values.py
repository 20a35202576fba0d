"""What an application logs with a real SDK and cannot be stored costs no span its answer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from client_runs import run_client
from stack import Stack

WARNED = {
    "metric": ["metrics.tps: must be a number or null, not \"NaN\"; left out",
               "metrics.cost: must be a number or null, not \"Infinity\"; left out"],
    "metadata": [f"metadata.seed: {2**70} is an integer beyond 64 bits; stored as text"],
    "tags": ["tags: must be a list of up to 100 strings of up to 128 characters"] * 2,
    "text": ["metadata.cut: half a surrogate pair, or bytes that are not UTF-8; "
             "replaced by U+FFFD",
             "metadata.nul: NUL cannot be stored; replaced by U+FFFD"],
}


def test_a_value_that_cannot_be_stored_costs_no_answer(stack: Stack, tmp_path: Path) -> None:
    project = stack.project("odd values")
    stack.rule(project, "ExactMatch")

    # It writes NaN as a text. The older SDK, 0.3, raises an error of its own.
    ids = run_client(stack, "sdk-0.47", "sdk_odd_values.py", "odd values", folder=tmp_path)

    rows: dict[str, dict[str, Any]] = {}
    for name, row_id in ids.items():
        stack.scored(project, row_id)
        rows[name] = stack.row(project, row_id) or {}
        assert rows[name]["output"] == "a real answer"
        assert rows[name]["scores"] == {"ExactMatch": 1}
        warnings = rows[name]["ingest_warnings"]
        assert len(warnings) == len(WARNED[name])
        for warning, begin in zip(sorted(warnings), sorted(WARNED[name]), strict=True):
            assert warning.startswith(begin)
        assert stack.explain(project, row_id)["ingest_warnings"] == warnings
    assert not {"tps", "cost"} & rows["metric"]["metrics"].keys()
    assert rows["metadata"]["metadata"] == {"loss": "NaN", "seed": str(2**70), "kept": 1}
    assert len(rows["tags"]["tags"]) == 100
    assert rows["text"]["metadata"] == {"cut": "\ufffd", "nul": "a\ufffdb"}
    assert stack.ok("GET", f"/v1/project_logs/{project}/rejected")["rejected"] == []
