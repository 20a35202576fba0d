from __future__ import annotations

import inspect
import re
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import autoevals
import pytest
from autoevals.llm import SpecFileClassifier

from scorers.catalog import ScorerKind, at_version, is_known, names, resolve
from spans.errors import BadInput
from spans.scoring import ScorerRef
from wiring.yaml_files import read_yaml_file

# LLMClassifier is nothing without a template, and the others are bases or older names.
NOT_BY_NAME = {"LLMClassifier", "LevenshteinScorer", "OpenAIScorer", "OpenAILLMScorer",
               "OpenAILLMClassifier", "Scorer", "ScorerWithPartial", "SpecFileClassifier"}


def test_every_scorer_that_autoevals_offers_is_known():
    offered = {
        name
        for name, value in vars(autoevals).items()
        if inspect.isclass(value) and issubclass(value, autoevals.Scorer)
    }
    assert offered - NOT_BY_NAME == set(names())


def test_every_name_belongs_to_a_class_of_autoevals():
    assert [name for name in names() if not inspect.isclass(getattr(autoevals, name))] == []


def classifiers():
    classes = {name: getattr(autoevals, name) for name in names()}
    return [name for name, each in classes.items() if issubclass(each, SpecFileClassifier)]


@pytest.mark.parametrize("name", classifiers())
def test_a_classifier_requires_exactly_what_its_template_shows(name):
    file_name = re.sub(r"(?<!^)(?=[A-Z])", "_", name).lower() + ".yaml"
    template = Path(inspect.getfile(autoevals)).parent / "templates" / file_name
    prompt = read_yaml_file(template)["prompt"]
    assert set(re.findall(r"{{2,3}(\w+)}{2,3}", prompt)) == set(resolve(name).required)


@pytest.mark.parametrize(
    "name", [n for n in names() if resolve(n).kind is ScorerKind.IN_PROCESS]
)
def test_an_in_process_scorer_accepts_what_the_catalog_says_and_needs_it(name):
    arguments = {"output": [1], "expected": [1]} if name != "NumericDiff" else {
        "output": 1, "expected": 1}
    given = {each: arguments[each] for each in resolve(name).required}
    if name != "ListContains":  # autoevals' own needs scipy, which ours does without
        assert getattr(autoevals, name)().eval(**given).score == 1
    if "expected" in given and name not in {"ExactMatch", "JSONDiff"}:  # these would say 0
        with pytest.raises(ValueError, match="requires an expected value"):
            getattr(autoevals, name)().eval(given["output"])


def test_an_unknown_name_is_answered_with_the_nearest_ones():
    with pytest.raises(BadInput, match=r"did you mean Factuality\?"):
        resolve("factualty")


def test_a_name_like_no_other_is_answered_with_all_of_them():
    with pytest.raises(BadInput, match=r"the scorers are AnswerCorrectness, .*ValidJSON"):
        resolve("zzz")


def test_names_are_exact():
    assert is_known("Levenshtein")
    assert not is_known("levenshtein")


def test_a_scorer_is_had_at_the_version_that_is_installed_and_no_other():
    installed = ScorerRef(kind="global", name="Sql", version=version("autoevals"))
    assert at_version(installed) == resolve("Sql")
    with pytest.raises(BadInput, match=r"the rule wants Sql at version 0\.0\.1"):
        at_version(ScorerRef(kind="global", name="Sql", version="0.0.1"))


def test_checking_names_loads_no_scorer_library():
    script = (
        "import sys, scorers.catalog, scorers.arguments;"
        "import scorers.heuristics.in_process, scorers.judge.client;"
        "scorers.catalog.resolve('Factuality');"
        "print({'autoevals', 'openai', 'aiohttp'} & set(sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=Path(__file__).parents[2], capture_output=True, text=True, check=True,
    )
    assert done.stdout.strip() == "set()"


def test_scoring_in_process_does_not_load_the_openai_client():
    script = (
        "import sys; from scorers.catalog import resolve;"
        "from scorers.arguments import ScoringFields;"
        "from scorers.heuristics.in_process import score_in_process;"
        "score_in_process(resolve('Levenshtein'), ScoringFields(output='a', expected='b'));"
        "print('autoevals' in sys.modules, 'openai' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=Path(__file__).parents[2], capture_output=True, text=True, check=True,
    )
    assert done.stdout.strip() == "True False"
