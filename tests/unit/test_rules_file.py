"""A rules file: how it names scorers, and how a difference is shown."""

from __future__ import annotations

import uuid

import pytest
from fakes.function_names import ListedNames

from rules.file import differences, read_file
from spans.errors import BadInput
from spans.file_plan import ChangeKind

POLITE = str(uuid.UUID(int=3))


NAMES = ListedNames({("mine", "polite"): POLITE})


def rules(*scorers, project="mine", **fields):
    rule = {"name": "r", "scorers": list(scorers), **fields}
    return read_file({"project": project, "rules": [rule]}, NAMES)


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
        read_file(None, NAMES)


def test_a_new_rule_is_shown_as_yaml_writes_it():
    wanted = rules("polite", "Levenshtein", apply_to_root_span=True)
    (change,) = differences(wanted, [], NAMES, prune=False)
    assert change.kind is ChangeKind.CREATE
    assert change.lines == (
        "scorers: [{type: function, slug: polite}, Levenshtein]", "sampling_rate: 1",
        "apply_to_root_span: true",
    )
