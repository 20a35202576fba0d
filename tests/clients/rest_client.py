"""What a user of `braintrust-api` does, each as a command that prints JSON.

Run by the tests with the client's own Python: `python rest_client.py COMMAND ARGUMENT...`
"""

from __future__ import annotations

import json
import sys
import time

import braintrust_api
from braintrust_api import Braintrust

LISTED_MAX = 500
"""A page loop that goes beyond this does not end."""


def rules(client: Braintrust, project_id: str, *scorers: str):
    """One rule for each scorer, on root spans and those named `long`."""
    made = [
        client.project_scores.create(
            name=f"rule {scorer}", project_id=project_id, score_type="online",
            description="made by the client",
            config={"online": {
                "sampling_rate": 1.0, "apply_to_root_span": True,
                "apply_to_span_names": ["completion"],
                "scorers": [{"type": "global", "name": scorer}],
            }},
        )
        for scorer in scorers
    ]
    return {rule.name: rule.id for rule in made}


def fetch(client: Braintrust, project_id: str):
    """Every row, by POST two at a time and by GET at once."""
    posted, cursor, pages = [], None, 0
    while True:
        page = client.projects.logs.fetch_post(
            project_id, limit=2, **({"cursor": cursor} if cursor else {})
        )
        posted += [row.to_dict(mode="json") for row in page.events]
        pages += 1
        cursor = page.cursor
        if not cursor or pages > LISTED_MAX:
            break
    got = client.projects.logs.fetch(project_id, limit=1000)
    return {
        "posted": posted, "pages": pages,
        "got": [row.to_dict(mode="json") for row in got.events], "cursor": got.cursor,
    }


def projects(client: Braintrust, prefix: str):
    """The life of projects, and their lists."""
    made = [client.projects.create(name=f"{prefix} {n}") for n in range(5)]
    again = client.projects.create(name=f"{prefix} 0")
    one = client.projects.retrieve(made[0].id)
    changed = client.projects.update(made[1].id, name=f"{prefix} renamed")
    forwards = []
    for each in client.projects.list(limit=2):
        forwards.append(each.id)
        if len(forwards) > LISTED_MAX:
            break
    backwards = []
    for each in client.projects.list(limit=2, ending_before=made[0].id):
        backwards.append(each.id)
        if len(backwards) > LISTED_MAX:
            break
    named = [each.id for each in client.projects.list(project_name=f"{prefix} 2")]
    by_ids = [each.id for each in client.projects.list(ids=[made[3].id, made[4].id])]
    deleted = client.projects.delete(made[4].id)
    try:
        client.projects.retrieve(made[4].id)
        gone = "still there"
    except braintrust_api.NotFoundError as error:
        gone = error.status_code
    remade = client.projects.create(name=f"{prefix} 4")
    return {
        "made": [each.id for each in made], "again": again.id, "one": one.to_dict(mode="json"),
        "changed": changed.to_dict(mode="json"), "forwards": forwards, "backwards": backwards,
        "named": named, "by_ids": by_ids, "deleted": deleted.id, "gone": gone,
        "remade": remade.id,
    }


