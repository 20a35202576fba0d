"""Decides what is wrong with an HTTP answer of a judge's endpoint, and who must act. Pure.

The status alone does not say it. Gateways answer 200 with an error in the body, or wrap the
429 of a provider in a 400; some servers answer 500 for a prompt that is too long, and 429 both
for a busy minute and for an account without credit. So what the body says comes first.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from http import HTTPStatus

from scorers.results import storable
from spans.json import Json, JsonObject

ANSWER_BYTES_MAX = 2**20
"""Largest answer that is read. The largest that scorers ask for is an embedding of 60 kB."""

WORDS_MAX = 1000
"""Characters of a server's message that are searched. Some repeat the request after it."""

EXCERPT_CHARACTERS = 300
HIDDEN = "***"
"""Stands in messages for an API key."""


class Cause(StrEnum):
    """Why there is no answer, in one word."""

    RATE = "rate"                # too many calls just now
    AWAY = "away"                # down, overloaded, or still loading the model
    CREDIT = "credit"            # the account has no credit or quota left
    KEY = "key"                  # the key is wrong or may not do this
    ADDRESS = "address"          # there is no such API at this URL
    SERVER = "server"            # the server was started without what the call needs
    CONTENT = "content"          # a filter refused the text
    LENGTH = "length"            # the prompt is longer than the model reads
    MODEL = "model"              # no such model, or it calls no tools
    UNSUPPORTED = "unsupported"  # a parameter is refused by its name, or in its present form
    OTHER = "other"              # the request was refused for another reason
    UNREADABLE = "unreadable"    # not JSON, or too large


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """What is wrong with an answer. `message` is what the server said, or what it sent.

    `parameter` is the one that the server names, `wait_s` the pause that its body asks for.
    `is_refusal` says that the server did not begin to answer, so that the call cost nothing.
    """

    cause: Cause
    message: str
    is_refusal: bool = False
    parameter: str | None = None
    wait_s: float | None = None


@dataclass(frozen=True, slots=True)
class _Rule:
    """Codes of an error, without case and signs, or words in its message, and their cause."""

    cause: Cause
    codes: str
    words: str

    def fits(self, codes: frozenset[str], message: str) -> bool:
        return not codes.isdisjoint(self.codes.split()) or (
            re.search(self.words, message, re.IGNORECASE) is not None
        )


