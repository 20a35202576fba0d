"""The answers to hostile, broken and odd requests.

The numbers are those of the list of bad input in the reference of security.
"""

from __future__ import annotations

import gzip
import json
import socket
import time
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import quote, urlsplit

import psutil
import pytest
from stack import Answer, Stack

MB = 2**20
BODY_MAX = 20 * MB
INFLATED_MAX = 64 * MB
SPAN_MAX = 6 * MB
EVENT = b'{"events": [{"id": "a", "input": 1}]}'


@pytest.fixture(scope="module")
def project(stack: Stack) -> str:
    return stack.project()


@pytest.fixture(autouse=True)
def is_well(stack: Stack, project: str) -> Iterator[None]:
    """After whatever a test sent, the API answers others, and has logged no bug."""
    before = len(stack.log_text("api"))
    yield
    stack.insert(project, {"id": "after", "input": time.time()})
    logged = stack.log_text("api")[before:]
    bugs = [line for line in logged.splitlines() if " error " in line or "Error: " in line]
    assert not bugs


def insert(stack: Stack, project: str, *events: Any) -> Answer:
    path = f"/v1/project_logs/{project}/insert"
    return stack.http("POST", path, {"events": list(events)})


def insert_text(stack: Stack, project: str, body: bytes, **headers: str) -> Answer:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return stack.http("POST", f"/v1/project_logs/{project}/insert", body, headers=named)


def raw(stack: Stack, *pieces: bytes, timeout_s: float = 10.0) -> bytes:
    """Send bytes as they are; what the server answered until it closed or fell silent."""
    parts = urlsplit(stack.api_url)
    answer = b""
    with socket.create_connection((parts.hostname, parts.port), timeout=timeout_s) as sock:
        try:
            for piece in pieces:
                sock.sendall(piece)
        except (BrokenPipeError, ConnectionResetError):
            pass   # it answered before the end, and closed
        sock.settimeout(timeout_s)
        try:
            while piece := sock.recv(65536):
                answer += piece
                if b"\r\n\r\n" in answer and b"onnection: close" not in answer:
                    break
        except (ConnectionResetError, TimeoutError):
            pass
    return answer


def head(stack: Stack, project: str, *lines: str) -> bytes:
    return "\r\n".join((
        f"POST /v1/project_logs/{project}/insert HTTP/1.1", "Host: localhost",
        f"Authorization: Bearer {stack.key()}", *lines, "", "",
    )).encode("latin-1")


# --- the request


@pytest.mark.parametrize(
    "key", [b"sk-\x00", b"sk-a\r\n b", b"sk-\xc3\xa9\xff", b"", b"a" * 10_000]
)
def test_a_malformed_key_is_refused(stack: Stack, key: bytes) -> None:   # 6
    answer = raw(stack, b"GET /ping HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer " + key
                 + b"\r\n\r\n")

    assert answer.split(b" ", 2)[1] in {b"401", b"400"}


def test_an_announced_gigabyte_is_refused_before_it_is_sent(
    stack: Stack, project: str
) -> None:   # 7
    answer = raw(stack, head(stack, project, "Content-Length: 1000000000"))

    assert answer.startswith(b"HTTP/1.1 413")


def test_a_chunked_body_is_refused_when_it_passes_the_limit(
    stack: Stack, project: str
) -> None:   # 8
    chunk = b"100000\r\n" + b" " * MB + b"\r\n"

    answer = raw(stack, head(stack, project, "Transfer-Encoding: chunked"), *[chunk] * 40)

    assert b"413" in answer[:20]


def test_a_body_longer_than_announced_is_refused(stack: Stack, project: str) -> None:   # 9
    answer = raw(stack, head(stack, project, "Content-Length: 10"), EVENT)

    assert answer.startswith(b"HTTP/1.1 400")


def test_a_client_that_goes_away_half_way_leaves_nothing(
    stack: Stack, project: str
) -> None:   # 53
    parts = urlsplit(stack.api_url)
    for _ in range(20):
        with socket.create_connection((parts.hostname, parts.port)) as sock:
            sock.sendall(head(stack, project, "Content-Length: 1000"))
            sock.sendall(b'{"events": [{"id": "half"')
    assert stack.row(project, "half") is None


def test_a_client_that_does_not_wait_for_its_answer_has_all_stored_or_nothing(
    stack: Stack, project: str
) -> None:   # 53
    body = json.dumps({"events": [{"id": f"gone {n}"} for n in range(100)]}).encode()
    parts = urlsplit(stack.api_url)
    with socket.create_connection((parts.hostname, parts.port)) as sock:
        sock.sendall(head(stack, project, f"Content-Length: {len(body)}") + body)
    insert(stack, project, {"id": "later"})   # the writer takes them in turn
    stored = [row for row in stack.rows(project) if row["id"].startswith("gone ")]
    assert len(stored) in {0, 100}


@pytest.mark.parametrize(
    "lines",
    [
        ("Content-Length: 6", "Transfer-Encoding: chunked"),
        ("Transfer-Encoding: xchunked",),
        ("Content-Length: 6", "Content-Length: 7"),
        ("X-Long: " + "a" * MB,),
    ],
    ids=["length and chunked", "xchunked", "two lengths", "a header of 1 MB"],
)
def test_requests_that_proxies_read_in_two_ways_are_refused(
    stack: Stack, project: str, lines: tuple[str, ...]
) -> None:   # 54
    answer = raw(stack, head(stack, project, *lines), b"0\r\n\r\nX", timeout_s=5)

    assert answer.split(b" ", 2)[1] in {b"400", b"431", b"501"}


# --- encodings


def test_gzip_and_deflate_are_understood(stack: Stack, project: str) -> None:
    bodies = {
        "gzip": [gzip.compress(EVENT), gzip.compress(EVENT[:9]) + gzip.compress(EVENT[9:])],
        "deflate": [zlib.compress(EVENT)],
        "identity": [EVENT],
        "GZIP": [gzip.compress(EVENT)],
    }
    for encoding, sent in bodies.items():
        for body in sent:
            answer = insert_text(stack, project, body, content_encoding=encoding)
            assert (answer.status, encoding) == (200, encoding), answer.body


