"""A rules file: how it names scorers, and how a difference is shown."""

from __future__ import annotations

import uuid

import pytest

from rules.file import ChangeKind, FunctionName, differences, read_file
from spans.errors import BadInput, NotFound

POLITE = str(uuid.UUID(int=3))


class OneFunction:
    """The project `mine` has one function, `polite`."""

    def id_of(self, project: str, slug: str) -> str:
        if (project, slug) != ("mine", "polite"):
            raise NotFound(f"the project {project!r} has no function {slug!r}")
        return POLITE

    def name_of(self, function_id: str) -> FunctionName | None:
        return FunctionName(project="mine", slug="polite") if function_id == POLITE else None


def rules(*scorers, project="mine", **fields):
    rule = {"name": "r", "scorers": list(scorers), **fields}
    return read_file({"project": project, "rules": [rule]}, OneFunction())


@pytest.mark.parametrize(
    ("scorer", "project"),
    [
        ("polite", "mine"),
        ({"slug": "polite"}, "mine"),
        ({"type": "function", "slug": "polite"}, "mine"),
        ({"slug": "polite", "project_name": "mine"}, "other"),
    ],
)
def test_a_function_goes_by_its_slug(scorer, project):
    (rule,) = rules(scorer, project=project).rules
    (read,) = rule.config.online.scorers
    assert (read.type, read.id) == ("function", POLITE)


def test_an_unknown_name_may_be_meant_as_either():
    for scorer, near in (("levenshtein", "did you mean Levenshtein"), ("rude", "scorers are")):
        with pytest.raises(BadInput, match=rf"^rules\[0\]: .*{near}.*your own, by its slug$"):
            rules(scorer)
    with pytest.raises(BadInput, match="has no function 'rude'"):
        rules({"slug": "rude"})


def test_an_empty_file_is_called_so():
    with pytest.raises(BadInput, match="the file is empty"):
        read_file(None, OneFunction())


def test_a_new_rule_is_shown_as_yaml_writes_it():
    wanted = rules("polite", "Levenshtein", apply_to_root_span=True)
    (change,) = differences(wanted, [], OneFunction(), prune=False)
    assert change.kind is ChangeKind.CREATE
    assert change.lines == (
        "scorers: [{type: function, slug: polite}, Levenshtein]", "sampling_rate: 1",
        "apply_to_root_span: true",
    )
