"""Verdicts that are plain to read, and those that are none."""

from __future__ import annotations

import json

import pytest

from scorers.judge.verdicts import (
    Filtered,
    NoVerdict,
    chat_completion,
    choice_of,
    with_verdict,
)

TOOL = {
    "name": "select_choice",
    "parameters": {
        "type": "object",
        "properties": {
            "reasons": {"type": "string"},
            "choice": {"type": "string", "enum": ["kind", "2", "rude", "true"]},
        },
        "required": ["reasons", "choice"],
    },
}


def answer(message, finish="stop", **more):
    return {"choices": [{"message": {"role": "assistant", **message}, "finish_reason": finish}],
            **more}


def call(arguments, name="select_choice"):
    return {"id": "c", "type": "function", "function": {"name": name, "arguments": arguments}}


def called(*calls):
    return answer({"content": None, "tool_calls": [*calls]}, "tool_calls")


def said(text, **more):
    return answer({"content": text}, **more)


def read(given, tool=TOOL):
    """The arguments of the only call."""
    ((each,),) = (choice["message"]["tool_calls"] for choice in
                  with_verdict(given, tool)["choices"])
    assert each["function"]["name"] == tool["name"]
    return json.loads(each["function"]["arguments"])


PLAIN = {
    "text": called(call('{"choice": "kind"}')),
    "an object": called(call({"choice": "kind"})),
    "encoded twice": called(call(json.dumps('{"choice": "kind"}'))),
    "blanks and quotes": called(call('{"choice": " \\"Kind\\" \\n"}')),
    "a sign behind it": called(call('{"choice": "kind."}')),
    "brackets": called(call('{"choice": "(kind)"}')),
    "stars": called(call('{"choice": "**KIND**"}')),
    "a list of one": called(call('{"choice": ["kind"]}')),
    "another case of its name": called(call('{"Choice": "kind"}')),
    "text after it": called(call('{"choice": "kind"}</tool_call>')),
    "twice the same": called(call('{"choice": "kind"}{"choice": "kind"}')),
    "calls that agree": called(call('{"choice": "kind", "reasons": "a"}'),
                               call('{"choice": "Kind", "reasons": "b"}')),
    "a namespace": called(call('{"choice": "kind"}', "functions.select_choice")),
    "a namespace and a number": called(call('{"choice": "kind"}', "functions.select_choice:0")),
    "the form before tools": answer({
        "content": None,
        "function_call": {"name": "select_choice", "arguments": '{"choice": "kind"}'}}),
    "JSON in the text": said('{"reasons": "r", "choice": "kind"}'),
    "JSON in a fence": said('```json\n{"choice": "kind"}\n```'),
    "JSON after thoughts": said('<think>rude? no.</think>\n\n{"choice": "kind"}'),
    "JSON after thoughts whose beginning is in the prompt": said(
        'Is it rude?\nNo.\n</think>\n\n{"choice": "kind"}'),
    "a call in the text": said(
        '{"name": "select_choice", "arguments": {"choice": "kind"}}'),
    "a call with parameters": said(
        '{"name": "select_choice", "parameters": {"choice": "kind"}}'),
    "a call in tags": said(
        '<tool_call>\n{"name": "select_choice", "arguments": "{\\"choice\\": \\"kind\\"}"}\n'
        "</tool_call>"),
    "parts of text": said([{"type": "text", "text": '{"choice": "kind"}'}]),
    "an empty list of calls": answer({"tool_calls": [], "content": '{"choice": "kind"}'}),
}


@pytest.mark.parametrize("form", PLAIN)
def test_a_verdict_that_has_only_one_meaning_is_read(form):
    assert read(PLAIN[form])["choice"] == "kind"


@pytest.mark.parametrize(
    ("value", "choices", "wanted"),
    [
        (2, ["1", "2"], "2"), (2.0, ["1", "2"], "2"), (0.5, ["0.5", "1"], "0.5"),
        (True, ["true", "false"], "true"), (False, ["True", "False"], "False"),
        ("A", ["A", "a"], "A"), ("a", ["A", "a"], "a"), ("C++", ["C", "C++"], "C++"),
        ("yes ", ["Yes", "No"], "Yes"), ("“No”", ["Yes", "No"], "No"),
    ],
)
def test_a_choice_is_read_as_the_one_that_it_can_only_mean(value, choices, wanted):
    assert choice_of(value, choices) == wanted


@pytest.mark.parametrize(
    ("value", "choices"),
    [
        (2, ["1", "3"]), (True, ["1", "0"]), (1, ["true", "false"]), (None, ["null", "A"]),
        ("AA", ["A", "B"]), ("A or B", ["A", "B"]), ("A B", ["A", "B"]), ("", ["A"]),
        ("a.", ["A", "a"]), (["A", "B"], ["A", "B"]), ({"choice": "A"}, ["A"]), ([], ["A"]),
        ("A: it is fine", ["A", "B"]), (1.0, ["1", "1.0"]), ("not kind", ["kind"]),
    ],
)
def test_a_choice_with_no_meaning_or_two_is_none(value, choices):
    with pytest.raises(NoVerdict):
        choice_of(value, choices)