def test_a_gzip_bomb_is_refused_in_bounded_memory(
    stack: Stack, project: str
) -> None:   # 10
    bomb = gzip.compress(b" " * (200 * MB), 9)
    api = psutil.Process(stack.pids("api")[0])
    insert_text(stack, project, bomb, content_encoding="gzip")
    before = api.memory_info().rss

    answer = insert_text(stack, project, bomb, content_encoding="gzip")

    assert answer.status == 413
    assert api.memory_info().rss - before < 30 * MB


@pytest.mark.parametrize("encoding", ["br", "gzip, gzip", "zstd", "gzip;q=1", "x"])
def test_an_encoding_that_is_not_spoken_is_named(
    stack: Stack, project: str, encoding: str
) -> None:   # 11
    answer = insert_text(
        stack, project, gzip.compress(gzip.compress(EVENT)), content_encoding=encoding
    )

    assert answer.status == 415
    assert "gzip, deflate or none" in answer.error


@pytest.mark.parametrize(
    "body",
    [
        gzip.compress(EVENT)[:-9], gzip.compress(EVENT)[:5], gzip.compress(EVENT) + b"garbage",
        EVENT, gzip.compress(gzip.compress(EVENT)), b"\x1f\x8b" + b"\0" * 100,
        gzip.compress(EVENT)[:-5] + b"\0" + gzip.compress(EVENT)[-4:],
    ],
    ids=["cut", "head only", "garbage after", "not gzip", "gzip in gzip", "zeros", "bad sum"],
)
def test_a_badly_compressed_body_is_refused(
    stack: Stack, project: str, body: bytes
) -> None:   # 11, 12
    assert insert_text(stack, project, body, content_encoding="gzip").status == 400


def test_many_members_are_bounded_together(stack: Stack, project: str) -> None:   # 13
    member = gzip.compress(b" " * (33 * MB))

    answer = insert_text(stack, project, member * 2, content_encoding="gzip")

    assert answer.status == 413


@pytest.mark.parametrize(
    "content_type",
    ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x"],
)
def test_a_content_type_that_is_not_json_is_refused(
    stack: Stack, project: str, content_type: str
) -> None:   # 14
    assert insert_text(stack, project, EVENT, content_type=content_type).status == 415


@pytest.mark.parametrize("content_type", [None, "application/json; charset=utf-8"])
def test_json_needs_no_content_type(
    stack: Stack, project: str, content_type: str | None
) -> None:
    headers = {} if content_type is None else {"content_type": content_type}

    assert insert_text(stack, project, EVENT, **headers).status == 200


# --- the JSON text

NOT_JSON = {
    "empty": b"", "null": b"null", "a text": b'""', "a list": b"[]", "a number": b"1",
    "cut": EVENT[:-3], "two values": EVENT + EVENT, "single quotes": b"{'events': []}",
    "bad UTF-8": b'{"events": [{"input": "\xff\xfe"}]}',
    "overlong UTF-8": b'{"events": [{"input": "\xc0\xaf"}]}',
    "UTF-16": EVENT.decode().encode("utf-16"), "BOM": b"\xef\xbb\xbf" + EVENT,
    "NaN": b'{"events": [{"input": NaN}]}',
    "Infinity": b'{"events": [{"input": Infinity}]}',
    "-Infinity": b'{"events": [{"input": -Infinity}]}',
    "1e999": b'{"events": [{"input": 1e999}]}', "-1e999": b'{"events": [{"input": -1e999}]}',
    "lone surrogate": b'{"events": [{"input": "\\ud800"}]}',
    "surrogates reversed": b'{"events": [{"input": "\\udc00\\ud800"}]}',
    "lone surrogate in a key": b'{"events": [{"metadata": {"\\ud800": 1}}]}',
    "control character": b'{"events": [{"input": "\n"}]}',
    "trailing comma": b'{"events": [],}', "no events": b"{}", "events is null":
    b'{"events": null}', "events is an object": b'{"events": {}}',
    "an event is a list": b'{"events": [[]]}', "an event is null": b'{"events": [null]}',
    "2^64": b'{"events": [{"input": 18446744073709551616}]}',
    "-2^63-1": b'{"events": [{"input": [-9223372036854775809]}]}',
    "2^64 among others": b'{"events": [{"input": {"a": [1, 18446744073709551616 ]}}]}',
    "400 digits": b'{"events": [{"input": %s}]}' % (b"9" * 400),
    "5000 digits": b'{"events": [{"metadata": {"n": %s}}]}' % (b"9" * 5000),
    "large and negative in metrics": b'{"events": [{"metrics": {"tokens": -%s}}]}'
    % (b"9" * 30),
}


@pytest.mark.parametrize("name", NOT_JSON)
def test_what_is_no_json_object_of_events_is_refused(
    stack: Stack, project: str, name: str
) -> None:   # 15-18, 20, 21, 27
    answer = insert_text(stack, project, NOT_JSON[name])

    assert answer.status == 400, answer.body
    assert answer.json["error"]["class"] == "bad_input"


def test_a_broken_json_text_is_refused_with_the_position(stack: Stack, project: str) -> None:
    for name in ("cut", "single quotes", "BOM", "control character", "two values"):   # 17
        answer = insert_text(stack, project, NOT_JSON[name])

        assert answer.error.startswith("the body is not valid JSON: ")
        assert "column" in answer.error


# The text of a field in the body of an insert, and the error.
NAMED = {
    "NaN": ('"metrics": {"tps": NaN}', "metrics.tps: must be a number or null, not NaN"),
    "a time": ('"metrics": {"end": Infinity}',
               "metrics.end: must be in unix seconds, not Infinity"),
    "a score": ('"scores": {"s": -1e999}',
                "scores.s: must be a number from 0 to 1 or null, not -1e999"),
    "inside": ('"input": [{"a": 1e999}]',
               "input[0].a: 1e999 is no number that can be stored"),
    "an id": ('"id": NaN', "id: must be a string of 1 to 256 characters"),
    "tags": ('"tags": [NaN]', "tags[0]: NaN is no number that can be stored"),
    "half a pair": (r'"output": "\ud83d"', "output: half a surrogate pair, or bytes"),
    "half a pair in a name": (r'"output": {"\ud83d": {"\udc00": 1}}', "output: half a"),
    "half a pair in an id": (r'"id": "\ud83d"', "id: must not hold half a surrogate pair"),
    "Latin-1": ('"output": {"a": "\xe4"}', "output.a: half a surrogate pair, or bytes"),
    "a long integer too": ('"tags": [], "input": [18446744073709551616, NaN]',
                           "input[0]: 18446744073709551616 is an integer beyond 64 bits"),
}