# The first rule that fits counts. A request that is too large stands before the rate limit,
# because some providers refuse one with the rate limit's code, at every try.
_RULES = (
    _Rule(
        Cause.LENGTH,
        "contextlengthexceeded exceedcontextsizeerror stringabovemaxlength requesttoolarge "
        "contextwindowexceedederror",
        r"maximum context length|(exceeds?|exceeded|over|longer than)\b.{0,40}\b(context|model "
        r"length|maximum (input|prompt|model|number of (input )?tokens))|"
        r"context (size|length|window)\b.{0,30}\b(exceed|only)|"
        r"(prompt|input|request) is too (long|large)|request too large|reduce the length|"
        r"too many (input )?tokens(?!.{0,20}\b(wait|per)\b)|must have less than \d+ tokens|"
        r"tokens\b.{0,30}\bmust be <=|max_tokens must be at least 1, got -",
    ),
    _Rule(
        Cause.CREDIT,
        "insufficientquota billinghardlimitreached billingnotactive insufficientcredits "
        "insufficientbalance budgetexceeded paymentrequired exceededcurrentquotaerror",
        r"insufficient[ _](credits?|quota|balance|funds)|credit balance|requires more credits|"
        r"(any|used all available) credits|spending limit|key limit exceeded|"
        r"budget has been exceeded|exceeded budget|account is not active, please check your "
        r"billing|payment required",
    ),
    _Rule(
        Cause.CONTENT,
        "contentfilter contentpolicyviolation contentpolicyviolationerror "
        "responsibleaipolicyviolation datainspectionfailed invalidprompt moderation",
        r"content[ _](management |filter|policy)|content filter|(was|been|were) flagged|"
        r"usage policies|requires moderation|safety system",
    ),
    _Rule(
        Cause.AWAY,
        "modelloading overloaded overloadederror engineoverloaded serviceunavailable "
        "serviceunavailableerror unavailableerror apiconnectionerror modelnotready",
        r"loading model|model\b.{0,80}\b((is|still) (currently )?loading|being loaded)|"
        r"still loading|no models? (is )?loaded|model has crashed|"
        r"warming up|not ready yet|overloaded|server busy|pending requests|"
        r"(at|over) capacity|capacity exceeded|"
        r"no healthy|no deployments available|temporarily|try again later",
    ),
    _Rule(
        Cause.RATE,
        "ratelimitexceeded ratelimiterror toomanyrequests throttlingerror throttlingexception "
        "resourceexhausted",
        r"rate.?limit|too many (requests|tokens)|throttl|quota will be replenished",
    ),
    _Rule(
        Cause.KEY,
        "invalidapikey authenticationerror unauthorized permissiondenied permissionerror",
        r"(incorrect|invalid|missing|no) api.?key|api.?key (is )?(not valid|invalid|expired)|"
        r"invalid authentication|"
        r"invalid subscription key|no auth credentials|token is (invalid|expired)",
    ),
    _Rule(Cause.SERVER, "", r"requires? --|start(ed)? (it|the server)? ?with --"),
    _Rule(
        Cause.UNSUPPORTED,
        "unsupportedparameter unsupportedvalue unknownparameter unsupportedparamserror "
        "extraforbidden",
        r"unsupported (parameter|value)|(unknown|unrecogni[sz]ed|unexpected|extra) "
        r"(request |keyword |body )?(argument|parameter|field|key|input)|"
        r"only the default|extra inputs are not permitted|"
        r"support\b.{0,30}\b(parameters?|temperature|tool_choice)|tool_choice\b.{0,40}"
        r"(not support|may not|cannot|forces)|invalid tool_choice|"
        r"when tool_choice|parameter\b.{0,60}\bnot (supported|allowed|permitted)",
    ),
    _Rule(
        Cause.MODEL,
        "modelnotfound deploymentnotfound modelnotsupported modelnotavailable",
        r"not support (tools?|function)\b|support tool use|tools? (is|are) not supported|"
        r"model\b.{0,99}\b(not found|not exist|not available|not supported)|"
        r"not a valid model|(unknown|invalid|no such) model|try pulling it|no endpoints found|"
        r"deployment for this resource does not exist|not a chat model",
    ),
    _Rule(
        Cause.AWAY, "servererror internalservererror internalerror apierror timeout",
        r"internal server error|connection (error|refused|reset)|upstream|bad gateway",
    ),
)

# Causes that a server's words may give to a status that otherwise says it all.
_DESPITE_5XX = frozenset({Cause.LENGTH, Cause.CREDIT, Cause.CONTENT, Cause.SERVER, Cause.RATE})
_DESPITE_429 = frozenset({Cause.LENGTH, Cause.CREDIT})
_DESPITE_401 = frozenset({Cause.CREDIT, Cause.RATE})

_MAYBE_BEGUN = frozenset({Cause.AWAY, Cause.UNREADABLE})
"""Causes of answers that the server may have begun, and charged for."""

_STATUSES = {
    HTTPStatus.UNAUTHORIZED: Cause.KEY, HTTPStatus.FORBIDDEN: Cause.KEY,
    HTTPStatus.PAYMENT_REQUIRED: Cause.CREDIT, HTTPStatus.TOO_MANY_REQUESTS: Cause.RATE,
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: Cause.LENGTH,
    HTTPStatus.NOT_FOUND: Cause.ADDRESS, HTTPStatus.METHOD_NOT_ALLOWED: Cause.ADDRESS,
    HTTPStatus.REQUEST_TIMEOUT: Cause.AWAY, HTTPStatus.CONFLICT: Cause.AWAY,
    HTTPStatus.TOO_EARLY: Cause.AWAY, HTTPStatus.NOT_IMPLEMENTED: Cause.ADDRESS,
    HTTPStatus.FAILED_DEPENDENCY: Cause.AWAY,   # text-generation-inference: generating failed
    499: Cause.AWAY,   # a proxy's word for: the caller, here another proxy, has hung up
}

_ANSWERS = {
    "/chat/completions": "choices", "/responses": "output", "/embeddings": "data",
    "/moderations": "results",
}
"""The key under which the endpoint of each path answers with a list."""