def scores(client: Braintrust, project_id: str):
    """The life of project scores, and their lists."""
    slider = client.project_scores.create(
        name="quality", project_id=project_id, score_type="slider", description="by hand",
        config={"destination": "expected"},
    )
    categories = [{"name": "good", "value": 1.0}, {"name": "bad", "value": 0.0}]
    categorical = client.project_scores.create(
        name="verdict", project_id=project_id, score_type="categorical",
        categories=categories, config={"multi_select": True},
    )
    online = {
        "sampling_rate": 0.5, "scorers": [{"type": "global", "name": "Levenshtein"}],
        "apply_to_span_names": ["answer"],
    }
    rule = client.project_scores.create(
        name="online rule", project_id=project_id, score_type="online",
        config={"online": online},
    )
    again = client.project_scores.create(
        name="online rule", project_id=project_id, score_type="online",
        config={"online": {**online, "sampling_rate": 0.1}},
    )
    found = client.project_scores.retrieve(rule.id)
    changed = client.project_scores.update(rule.id, description="changed")
    replaced = client.project_scores.replace(
        name="online rule", project_id=project_id, score_type="online",
        config={"online": {**online, "sampling_rate": 0.25}},
    )
    listed = []
    for each in client.project_scores.list(project_id=project_id, limit=1):
        listed.append(each.name)
        if len(listed) > LISTED_MAX:
            break
    sliders = [
        each.name
        for each in client.project_scores.list(project_id=project_id, score_type="slider")
    ]
    named = [
        each.name
        for each in client.project_scores.list(
            project_id=project_id, project_score_name="verdict"
        )
    ]
    deleted = client.project_scores.delete(slider.id)
    try:
        client.project_scores.retrieve(slider.id)
        gone = "still there"
    except braintrust_api.NotFoundError as error:
        gone = error.status_code
    try:
        client.project_scores.create(
            name="bad", project_id=project_id, score_type="online",
            config={"online": {**online, "scorers": [{"type": "global", "name": "Nope"}]}},
        )
        refused = "taken"
    except braintrust_api.BadRequestError as error:
        refused = error.body
    return {
        "slider": slider.to_dict(mode="json"), "categorical": categorical.to_dict(mode="json"),
        "rule": rule.to_dict(mode="json"), "again": again.to_dict(mode="json"),
        "found": found.to_dict(mode="json"), "changed": changed.to_dict(mode="json"),
        "replaced": replaced.to_dict(mode="json"), "listed": listed, "sliders": sliders,
        "named": named, "deleted": deleted.id, "gone": gone, "refused": refused,
    }


def logs(client: Braintrust, project_id: str):
    """Insert, merge, feedback and deletion of rows."""
    end = time.time()
    inserted = client.projects.logs.insert(
        project_id,
        events=[
            {"id": "kept", "input": "a", "output": "b", "metadata": {"n": {"x": 1}},
             "metrics": {"start": end - 1, "end": end}, "span_attributes": {"name": "kept"}},
            {"input": "without an id"},
            {"id": "deleted", "input": "c"},
        ],
    )
    merged = client.projects.logs.insert(
        project_id,
        events=[
            {"id": "kept", "_is_merge": True, "metadata": {"n": {"y": 2}}, "tags": ["t"]},
            {"id": "deleted", "_object_delete": True},
        ],
    )
    feedback = client.projects.logs.feedback(
        project_id,
        feedback=[{"id": "kept", "scores": {"human": 0.75}, "comment": "fine",
                   "expected": "bb", "metadata": {"who": "ada"}, "source": "app"}],
    )
    return {
        "inserted": inserted.row_ids, "merged": merged.row_ids, "feedback": feedback.status,
        "rows": [
            row.to_dict(mode="json") for row in client.projects.logs.fetch(project_id).events
        ],
        "filtered": [
            row.id
            for row in client.projects.logs.fetch_post(
                project_id,
                extra_body={"filters": [
                    {"type": "path_lookup", "path": ["metadata", "n", "y"], "value": 2}
                ]},
            ).events
        ],
    }


def repeated(client: Braintrust, project_id: str):
    """The ids that three equal inserts without an id got."""
    return [
        client.projects.logs.insert(project_id, events=[{"input": "again"}]).row_ids[0]
        for _ in range(3)
    ]


def refused(client: Braintrust, project_id: str):
    """What the client raises, by what the server answers."""
    told = {}
    strangers = {
        "unknown project": lambda: client.projects.logs.fetch(
            "00000000-0000-4000-8000-000000000000"
        ),
        "bad score": lambda: client.projects.logs.insert(
            project_id, events=[{"id": "x", "scores": {"s": 2}}]
        ),
        "wrong key": lambda: client.with_options(api_key="sk-nobody").projects.retrieve(
            project_id
        ),
    }
    for name, ask in strangers.items():
        try:
            ask()
        except braintrust_api.APIStatusError as error:
            told[name] = [type(error).__name__, error.body]
    return told


COMMANDS = {
    "rules": rules, "fetch": fetch, "projects": projects, "scores": scores, "logs": logs,
    "refused": refused, "repeated": repeated,
}


def main() -> None:
    command, *arguments = sys.argv[1:]
    print(json.dumps(COMMANDS[command](Braintrust(), *arguments)))


if __name__ == "__main__":
    main()