@pytest.mark.parametrize("name", NAMED)
def test_a_value_that_json_does_not_know_is_refused_with_its_path(
    stack: Stack, project: str, name: str
) -> None:
    text, error = NAMED[name]
    body = f'{{"events": [{{"id": "first"}}, {{{text}}}]}}'

    answer = insert_text(stack, project, body.encode("latin-1"))

    assert answer.status == 400
    assert answer.error.startswith(f"events[1]: {error}")
    assert stack.row(project, "first") is None


@pytest.mark.parametrize("body", [
    b'{"events": [{"id": "unseen"}], "more": NaN}',
    b'{"events": [{"id": "unseen", "input": NaN, "input": 1}]}',
    b'{"events": [{"id": "unseen", "input": "\\ud83d\x80"}]}',
    b'{"events": [{"id": "unseen", "input": "a\tb"}]}',
    b'\xef\xbb\xbf{"events": [{"id": "unseen"}]}',
    b'{"events": [{"id": "unseen", "log_id": NaN}]}',
])
def test_of_a_body_that_is_no_json_nothing_is_stored_though_every_value_could_be(
    stack: Stack, project: str, body: bytes
) -> None:
    answer = insert_text(stack, project, body)

    assert answer.status == 400
    assert stack.row(project, "unseen") is None


@pytest.mark.parametrize(("text", "error"), [
    ('"scores": {"s": NaN}', "scores.s: must be a number from 0 to 1 or null, not NaN"),
    ('"expected": [1e999]', "expected[0]: 1e999 is no number that can be stored"),
    ('"metadata": {"a": NaN}', "metadata.a: NaN is no number that can be stored"),
    ('"metadata": {"a": 18446744073709551616}', "metadata.a: an integer beyond 64 bits"),
    (r'"comment": "\ud83d"', "comment: half a surrogate pair, or bytes"),
    (r'"\ud83d": 1', "unknown: ?; there are id, scores"),
])
def test_feedback_with_a_value_that_json_does_not_know_is_refused_with_its_path(
    stack: Stack, project: str, text: str, error: str
) -> None:
    body = f'{{"feedback": [{{"id": "a", {text}}}]}}'

    answer = stack.http("POST", f"/v1/project_logs/{project}/feedback", body.encode())

    assert answer.status == 400
    assert answer.error.startswith(f"feedback[0]: {error}")


def test_an_empty_list_of_events_is_fine(stack: Stack, project: str) -> None:   # 15
    assert insert(stack, project).json == {"row_ids": []}
    assert stack.ok("POST", "/logs3", {"rows": []})["ids"] == []


NUMBERS = {
    "1e-400": ("1e-400", 0.0), "-0": ("-0", 0), "0.1e1": ("0.1e1", 1.0),
    "2^53+1": (str(2**53 + 1), 2**53 + 1), "2^63-1": (str(2**63 - 1), 2**63 - 1),
    "2^63": (str(2**63), 2**63), "-2^63": (str(-(2**63)), -(2**63)),
    "2^64-1": (str(2**64 - 1), 2**64 - 1), "1e19": ("1e19", 1e19),
    "1e300": ("1e300", 1e300), "0.1": ("0.1", 0.1),
    "1e19 beside 19 digits": ("[1e19, 1763628000000000000]", [1e19, 1763628000000000000]),
}


@pytest.mark.parametrize("name", NUMBERS)
def test_numbers_come_back_as_they_were_sent(
    stack: Stack, project: str, name: str
) -> None:   # 19, 20
    text, value = NUMBERS[name]
    body = f'{{"events": [{{"id": "number", "input": {text}, "metadata": {{"n": {text}}}}}]}}'

    answer = insert_text(stack, project, body.encode())

    assert answer.status == 200, answer.body
    row = stack.row(project, "number")
    assert row is not None
    assert row["input"] == value
    assert row["metadata"] == {"n": value}
    assert type(row["input"]) is type(value)


def nested(depth: int, opening: str = "[", closing: str = "]") -> bytes:
    return (opening * depth + "1" + closing * depth).encode()


@pytest.mark.parametrize("depth", [64, 65, 1000, 100_000])
def test_nesting_is_bounded(stack: Stack, project: str, depth: int) -> None:   # 22
    # The event itself is the first level.
    body = b'{"events": [{"id": "deep", "input": %s}]}' % nested(depth)

    assert insert_text(stack, project, body).status == 400


def test_a_span_may_be_as_deep_as_the_limit(stack: Stack, project: str) -> None:
    body = b'{"events": [{"id": "deep", "input": %s}]}' % nested(62)

    assert insert_text(stack, project, body).status == 200
    assert stack.row(project, "deep")


def test_a_million_values_are_refused_and_nobody_waits_for_it(
    stack: Stack, project: str
) -> None:   # 23
    events = [
        {"metadata": {f"k{n}": 1 for n in range(1_000_000)}},
        {"input": [{}] * 500_000},
    ]
    for event in events:
        with ThreadPoolExecutor(1) as pool:
            sent = pool.submit(insert, stack, project, event)
            began = time.monotonic()
            assert stack.http("GET", "/health/live", key="").status == 200
            # Only the parser's one call, which holds the interpreter, may come before it.
            assert time.monotonic() - began < 15
            assert sent.result().status in {400, 413}


def test_the_last_of_two_equal_keys_wins(stack: Stack, project: str) -> None:   # 24
    body = b'{"events": [{"id": "twice", "input": 1, "input": 2}]}'

    assert insert_text(stack, project, body).status == 200
    row = stack.row(project, "twice")
    assert row is not None
    assert row["input"] == 2