_PAGE = re.compile(r"\s*(<!doctype|<html|<\?xml|<!--)", re.IGNORECASE)
_PAGE_AWAY = re.compile(
    r"maintenance|unavailable|temporarily|bad gateway|gateway time|overloaded|loading|"
    r"starting|just a moment|try again|\b50[234]\b",
    re.IGNORECASE,
)
"""Words of a web page, sent with status 200, that a judge hides behind for a while."""

_WRAPPED = re.compile(r"(?:status|code|http)\W{1,6}(429|5\d\d)\b", re.IGNORECASE)
_PAUSE = re.compile(
    r"(?:try again|retry|wait)\w* (?:in|after|for)? ?(\d+(?:\.\d+)?) ?(ms|s|sec|m\b|min)",
    re.IGNORECASE,
)
_UNITS_S = {"ms": 0.001, "s": 1.0, "sec": 1.0, "m": 60.0, "min": 60.0}


def answer_of(path: str, status: int, raw: bytes) -> JsonObject | Problem:
    """The answer to a POST at `path`, or what is wrong with it.

    An answer has a list, which is not empty, under the key that its path promises. The same
    status and body always give the same result.
    """
    if len(raw) > ANSWER_BYTES_MAX:
        return _problem(status, "", cause=_by_status(status, Cause.UNREADABLE),
                        shown=f"more than {ANSWER_BYTES_MAX} bytes")
    text = raw.decode(errors="replace").strip()
    is_success = 200 <= status < 300
    try:
        body: Json = json.loads(raw) if text else None
    except (ValueError, RecursionError) as error:
        return _not_json(status, text, error)
    error_part = _error_in(body)
    if error_part is None and is_success and isinstance(body, dict):
        key = _ANSWERS[path]
        if body.get(key):
            return _unless_failed(body)
        if key in body:
            return _problem(status, "", cause=Cause.AWAY, shown=f"nothing in `{key}`: {text}")
    if not text:
        is_refusal = 400 <= status < 500
        cause = _by_status(status, Cause.OTHER if is_refusal else Cause.AWAY)
        return _problem(status, "", cause=cause, shown="an empty body")
    if error_part is None and is_success and not _message_in(body):
        is_object = isinstance(body, dict)
        cause = Cause.ADDRESS if is_object else Cause.UNREADABLE
        kind = f"no `{_ANSWERS[path]}`" if is_object else "JSON that is not an object"
        return _problem(status, "", cause=cause, shown=f"{kind}: {text}")
    return _from_error(status, error_part if error_part is not None else body, text)


def _unless_failed(body: JsonObject) -> JsonObject | Problem:
    """The answer, unless its only choice says that making it failed."""
    match body.get("choices"):
        case [{"error": dict() as error}] if error:
            return _from_error(200, error, json.dumps(error))
        case [{"finish_reason": "error"}]:
            return _problem(200, "", cause=Cause.AWAY, shown="finish_reason: error")
    return body


def _error_in(body: Json) -> Json:
    """The part of the body that describes an error; None if there is none."""
    match body:
        case [{"error": error}, *_] if error:        # Google's
            return error
        case {"error": error} if error:
            return error
        case {"object": "error"} | {"type": "error"}:   # vLLM's older one
            return body
        case {"status": "failed" | "cancelled", "output": _}:
            return {"code": "server_error", "message": "the response failed"}
        case {"status": "queued" | "in_progress", "output": _}:
            return {"code": "server_error", "message": "the response is not ready yet"}
    return None


def _message_in(body: Json) -> str:
    """The message of an error, in any of the forms that servers use; "" if it has none."""
    match body:
        case str():
            return body
        case {"message": str(message), "metadata": {"raw": said}} if said:
            return f"{message}: {said}"   # OpenRouter: what the provider said
        case {"message": str(message)}:
            return message
        case {"detail": str(message)} | {"msg": str(message)} | {"error_message": str(message)}:
            return message
        case {"detail": [*details]}:   # FastAPI: one for each field
            return "; ".join(map(_field_message, details))
        case {"message": dict() as inner} | {"detail": dict() as inner}:
            return _message_in(inner)
    return ""


def _field_message(detail: Json) -> str:
    match detail:
        case {"loc": [*where], "msg": message}:
            return f"{'.'.join(map(str, where))}: {message}"
        case _:
            return str(detail)