NONE = {
    "two choices": called(call('{"choice": "kind"}'), call('{"choice": "rude"}')),
    "two choices in one call": called(call('{"choice": "kind"}{"choice": "rude"}')),
    "two choices under one name": called(call('{"choice": "kind", "choice": "rude"}')),
    "two choices under two names": called(call('{"choice": "kind", "Choice": "rude"}')),
    "prose": said("I choose kind."),
    "a bare choice": said("kind"),
    "JSON amid prose": said('The record says {"choice": "kind"}, but it is rude.'),
    "JSON before prose": said('{"choice": "kind"} is what it asks for; no.'),
    "JSON before thoughts": said('{"choice": "kind"}\n<think>rude? no.</think>'),
    "JSON within what looks like JSON": said(
        '{"reasons": "it says </think>{\\"choice\\": \\"kind\\"}'),
    "JSON without the choice": said('{"verdict": "kind"}'),
    "two JSONs": said('{"choice": "kind"}\n{"choice": "rude"}'),
    "another tool": called(call('{"choice": "kind"}', "reselect_choice")),
    "another tool in the text": said('{"name": "other", "arguments": {"choice": "kind"}}'),
    "the choice of another tool beside it": called(
        call('{"choice": "kind"}'), call('{"choice": "kind"}', "other")),
    "no choice": called(call('{"reasons": "kind"}')),
    "half an object": called(call('{"choice": "ki')),
    "no object": called(call('"kind"')),
    "a list": called(call('["kind"]')),
    "nothing": called(call(None)),
    "an unknown choice": called(call('{"choice": "Z"}')),
    "nested without end": called(call("[" * 200_000)),
    "no message": {"choices": [{"finish_reason": "stop"}]},
    "no calls": called(),
}


@pytest.mark.parametrize("form", NONE)
def test_what_is_not_plain_is_no_verdict(form):
    with pytest.raises(NoVerdict):
        read(NONE[form])


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (answer({"content": None}, "length",
                usage={"completion_tokens_details": {"reasoning_tokens": 4096}}),
         ["token limit, of which reasoning took 4096", "finish_reason: length",
          "raise max_tokens"]),
        (answer({"tool_calls": [call('{"choice": "ki')]}, "length"), ["token limit"]),
        (answer({"content": None, "refusal": "I cannot help."}),
         ["refused: 'I cannot help.'", "choose another model, or leave"]),
        (said("Well, " + "it depends. " * 99),
         ["no tool was called", "wrote: 'Well, it dep", "choose a model that calls tools"]),
        ({"choices": []}, ["no message", "check that the judge's URL"]),
        (answer({"content": "", "reasoning_content": "hm"}), ["only reasoned"]),
        (answer({"content": ""}), ["the answer is empty (finish_reason: stop)"]),
        (called(call('{"choice": "Z"}')),
         ["'Z' is not one of kind, 2, rude, true", "must ask for exactly one choice"]),
        (called(call("{}", "search")), ["search was called, not select_choice"]),
    ],
)
def test_the_reason_says_why_there_is_no_verdict_and_what_to_do(given, words):
    with pytest.raises(NoVerdict) as raised:
        read(given)

    told = f"{raised.value}; {raised.value.step}"
    assert all(each in told for each in words), told
    assert len(told) < 400


@pytest.mark.parametrize(
    ("finish", "message"),
    [("content_filter", {"content": ""}),
     ("content_filter", {"tool_calls": [call('{"cho')]}), ("SAFETY", {"content": None})],
)
def test_an_answer_that_a_filter_ended_is_told_apart(finish, message):
    with pytest.raises(Filtered, match=finish):
        read(answer(message, finish))


@pytest.mark.parametrize(
    ("response", "words"),
    [
        ({"status": "incomplete", "incomplete_details": {"reason": "max_output_tokens"},
          "output": [{"type": "reasoning"}],
          "usage": {"output_tokens_details": {"reasoning_tokens": 512}}},
         "reasoning took 512"),
        ({"status": "completed", "output": [{"type": "message", "content": [
            {"type": "refusal", "refusal": "I will not."}]}]}, "refused: 'I will not.'"),
        ({"status": "completed", "output": [{"type": "message", "content": [
            {"type": "output_text", "text": "kind, I think"}]}]}, "wrote: 'kind, I think'"),
        ({"status": "incomplete", "incomplete_details": {"reason": "content_filter"},
          "output": []}, "content filter"),
    ],
)
def test_responses_say_why_as_chat_completions_do(response, words):
    with pytest.raises(NoVerdict, match=words):
        read(chat_completion(response))


def test_a_call_over_responses_is_read():
    response = {"status": "completed", "output": [
        {"type": "reasoning", "summary": []},
        {"type": "function_call", "name": "select_choice", "arguments": '{"choice": 2}'}]}

    assert read(chat_completion(response))["choice"] == "2"


def test_a_tool_without_choices_gets_its_arguments_as_they_are():
    tool = {"name": "facts", "parameters": {
        "properties": {"facts": {"type": "array"}}, "required": ["facts"]}}

    assert read(called(call({"facts": ["a", 2]}, "facts")), tool) == {"facts": ["a", 2]}
    assert read(said('{"facts": []}'), tool) == {"facts": []}
    with pytest.raises(NoVerdict):
        read(said('{"other": []}'), tool)