TEXTS = {
    "not characters": "\uffff \ufffe", "right to left": "\u202eabc\u202c",
    "zero width": "a\u200bb\u200d\ufeff", "combining": "a" + "\u0301" * 10_000,
    "markup": "<script>alert(1)</script><img src=x onerror=alert(1)>",
    "templates": "{{7*7}} ${jndi:ldap://x} #{1+1} %s %n", "csv": "=cmd|'/c calc'!A1",
    "sql": "'; DROP TABLE span; --", "copy": "\\N \\. \\t \\\\ \\x41", "tab": "a\tb\nc\rd",
    "escape": "\x1b[31m\x07\x7f", "emoji": "\U0001f468\u200d\U0001f469", "empty": "",
    "backslash at the end": "a\\", "quote": '"\\"', "json": '{"a": 1}',
}


@pytest.mark.parametrize("name", TEXTS)
def test_texts_come_back_as_they_were_sent(
    stack: Stack, project: str, name: str
) -> None:   # 28, 47, 48
    text = TEXTS[name]
    event = {
        "input": text, "output": {text: [text]}, "error": text, "tags": [text[:100]],
        "metadata": {text: text}, "span_attributes": {"name": text}, "unknown field": text,
        "created": "2026-01-02T03:04:05.678Z",
    }

    (row_id,) = stack.insert(project, event)

    row = stack.row(project, row_id)
    assert row is not None
    assert {field: row[field] for field in event} == event


@pytest.mark.parametrize("name", ["__proto__", "constructor", "$ref", "__class__", "toString"])
def test_keys_that_mean_something_elsewhere_are_plain_data(
    stack: Stack, project: str, name: str
) -> None:   # 25
    event = {"input": {name: 1}, "metadata": {name: {"polluted": True}}, name: "at the top"}

    (row_id,) = stack.insert(project, event)

    row = stack.row(project, row_id)
    assert row is not None
    assert {field: row[field] for field in event} == event


JSON_VALUES = ["text", "", 0, 1.5, False, True, [], {}, [None], {"a": None},
               [{"role": "user", "content": [{"image_url": "data:image/png;base64,AAAA"}]}]]


@pytest.mark.parametrize("value", JSON_VALUES, ids=repr)
def test_every_json_value_is_kept_as_it_is(
    stack: Stack, project: str, value: Any
) -> None:   # 46
    event = {"input": value, "output": value, "expected": value, "error": value}

    (row_id,) = stack.insert(project, event)

    row = stack.row(project, row_id)
    assert row is not None
    for field in event:
        assert row[field] == value
        assert type(row[field]) is type(value)


def test_objects_keep_the_order_of_their_keys(stack: Stack, project: str) -> None:
    value = {"b": 1, "a": {"z": 1, "y": 2}, "aa": 3}

    (row_id,) = stack.insert(project, {"input": value, "output": value, "expected": value})

    row = stack.row(project, row_id)
    assert row is not None
    for field in ("input", "output", "expected"):
        assert json.dumps(row[field]) == json.dumps(value)


# --- NUL, which PostgreSQL cannot hold


def test_nul_in_a_value_or_key_is_replaced_and_told(stack: Stack, project: str) -> None:   # 26
    stack.insert(project, {"id": "nul", "input": "a\0b", "metadata": {"k\0": ["\0"]}})

    row = stack.row(project, "nul")
    assert row is not None
    assert row["input"] == "a\ufffdb"
    assert row["metadata"] == {"k\ufffd": ["\ufffd"]}
    assert row["ingest_warnings"] == [
        f"{path}: NUL cannot be stored; replaced by U+FFFD"
        for path in ("input", "metadata", "metadata.k\ufffd[0]")
    ]


@pytest.mark.parametrize("field", ["id", "span_id", "root_span_id"])
def test_nul_in_an_id_is_refused(stack: Stack, project: str, field: str) -> None:   # 26
    assert insert(stack, project, {field: "a\0b"}).status == 400


NUL_ANYWHERE: dict[str, dict[str, Any]] = {
    "comment": {"comment": {"text": "a\0b"}, "origin": {"id": "x"}},
    "comment key": {"comment": {"te\0xt": "a"}, "origin": {"id": "x"}},
    "audit source": {"_audit_source": "a\0", "_is_merge": True},
    "audit metadata": {"_audit_metadata": {"a": "\0"}, "_audit_source": "app",
                       "_is_merge": True},
    "parent": {"_parent_id": "a\0"},
    "span parents": {"span_parents": ["a\0"]},
    "merge path": {"_is_merge": True, "_merge_paths": [["a\0"]]},
    "array delete": {"_is_merge": True, "_array_delete": [{"path": ["\0"], "delete": ["\0"]}]},
    "scoring state": {"_async_scoring_control": {
        "kind": "state_override", "state": {"status": "disabled", "x": "\0"}}},
    "score name": {"scores": {"\0": 1}},
    "metric name": {"metrics": {"\0": 1}},
    "tag": {"tags": ["\0"]},
    "unknown field": {"un\0known": "\0"},
    "created": {"created": "2026-01-01\0"},
    "log id": {"log_id": "\0"},
    "project id": {"project_id": "\0"},
    "origin": {"origin": {"id": "\0"}},
}


@pytest.mark.parametrize("name", NUL_ANYWHERE)
def test_nul_anywhere_in_a_row_costs_no_other_row_of_its_batch(
    stack: Stack, name: str
) -> None:
    project = stack.project()
    rows = [{"id": "before", "project_id": project},
            {"id": "odd", "project_id": project, **NUL_ANYWHERE[name]},
            {"id": "after", "project_id": project}]

    answer = stack.http("POST", "/logs3", {"rows": rows})

    assert answer.status == 200, answer.body
    assert {"before", "after"} <= {row["id"] for row in stack.rows(project)}


@pytest.mark.parametrize("name", NUL_ANYWHERE)
def test_nul_anywhere_in_an_event_is_stored_or_refused(stack: Stack, name: str) -> None:
    assert insert(stack, stack.project(), NUL_ANYWHERE[name]).status in {200, 400}


# --- ids


@pytest.mark.parametrize(
    "row_id", ["", 7, "a" * 10_000, "a" * 257, "a\nb", "a\0", "\x7f", ["a"], True, {}],
    ids=lambda value: repr(value)[:12],
)
def test_an_id_that_cannot_name_a_row_is_refused(
    stack: Stack, project: str, row_id: Any
) -> None:   # 31
    answer = insert(stack, project, {"id": row_id})

    assert answer.status == 400
    assert answer.error.startswith("events[0]: id:")