def _from_error(status: int, error: Json, text: str) -> Problem:
    message = _message_in(error) or text
    codes = frozenset(_codes(error))
    given = next((int(code) for code in codes if code.isdecimal() and len(code) == 3), status)
    # A body may hold a more exact status than the head, but not turn a refusal into a success.
    if given >= 400 and (status < 300 or given == 429 or given >= 500):
        status = given
    elif wrapped := _WRAPPED.search(message[:WORDS_MAX]):
        status = status if status == 429 or status >= 500 else int(wrapped[1])
    if isinstance(error, dict) and _is_flagged(error):
        return _problem(status, message, cause=Cause.CONTENT, error=error)
    return _problem(status, message, codes=codes, error=error)


def _is_flagged(error: JsonObject) -> bool:
    """Whether OpenRouter's moderation refused the text."""
    metadata = error.get("metadata")
    return isinstance(metadata, dict) and "flagged_input" in metadata


def _codes(error: Json) -> Iterator[str]:
    """The words by which an error names itself, in lower case and without signs."""
    if isinstance(error, int) and not isinstance(error, bool):
        yield str(error)
    if not isinstance(error, dict):
        return
    for name in ("code", "type", "status", "statusCode"):
        value = error.get(name)
        if isinstance(value, str | int) and not isinstance(value, bool):
            yield re.sub(r"[^a-z0-9]", "", str(value).lower())
    yield from _codes(error.get("innererror"))


def _not_json(status: int, text: str, error: Exception) -> Problem:
    if _PAGE.match(text):
        is_away = _PAGE_AWAY.search(text[:WORDS_MAX * 4])
        cause = _by_status(status, Cause.AWAY if is_away else Cause.ADDRESS)
        return _problem(status, "", cause=cause, shown=f"a web page: {text}")
    if 200 <= status < 300:
        cause = Cause.AWAY if _is_cut(text, error) else Cause.UNREADABLE
        kind = "JSON that is cut off" if cause is Cause.AWAY else "something other than JSON"
        return _problem(status, "", cause=cause, shown=f"{kind}: {text}")
    return _problem(status, text)


def _is_cut(text: str, error: Exception) -> bool:
    """Whether the text is the beginning of a JSON object, whose rest did not come."""
    if not text.startswith("{") or not isinstance(error, json.JSONDecodeError):
        return False
    if error.msg.startswith("Unterminated string"):
        return True
    left = len(text) - error.pos
    return left <= 0 or (left < len("false") and not text.endswith("}"))


def _problem(
    status: int, message: str, *, codes: frozenset[str] = frozenset(),
    cause: Cause | None = None, error: Json = None, shown: str | None = None,
) -> Problem:
    """The problem of a status and a message; with a `cause`, that one."""
    parameter = error.get("param") if isinstance(error, dict) else None
    pause = _PAUSE.search(message[:WORDS_MAX])
    found = cause or _cause(status, codes, message[:WORDS_MAX])
    return Problem(
        cause=found,
        is_refusal=status >= 400 and found not in _MAYBE_BEGUN,
        message=shown if shown is not None else message,
        parameter=parameter if isinstance(parameter, str) else None,
        wait_s=float(pause[1]) * _UNITS_S[pause[2].lower()] if pause else None,
    )


def _cause(status: int, codes: frozenset[str], message: str) -> Cause:
    usual = _by_status(status, Cause.OTHER)
    said = next((rule.cause for rule in _RULES if rule.fits(codes, message)), usual)
    match status:
        case 401:
            return said if said in _DESPITE_401 else usual
        case 402 | 413:
            return usual
        case 429:
            return said if said in _DESPITE_429 else usual
        case _ if status >= 500:
            return said if said in _DESPITE_5XX else usual
        case _:
            return said


def _by_status(status: int, otherwise: Cause) -> Cause:
    """What the status alone says; `otherwise` for a success and for statuses without one."""
    if status in _STATUSES:
        return _STATUSES[status]
    if status >= 500:
        return Cause.AWAY
    return Cause.ADDRESS if 300 <= status < 400 else otherwise


def excerpt(text: str) -> str:
    """The start of the text on one line, for a message."""
    text = storable(" ".join(text.split()))
    return text if len(text) <= EXCERPT_CHARACTERS else text[:EXCERPT_CHARACTERS] + "..."