@pytest.mark.parametrize(
    "row_id",
    ["a/b", "..", "../../etc/passwd", "'\"", "\U0001f600 漢", "a" * 256, "\U0001f600" * 256,
     " ", "%00", "a?b#c", "\\N", "null", "-1", "{}", ";--"],
    ids=lambda value: value[:12],
)
def test_an_odd_id_is_an_id_like_any_other(
    stack: Stack, project: str, row_id: str
) -> None:   # 31
    assert stack.insert(project, {"id": row_id, "input": "odd"}) == [row_id]

    row = stack.row(project, row_id)
    assert row is not None
    assert row["input"] == "odd"
    path = f"/v1/project_logs/{project}/explain?id={quote(row_id, safe='')}"
    assert stack.ok("GET", path)["id"] == row_id


@pytest.mark.parametrize("row_id", [None, ...])
def test_a_row_without_an_id_gets_one(stack: Stack, project: str, row_id: Any) -> None:   # 30
    event = {"input": 1} if row_id is ... else {"id": None, "input": 1}

    (made,) = stack.insert(project, event)

    row = stack.row(project, made)
    assert row is not None
    assert row["span_id"] == row["root_span_id"] == made
    assert row["is_root"] is True


# --- fields

REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    # 39
    "created infinity": ({"created": "infinity"}, "created"),
    "created in the year 294277": ({"created": "294277-01-01T00:00:00Z"}, "created"),
    "created -1": ({"created": -1}, "created"),
    "created 1e18": ({"created": 1e18}, "created"),
    "created February 30": ({"created": "2026-02-30T00:00:00Z"}, "created"),
    "created a list": ({"created": []}, "created"),
    "created empty": ({"created": ""}, "created"),
    "end in ms": ({"metrics": {"end": 1763628000000}}, "metrics.end"),
    "start in ms": ({"metrics": {"start": 1763628000000}}, "metrics.start"),
    "end in ns": ({"metrics": {"end": 1763628000000000000}}, "metrics.end"),
    "end negative": ({"metrics": {"end": -1}}, "metrics.end"),
    "end a text": ({"metrics": {"end": "1763628000"}}, "metrics.end"),
    "end true": ({"metrics": {"end": True}}, "metrics.end"),
    "a metric is a text": ({"metrics": {"tokens": "7"}}, "metrics.tokens"),
    "a metric is a list": ({"metrics": {"tokens": [7]}}, "metrics.tokens"),
    "metrics a list": ({"metrics": []}, "metrics"),
    # 42
    "a score is a text": ({"scores": {"s": "1"}}, "scores.s"),
    "a score is 2": ({"scores": {"s": 2}}, "scores.s"),
    "a score is -1": ({"scores": {"s": -1}}, "scores.s"),
    "a score is 1.0000001": ({"scores": {"s": 1.0000001}}, "scores.s"),
    "a score is a list": ({"scores": {"s": [1]}}, "scores.s"),
    "scores is a list": ({"scores": [1]}, "scores"),
    "scores is a number": ({"scores": 1}, "scores"),
    # 43
    "a score without a name": ({"scores": {"": 1}}, "scores"),
    "a score's name of 10 kB": ({"scores": {"a" * 10_000: 1}}, "scores"),
    "a score's name with a newline": ({"scores": {"a\nb": 1}}, "scores"),
    # 45
    "tags is a text": ({"tags": "a"}, "tags"), "tags is an object": ({"tags": {}}, "tags"),
    "a tag is a number": ({"tags": [1]}, "tags"), "a tag is null": ({"tags": [None]}, "tags"),
    "101 tags": ({"tags": [str(n) for n in range(101)]}, "tags"),
    "a tag of 129 characters": ({"tags": ["a" * 129]}, "tags"),
    "metadata is a list": ({"metadata": []}, "metadata"),
    "metadata is a text": ({"metadata": "a"}, "metadata"),
    "span_attributes is a list": ({"span_attributes": []}, "span_attributes"),
    "context is a text": ({"context": "a"}, "context"),
    "span_parents is a text": ({"span_parents": "a"}, "span_parents"),
    "span_parents holds a number": ({"span_parents": [1]}, "span_parents"),
    "span_id is a number": ({"span_id": 1}, "span_id"),
    "span_id is empty": ({"span_id": ""}, "span_id"),
    "root_span_id is too long": ({"root_span_id": "a" * 257}, "root_span_id"),
    "_merge_paths is a text": ({"_is_merge": True, "_merge_paths": "a"}, "_merge_paths"),
    "a merge path is a text": ({"_is_merge": True, "_merge_paths": ["a"]}, "_merge_paths"),
    "a merge path is empty": ({"_is_merge": True, "_merge_paths": [[]]}, "_merge_paths"),
    "_array_delete is an object": ({"_array_delete": {}}, "_array_delete"),
    "_array_delete without values": ({"_array_delete": [{"path": ["a"]}]}, "_array_delete"),
    "_array_delete without a path": ({"_array_delete": [{"delete": []}]}, "_array_delete"),
    "_parent_id is a number": ({"_parent_id": 1}, "_parent_id"),
    "_async_scoring_control is unknown": (
        {"_async_scoring_control": {"kind": "x"}}, "_async_scoring_control"),
    "_async_scoring_control is a text": (
        {"_async_scoring_control": "x"}, "_async_scoring_control"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_field_of_the_wrong_kind_is_refused_by_its_name(
    stack: Stack, project: str, name: str
) -> None:
    event, field = REFUSED[name]

    answer = insert(stack, project, {"id": "good"}, {"id": "refused", **event})

    assert answer.status == 400
    assert answer.error.startswith(f"events[1]: {field}:")
    assert stack.row(project, "refused") is None


@pytest.mark.parametrize("name", REFUSED)
def test_logs3_stores_a_row_without_what_is_wrong_in_it_and_says_so(
    stack: Stack, name: str
) -> None:
    project = stack.project()
    event, field = REFUSED[name]

    told = stack.logs3(
        project, {"id": "1"}, {"id": "odd", **event, "output": "stays"}, {"id": "3"}
    )

    assert told["ids"] == ["1", "odd", "3"]
    assert "rejected" not in told
    rows = {row["id"]: row for row in stack.rows(project)}
    assert rows["1"]["ingest_warnings"] is rows["3"]["ingest_warnings"] is None
    assert rows["odd"]["output"] == "stays"
    (warning,) = rows["odd"]["ingest_warnings"]
    assert warning.startswith(f"{field}:")
    assert stack.explain(project, "odd")["ingest_warnings"] == [warning]


@pytest.mark.parametrize(
    ("text", "stored"),
    [
        ("NaN", "NaN"), ("[-Infinity]", ["-Infinity"]), ('{"a": 1e999}', {"a": "1e999"}),
        (r'"cut \ud83d"', "cut \ufffd"), ("123456789012345678901", "123456789012345678901"),
        ("[" * 70 + "]" * 70, ...),
    ],
)
def test_a_body_that_is_no_json_or_cannot_be_kept_is_stored_with_its_good_rows(
    stack: Stack, text: str, stored: Any
) -> None:
    project = stack.project()
    place = f'"project_id": "{project}"'
    odd = f'{{"id": "odd", "output": {text}, {place}}}'

    body = f'{{"rows": [{odd}, {{"id": "good", {place}}}]}}'

    told = stack.ok("POST", "/logs3", body.encode())

    assert told["ids"] == ["odd", "good"]
    rows = {row["id"]: row for row in stack.rows(project)}
    assert len(rows["odd"]["ingest_warnings"]) == 1
    assert rows["odd"]["ingest_warnings"][0].startswith("output")
    assert rows["good"]["ingest_warnings"] is None
    assert rows["odd"]["output"] == stored or stored is ...


def test_logs3_lists_a_row_that_cannot_be_read(stack: Stack) -> None:
    project = stack.project()

    told = stack.logs3(project, {"id": "1"}, {"id": "a\nb", "output": 1}, {"id": "3"})

    assert told["ids"] == ["1", "3"]
    (listed,) = stack.ok("GET", f"/v1/project_logs/{project}/rejected")["rejected"]
    assert listed["id"] == "a\nb"
    assert listed["reason"] == "id: must not hold control characters"
    assert told["rejected"] == [{"id": "a\nb", "reason": listed["reason"]}]


TAKEN: dict[str, dict[str, Any]] = {
    "created without a zone": {"created": "2026-01-02T03:04:05"},
    "created a day ahead": {"created": "2126-01-02T03:04:05Z"},   # 40
    "created long ago": {"created": "1066-10-14T00:00:00Z"},
    "created at the end of time": {"created": "9999-12-31T23:59:59.999999-23:59"},
    "created at its beginning": {"created": "0001-01-01T00:00:00+23:59"},
    "created is null": {"created": None},
    "end before start": {"metrics": {"start": 20.0, "end": 10.0}},   # 41
    "end is 0": {"metrics": {"start": 0, "end": 0}},
    "end is null": {"metrics": {"start": 1, "end": None}},
    "metrics nested": {"metrics": {"details": {"cached": 1}}},
    "metrics null": {"metrics": None},
    # Deprecated in the public interface description, and of any type there.
    "caller in metrics": {"metrics": {"caller_filename": "a.py", "caller_functionname": "f",
                                      "caller_lineno": 3}},
    "scores null": {"scores": None}, "a score null": {"scores": {"s": None}},   # 42
    "a score's name odd": {"scores": {"'; DROP TABLE": 1, "<script>": 0, "a.b": 0.5,
                                      "constructor": 1, "a" * 100: 1}},   # 43
    "tags null": {"tags": None}, "tags empty": {"tags": []}, "tags equal": {"tags": ["a", "a"]},
    "100 tags": {"tags": ["a" * 125 + str(n) for n in range(100)]},
    "its own parent": {"span_id": "s", "root_span_id": "r", "span_parents": ["s"]},   # 37
    "an orphan": {"span_id": "s2", "root_span_id": "r", "span_parents": ["nobody"]},
    "many parents": {"span_id": "s3", "root_span_id": "r", "span_parents": ["a", "b"]},
    "no parents": {"span_id": "s4", "root_span_id": "r", "span_parents": []},
    "its own _parent_id": {"_parent_id": "taken"},
    "a field that nobody knows": {"whatever": {"a": [1]}},
    "fields that we show ourselves": {"_xact_id": "1", "_pagination_key": "p", "is_root": 7,
                                      "org_id": "x", "log_id": 9, "comments": [1]},
}


@pytest.mark.parametrize("name", TAKEN)
def test_odd_but_harmless_fields_are_taken(stack: Stack, name: str) -> None:
    project = stack.project()

    answer = insert(stack, project, {"id": "taken", **TAKEN[name]})

    assert answer.status == 200, answer.body
    row = stack.row(project, "taken")
    assert row is not None
    assert len(row["_xact_id"]) == 19
    assert stack.explain(project, "taken")["id"] == "taken"


def test_a_score_given_as_a_boolean_is_a_number(stack: Stack, project: str) -> None:   # 42
    (row_id,) = stack.insert(project, {"scores": {"yes": True, "no": False}})

    row = stack.row(project, row_id)
    assert row is not None
    assert json.dumps(row["scores"], sort_keys=True) in {
        '{"no": 0, "yes": 1}', '{"no": 0.0, "yes": 1.0}'
    }


def test_a_parent_cycle_and_a_chain_of_10_000_are_stored(stack: Stack) -> None:   # 37
    project = stack.project()
    chain = [
        {"id": f"c{n}", "span_id": f"c{n}", "root_span_id": "r",
         "span_parents": [f"c{(n + 1) % 10_000}"], "metrics": {"end": 1.0}}
        for n in range(10_000)
    ]
    stack.rule(project, "ExactMatch", apply_to_root_span=True)
    for first in range(0, len(chain), 1000):
        stack.insert(project, *chain[first : first + 1000])

    stack.scored(project, "c9999")
    assert stack.statuses(project, "c9999").popitem()[1] == "wrong_target"


# --- sizes


def test_10001_events_are_refused(stack: Stack, project: str) -> None:   # 51
    events = [{"id": f"many {n}"} for n in range(10_001)]

    assert insert(stack, project, *events).status == 413
    assert stack.row(project, "many 0") is None
    assert insert(stack, project, *events[:1000]).status == 200


def test_one_bad_event_of_a_thousand_keeps_all_from_being_stored(stack: Stack) -> None:   # 50
    project = stack.project()
    events: list[dict[str, Any]] = [{"id": f"e{n}"} for n in range(1000)]
    events[617]["tags"] = "no list"

    answer = insert(stack, project, *events)

    assert answer.status == 400
    assert answer.error.startswith("events[617]: tags:")
    assert stack.rows(project) == []


def test_a_body_beyond_the_limit_is_refused(stack: Stack, project: str) -> None:   # 29
    body = b'{"events": [{"input": "%s"}]}' % (b"a" * (60 * MB))

    assert insert_text(stack, project, body).status == 413
    packed = gzip.compress(body + b" " * (5 * MB), 1)
    assert insert_text(stack, project, packed, content_encoding="gzip").status == 413


def test_a_span_as_large_as_an_sdks_batch_is_stored(stack: Stack, project: str) -> None:
    text = "a" * (SPAN_MAX - 1000)

    (row_id,) = stack.insert(project, {"input": text})

    row = stack.row(project, row_id)
    assert row is not None
    assert row["input"] == text


def test_a_span_beyond_the_limit_is_refused_and_its_batch_is_not(stack: Stack) -> None:   # 46
    project = stack.project()
    huge = {"id": "huge", "input": "a" * (SPAN_MAX + 1000)}

    assert insert(stack, project, huge).status == 413
    told = stack.logs3(project, {"id": "1"}, huge, {"id": "3"})
    assert told["ids"] == ["1", "3"]
    assert "TALLYARD_SPAN_BYTES_MAX" in told["rejected"][0]["reason"]


def test_sdks_batches_of_7_mb_are_taken_without_overflow(stack: Stack) -> None:
    project = stack.project()
    rows = [{"id": str(n), "input": "a" * 70_000} for n in range(100)]

    assert len(stack.logs3(project, *rows)["ids"]) == 100
    version = stack.ok("GET", "/version")
    assert "logs3_payload_max_bytes" not in version


# --- reading


@pytest.mark.parametrize(
    "asked",
    [
        {"limit": -1}, {"limit": "x"}, {"limit": 1.5}, {"limit": True}, {"limit": []},
        {"cursor": "forged"}, {"cursor": "s99999999999999999999999999"}, {"cursor": 7},
        {"cursor": "s-1"}, {"cursor": "s1 or 1=1"}, {"cursor": "s\u00b2"}, {"cursor": "s"},
        {"version": "1"}, {"version": []}, {"max_xact_id": "x"}, {"max_xact_id": -1},
        {"max_xact_id": "\u00b2"}, {"filters": "x"}, {"filters": [1]},
        {"filters": [{"type": "path_lookup"}]}, {"filters": [{"type": "x", "path": ["id"]}]},
        {"filters": [{"type": "path_lookup", "path": [], "value": 1}]},
        {"filters": [{"type": "path_lookup", "path": ["id"], "value": 1}] * 51},
        {"filters": [{"type": "path_lookup", "path": ["no such column"], "value": 1}]},
    ],
    ids=lambda asked: str(asked)[:40],
)
def test_a_page_that_cannot_be_asked_for_is_refused(
    stack: Stack, project: str, asked: dict[str, Any]
) -> None:   # 64
    answer = stack.http("POST", f"/v1/project_logs/{project}/fetch", asked)

    assert answer.status == 400, answer.body


def test_a_lookup_of_nul_finds_nothing_and_breaks_nothing(stack: Stack, project: str) -> None:
    for value in ("\0", {"a": "\0"}, ["\0"]):
        lookup = {"type": "path_lookup", "path": ["metadata", "x"], "value": value}
        answer = stack.http(
            "POST", f"/v1/project_logs/{project}/fetch", {"filters": [lookup]}
        )
        assert answer.status in {200, 400}, answer.body
        if answer.status == 200:
            assert answer.json["events"] == []
    assert stack.http("GET", f"/v1/project_logs/{project}/explain?id=%00").status == 404
    for listed in ("project?project_name=%00", "project_score?project_score_name=%00"):
        assert stack.http("GET", f"/v1/{listed}").status in {200, 400, 404}
    assert stack.http("GET", "/v1/project?starting_after=%00").status in {200, 400, 404}
    assert stack.http("GET", "/v1/project?ids=%00").status in {200, 400, 404}
    assert stack.http("GET", "/v1/project?limit=%00").status in {400, 404}


@pytest.mark.parametrize(
    "query", ["limit=-1", "limit=x", "limit=99999999999999999999", "limit=1.5",
              "starting_after=x", "ending_before=x", "ids=x", "limit=\u00b2"],
)
def test_a_list_that_cannot_be_asked_for_is_refused_or_empty(stack: Stack, query: str) -> None:
    for path in ("/v1/project", "/v1/project_score"):
        answer = stack.http("GET", f"{path}?{quote(query, safe='=')}")
        assert answer.status in {400, 404} or answer.json == {"objects": []}, answer.body


PROJECT_BODIES: list[Any] = [
    {}, {"name": None}, {"name": 7}, {"name": ""}, {"name": "a" * 10_000}, {"name": []},
    {"name": "x", "description": 7}, {"name": "x", "description": []},
]


@pytest.mark.parametrize("body", PROJECT_BODIES, ids=lambda body: str(body)[:30])
def test_a_project_that_cannot_be_made_is_refused(stack: Stack, body: Any) -> None:
    assert stack.http("POST", "/v1/project", body).status == 400


@pytest.mark.parametrize("org_name", ["strangers", 7, [], {}, True])
def test_another_organisation_is_not_found(stack: Stack, org_name: Any) -> None:
    answer = stack.http("POST", "/v1/project", {"name": "x", "org_name": org_name})

    assert answer.status == 404, answer.body


def test_a_projects_odd_name_is_a_name(stack: Stack) -> None:
    for name in ("../../etc/passwd", "<script>", "a/b?c#d", "漢字 \U0001f600", "'; --"):
        made = stack.ok("POST", "/v1/project", {"name": name})
        assert made["name"] == name
        found = stack.ok("GET", f"/v1/project?project_name={quote(name, safe='')}")["objects"]
        assert [each["id"] for each in found] == [made["id"]]


@pytest.mark.parametrize(
    "body",
    [{"settings": 7}, {"name": ""}, {"name": None}, {"description": 7},
     {"settings": {"a": "\0"}}, {"description": "\0"}, {"name": "\0"}],
    ids=str,
)
def test_a_project_is_not_changed_into_nonsense(stack: Stack, body: Any) -> None:
    project = stack.project()

    answer = stack.http("PATCH", f"/v1/project/{project}", body)

    assert answer.status in {200, 400}, answer.body
    if "\0" not in str(body.values()) and "x00" not in str(body):
        assert answer.status == 400


ONLINE: dict[str, Any] = {
    "sampling_rate": 1, "scorers": [{"type": "global", "name": "Levenshtein"}]
}
BAD_RULES: dict[str, tuple[dict[str, Any], str]] = {
    "no scorers": ({"scorers": []}, "scorers"),
    "an unknown scorer": ({"scorers": [{"type": "global", "name": "Nope"}]}, "Nope"),
    "a function": ({"scorers": [{"type": "function", "id": "f"}]}, "f"),
    "a scorer of no type": ({"scorers": [{"name": "Levenshtein"}]}, "scorers"),
    "a rate of 2": ({"sampling_rate": 2}, "sampling_rate"),
    "a rate of -0.1": ({"sampling_rate": -0.1}, "sampling_rate"),
    "a rate that is a text": ({"sampling_rate": "often"}, "sampling_rate"),
    "no rate": ({"sampling_rate": None}, "sampling_rate"),
    "a filter that does not parse": ({"btql_filter": "metadata.x ="}, "btql_filter"),
    "a filter of a stranger": ({"btql_filter": "pg_sleep(10)"}, "btql_filter"),
    "a filter of 1 MB": ({"btql_filter": "a" * MB}, "btql_filter"),
    "two statements": ({"btql_filter": "true; drop table span"}, "btql_filter"),
    "an unknown field": ({"colour": "red"}, "colour"),
    "an unknown scope": ({"scope": {"type": "planet"}}, "scope"),
    "an unknown status": ({"status": "asleep"}, "status"),
    "names that are no texts": ({"apply_to_span_names": [1]}, "apply_to_span_names"),
    "another version": (
        {"scorers": [{"type": "global", "name": "Levenshtein", "version": "0.0.1"}]},
        "autoevals",
    ),
}


@pytest.mark.parametrize("name", BAD_RULES)
def test_a_rule_that_cannot_work_is_refused_with_what_is_wrong(
    stack: Stack, project: str, name: str
) -> None:
    changes, word = BAD_RULES[name]
    body = {"project_id": project, "name": "r", "score_type": "online",
            "config": {"online": {**ONLINE, **changes}}}

    for method in ("POST", "PUT"):
        answer = stack.http(method, "/v1/project_score", body)
        assert answer.status == 400, answer.body
        assert word in answer.error


def test_a_filter_that_does_not_parse_is_refused_with_the_position(
    stack: Stack, project: str
) -> None:
    body = {"project_id": project, "name": "r", "score_type": "online",
            "config": {"online": {**ONLINE, "btql_filter": "metadata.x = = 1"}}}

    answer = stack.http("POST", "/v1/project_score", body)

    assert answer.status == 400
    assert "14" in answer.error or "13" in answer.error


def test_nul_in_a_rule_is_stored_or_refused(stack: Stack, project: str) -> None:
    for changes in (
        {"name": "\0"}, {"description": "\0"}, {"categories": [{"name": "\0", "value": 1}]},
        {"config": {"online": {**ONLINE, "apply_to_span_names": ["\0"]}}},
        {"config": {"online": {**ONLINE, "btql_filter": "metadata.x = '\0'"}}},
        {"config": {"x": "\0"}, "score_type": "slider"}, {"position": "\0"},
    ):
        body = {"project_id": project, "name": "nul", "score_type": "online",
                "config": {"online": ONLINE}, **changes}
        answer = stack.http("PUT", "/v1/project_score", body)
        assert answer.status in {200, 400}, (changes, answer.body)


@pytest.mark.parametrize(
    "body",
    [{"class": "no such class"}, {"since": "yesterday"}, {"since": "-1h"}, {"since": 7},
     {"class": []}, {"since": "9999999d"}],
    ids=str,
)
def test_a_retry_that_is_not_understood_is_refused(
    stack: Stack, project: str, body: Any
) -> None:
    answer = stack.http("POST", f"/v1/project_logs/{project}/outcomes/retry", body)

    assert answer.status == 400, answer.body


@pytest.mark.parametrize("last", [0, -1, 1001, "5", 1.5, True, None, []])
def test_score_recent_takes_1_to_1000_rows(stack: Stack, project: str, last: Any) -> None:
    rule = stack.rule(project, "ExactMatch")

    answer = stack.http("POST", f"/v1/project_score/{rule}/score_recent", {"last": last})

    assert answer.status == 400, answer.body


FEEDBACK: dict[str, tuple[dict[str, Any], str]] = {
    "no id": ({"scores": {"s": 1}}, "feedback[0]"),
    "id is a number": ({"id": 7}, "feedback[0]"),
    "a score of 2": ({"id": "a", "scores": {"s": 2}}, "scores.s"),
    "tags is a text": ({"id": "a", "tags": "x"}, "tags"),
    "source is a number": ({"id": "a", "scores": {"s": 1}, "source": 7}, "[0]: source:"),
    "metadata is a text": ({"id": "a", "metadata": "x"}, "feedback[0]: metadata:"),
}


@pytest.mark.parametrize("name", FEEDBACK)
def test_bad_feedback_is_refused(stack: Stack, project: str, name: str) -> None:
    item, word = FEEDBACK[name]

    answer = stack.http("POST", f"/v1/project_logs/{project}/feedback", {"feedback": [item]})

    assert answer.status == 400, answer.body
    assert word in answer.error


def test_methods_and_paths_that_are_not_there_are_told_so(stack: Stack) -> None:
    assert stack.http("GET", "/logs3").status == 405
    assert stack.http("DELETE", "/v1/project").status == 405
    missing = stack.http("GET", "/v1/nothing")
    assert missing.status == 404
    assert missing.json["error"]["message"].startswith("GET /v1/nothing")
