"""Programs built from users' code: inspected source, and unpacked bundles."""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import stat
import sys
import uuid
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import reduce
from typing import Any

import pytest

from scorers.functions.body import BundledCode, InlineCode
from scorers.run.code import CodeBuilder
from scorers.sandbox.build import check_python, transpile, unpack
from scorers.sandbox.model import CodeCheck, CodeEnd, Program, RunResult, Runtime
from scorers.sandbox.place import find_place
from scorers.sandbox.pool import Owner, Sandboxes
from spans.ids import OrgId
from store.access.projects import StoredProjects
from store.functions.bundles import Bundles
from store.postgres.database import Database

OWN_PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"
ALL_BUT_TRACE = ("input", "output", "expected", "metadata", "tags", "id")
RECORD = {"output": "a", "expected": "b", "metadata": {"n": 1}}
# As much of the client's library as a bundle needs to list its functions.
LIBRARY = {
    "braintrust/__init__.py": "",
    "braintrust/framework.py": """
from contextlib import contextmanager
is_lazy = False
@contextmanager
def _set_lazy_load(on):
    global is_lazy
    is_lazy = on
    yield
    is_lazy = False
""",
    "braintrust/framework2.py": """
from types import SimpleNamespace
from braintrust import framework
global_ = SimpleNamespace(functions=[])
def scorer(handler):
    assert framework.is_lazy, "would have logged in"
    global_.functions.append(SimpleNamespace(handler=handler))
""",
    "register.py": "import quality.checks as _\n",
}
CHECKS = """
from braintrust.framework2 import scorer
@scorer
def always(**anything):
    return 1
@scorer
def half(output, *, expected=None):
    return 0.5 if output != expected else 1
"""


@pytest.fixture(scope="module")
def sandboxes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandboxes]:
    pool = Sandboxes(
        find_place(bundles=tmp_path_factory.mktemp("data") / "bundles"), kept=4, idle_s=60
    )
    yield pool
    pool.close()


def run(sandboxes: Sandboxes, checked: CodeCheck, *records: dict[str, Any]) -> list[RunResult]:
    """What becomes of the records, under an owner that nobody else is."""
    program = made(checked)
    text = program.code or f"{program.bundle} {program.index}"
    return sandboxes.run(Owner("p", text, "1"), program, records or (RECORD,))


def made(checked: CodeCheck) -> Program:
    assert checked.problem is None, checked.problem
    assert checked.program is not None
    return checked.program


def where(checked: CodeCheck) -> tuple[int | None, int | None]:
    assert checked.program is None
    return checked.line, checked.column


# --- Python source


@pytest.mark.parametrize(
    ("code", "parameters"),
    [
        ("def handler(output, expected): ...", ("output", "expected")),
        ("async def handler(*, input, tags=()): ...", ("input", "tags")),
        ("def a(input): ...\ndef b(output): ...", ("output",)),
        ("def handler(id): ...\ndef later(output): ...", ("id",)),
        ("def handler(**trace): ...", None),
        ("handler = lambda **rest: 1", ALL_BUT_TRACE),
        ("def made(): ...\nhandler = made()  # trace", None),
    ],
)
def test_python_source_tells_what_its_handler_takes(
    sandboxes: Sandboxes, code: str, parameters: tuple[str, ...] | None
) -> None:
    assert made(check_python(sandboxes, code)).parameters == parameters


def test_the_last_function_is_the_handler_of_python_that_names_none(
    sandboxes: Sandboxes,
) -> None:
    checked = check_python(sandboxes, "def a(): return 0\ndef b(): return 0.5")
    assert [each.value for each in run(sandboxes, checked)] == [0.5]


@pytest.mark.parametrize(
    ("code", "place"),
    [
        ("def handler(output:\n    return 1", (1, 12)),
        ("x = 1\nreturn x", (2, 1)),
        ("def handler(output, /): ...", (1, 13)),
        ("x = 1", (None, None)),
        ("x = " + "-" * 100_000 + "1", (None, None)),
        ("x = '\udc00'", (None, None)),
    ],
)
def test_python_that_cannot_run_is_a_problem_with_its_place(
    sandboxes: Sandboxes, code: str, place: tuple[int | None, int | None]
) -> None:
    checked = check_python(sandboxes, code)
    assert checked.problem
    assert where(checked) == place


def test_looking_at_source_executes_nothing_of_it(sandboxes: Sandboxes) -> None:
    hangs = "while True: ...\ndef handler(x=exit()): ..."
    assert made(check_python(sandboxes, hangs)).parameters == ("x",)
    hangs = "while (true) {}\nexport const handler = () => 1"
    assert made(transpile(sandboxes, hangs)).parameters == ()


# --- TypeScript and JavaScript source


@pytest.mark.parametrize(
    ("code", "parameters"),
    [
        ("export const handler = ({ output, expected }: Any) => 1", ("output", "expected")),
        ("export default async function ({ output: o = 1 }) { return o }", ("output",)),
        ("async function scorer({ input }: { input: string }) { return 1 }", ("input",)),
        ("const late = ({ id }) => 1\nexport { late as handler }", ("id",)),
        ("function handler({ tags }) {}\nfunction z() {}", ("tags",)),
        ("export const handler = (all) => all.trace", None),
        ("export const handler = ({ ...all }) => 1", ALL_BUT_TRACE),
    ],
)
def test_typescript_tells_what_its_handler_takes(
    sandboxes: Sandboxes, code: str, parameters: tuple[str, ...] | None
) -> None:
    assert made(transpile(sandboxes, code)).parameters == parameters


@pytest.mark.parametrize(
    ("code", "place", "words"),
    [
        ("const a: = 1", (1, 10), "SyntaxError"),
        ("const a = 1", (None, None), "no handler"),
        ("\nimport x from 'left-pad'\nexport default () => x", (2, 15), "'left-pad'"),
        ("import fs from 'node:fs'\nexport default () => fs", (1, 16), "'node:fs'"),
        ("export default async () => import('./x')", (1, 35), "'./x'"),
        ("(" * 50_000, (1, 50_001), "SyntaxError"),
    ],
)
def test_typescript_that_cannot_run_is_a_problem_with_its_place(
    sandboxes: Sandboxes, code: str, place: tuple[int | None, int | None], words: str
) -> None:
    checked = transpile(sandboxes, code)
    assert words in (checked.problem or "")
    assert where(checked) == place


@pytest.mark.parametrize(
    ("missing", "needed"),
    [({"esbuild": None}, "esbuild"), ({"node": None}, "Node.js"),
     ({"node": None, "esbuild": None}, "Node.js")],
)
def test_typescript_says_what_the_workers_lack(
    sandboxes: Sandboxes, missing: dict[str, None], needed: str
) -> None:
    without = Sandboxes(replace(sandboxes.place, **missing), kept=1, idle_s=60)
    try:
        checked = transpile(without, "export default () => 1")
    finally:
        without.close()
    assert checked.problem == f"TypeScript scorers need {needed} on the workers"


# --- JavaScript that runs


@pytest.mark.parametrize(
    ("code", "ended", "value"),
    [
        ("() => 1", CodeEnd.OK, 1),
        ("() => true", CodeEnd.OK, True),
        ("() => null", CodeEnd.OK, None),
        ("() => {}", CodeEnd.OK, None),
        ("async () => ({ score: 0.5, name: 'n' })", CodeEnd.OK, {"score": 0.5, "name": "n"}),
        ("() => [{ score: 1, name: 'a' }]", CodeEnd.OK, [{"score": 1, "name": "a"}]),
        ("({ metadata }) => metadata.n", CodeEnd.OK, 1),
        ("() => { JSON.stringify = () => '0'; return 1 }", CodeEnd.OK, 1),
        ("() => NaN", CodeEnd.BAD_RESULT, None),
        ("() => ({ score: 1 / 0 })", CodeEnd.BAD_RESULT, None),
        ("() => 1n", CodeEnd.BAD_RESULT, None),
        ("() => 'x'.repeat(300_000)", CodeEnd.RESULT_TOO_LARGE, None),
        ("() => '漢'.repeat(100_000)", CodeEnd.RESULT_TOO_LARGE, None),
        ("() => { throw new TypeError('so') }", CodeEnd.ERROR, None),
        ("() => new Promise(() => {})", CodeEnd.ERROR, None),
        ("() => process.exit(0)", CodeEnd.NO_RESULT, None),
    ],
)
def test_what_javascript_returns_is_what_came_of_it(
    sandboxes: Sandboxes, code: str, ended: CodeEnd, value: object
) -> None:
    (ran,) = run(sandboxes, transpile(sandboxes, f"export default {code}"))
    assert (ran.ended, ran.value) == (ended, value), ran.detail


NESTED_23 = reduce(lambda inner, _: [inner], range(23), None)


@pytest.mark.parametrize(
    ("value", "kept", "line"),
    [
        ("NaN", None, "metadata.m is NaN, which JSON has no form for: null is stored"),
        ("[1, -Infinity]", [1, None], "metadata.m[1] is -Infinity"),
        ("12n", 12, ""), ("2n ** 60n", str(2**60), "metadata.m is an integer beyond 2**53"),
        ("1e300", 1e300, ""),
        ("2 ** 60", "1152921504606847000", "metadata.m is an integer beyond 2**53"),
        ("undefined", "left out", ""), ("[undefined, 1]", [None, 1], ""),
        ("() => 1", "() => 1", "metadata.m is a function"),
        ("Symbol('s')", "Symbol(s)", "metadata.m is a symbol"),
        ("new Date(0)", "1970-01-01T00:00:00.000Z", ""),
        ("new Map([['a', new Set([1])]])", {"a": [1]}, ""),
        ("new Uint8Array([1, 2])", [1, 2], ""), ("/a/g", "/a/g", ""),
        ("new RangeError('far')", "RangeError: far", ""),
        ("'a\\0b\\ud800'", "a\ufffdb\ufffd", "metadata.m has characters that cannot be stored"),
        ("(() => { const o = { n: 1 }; o.o = o; return o })()", {"n": 1, "o": None},
         "metadata.m.o contains itself"),
        ("({ get x() { throw 1 }, y: 2 })", {"x": None, "y": 2}, "metadata.m.x cannot be read"),
        ("({ toJSON() { throw new Error() } })", None, "metadata.m cannot be read"),
        ("JSON.parse('['.repeat(50) + ']'.repeat(50))", NESTED_23,
         "metadata.m[0][0]"),
        ("'x'.repeat(300_000)", "left out", "metadata does not fit into the result"),
        ("Array(10_000_000).fill(1)", "left out", "metadata does not fit into the result"),
        ("new Uint8Array(50_000_000)", "left out", "metadata does not fit into the result"),
        ("({ size: 1e9, length: 1e9 })", {"size": 1e9, "length": 1e9}, ""),
        ("JSON.parse('{\"__proto__\": 1}')", {"__proto__": 1}, ""),
    ],
)  # fmt: skip
def test_what_stands_beside_a_score_in_javascript_costs_itself_alone(
    sandboxes: Sandboxes, value: str, kept: object, line: str
) -> None:
    code = f"export default () => ({{ score: 0.5, metadata: {{ m: {value}, n: 1 }} }})"
    (ran,) = run(sandboxes, transpile(sandboxes, code))
    assert ran.ended is CodeEnd.OK, ran.detail
    score, metadata = ran.value["score"], ran.value.get("metadata", {})
    assert (score, metadata.get("m", "left out")) == (0.5, kept)
    assert ran.log.startswith(f"[{line}") if line else ran.log == ""


@pytest.mark.parametrize(
    ("value", "why"),
    [
        ("NaN", "the score is NaN"), ("1n", "the score is a bigint"), ("[[1]]", "is a Array"),
        ("[{ score: 1 }, { score: -Infinity, name: 'b' }]", "the score of 'b' is -Infinity"),
        ("({ score: () => 1 })", "the score is a function"),
    ],
)
def test_a_value_of_javascript_that_is_no_score_is_named(
    sandboxes: Sandboxes, value: str, why: str
) -> None:
    (ran,) = run(sandboxes, transpile(sandboxes, f"export default () => {value}"))
    assert ran.ended is CodeEnd.BAD_RESULT
    assert why in ran.detail


def test_javascript_says_where_it_failed_and_what_it_printed(sandboxes: Sandboxes) -> None:
    code = """
        export function handler({ output }) {
          console.log("looking at", { output });
          process.stderr.write("hm\\n");
          throw new TypeError("so");
        }
    """
    first, second = run(sandboxes, transpile(sandboxes, code), RECORD, {"output": "z"})
    assert first.ended is CodeEnd.ERROR
    assert first.detail.startswith("TypeError: so\n    at handler (scorer.js:4")
    assert first.log == "looking at { output: 'a' }\nhm\n"
    assert second.log == "looking at { output: 'z' }\nhm\n"


def test_one_record_changes_nothing_for_the_next_in_javascript(sandboxes: Sandboxes) -> None:
    code = "export default ({ metadata }) => (metadata.n += 1) / 4"
    ran = run(sandboxes, transpile(sandboxes, code), RECORD, RECORD)
    assert [each.value for each in ran] == [0.5, 0.5]


def test_a_rejection_that_nobody_awaits_is_the_records_error(sandboxes: Sandboxes) -> None:
    code = """
        export default async ({ output }) => {
          if (output === "bad") Promise.reject(new Error("stray"));
          await new Promise((done) => setTimeout(done, 1));
          return 1;
        }
    """
    ran = run(sandboxes, transpile(sandboxes, code), RECORD, {"output": "bad"}, RECORD)
    assert [each.ended for each in ran] == [CodeEnd.OK, CodeEnd.ERROR, CodeEnd.OK]
    assert "stray" in ran[1].detail


def test_javascript_reads_the_trace_that_came_with_the_record(sandboxes: Sandboxes) -> None:
    code = """
        export default async ({ trace }) => ({
          score: 1,
          metadata: {
            llm: (await trace.getSpans({ spanType: ["llm"] })).map(({ id }) => id),
            all: (await trace.getSpans({ includeScorers: true })).length,
            own: (await trace.getSpans()).length,
            thread: await trace.getThread(),
            where: await trace.getConfiguration(),
          },
        })
    """
    spans = [
        {"id": "1", "span_attributes": {"type": "llm"}},
        {"id": "2", "span_attributes": {"type": "score", "purpose": "scorer"}},
        {"id": "3"},
    ]
    trace = {"spans": spans, "thread": [{"role": "user"}], "configuration": {"object_id": "o"}}
    (ran,) = run(sandboxes, transpile(sandboxes, code), {"trace": trace})
    assert ran.ended is CodeEnd.OK, ran.detail
    assert ran.value == {
        "score": 1,
        "metadata": {
            "llm": ["1"], "all": 3, "own": 2, "thread": [{"role": "user"}],
            "where": {"object_id": "o"},
        },
    }


# --- bundles


def zipped(
    files: dict[str, str], *, then: Callable[[zipfile.ZipFile], object] | None = None
) -> bytes:
    held = io.BytesIO()
    with zipfile.ZipFile(held, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, text in files.items():
            archive.writestr(name, text)
        if then:
            then(archive)
    return held.getvalue()


def python_bundle(checks: str = CHECKS, **more: str) -> bytes:
    own = {"quality/checks.py": checks, "quality/__init__.py": ""}
    return zipped({**LIBRARY, **own, **more})


def unpacked(
    sandboxes: Sandboxes, content: bytes, *, index: int = 0, version: str = OWN_PYTHON
) -> CodeCheck:
    return unpack(
        sandboxes, content, encoding=None, runtime=Runtime.PYTHON, runtime_version=version,
        index=index,
    )


def test_each_function_of_a_python_bundle_runs_by_its_index(sandboxes: Sandboxes) -> None:
    content = python_bundle()
    always, half = (unpacked(sandboxes, content, index=index) for index in (0, 1))
    assert made(half).parameters == ("output", "expected")
    assert [each.value for each in run(sandboxes, always)] == [1]
    assert [each.value for each in run(sandboxes, half)] == [0.5]


def test_what_a_bundle_is_run_with_is_for_its_function_to_say(
    sandboxes: Sandboxes, database_url: str
) -> None:
    database = Database(database_url)
    bundles, content = Bundles(database), python_bundle(f"# pushed twice\n{CHECKS}")
    for name in ("one", "other"):
        org = StoredProjects(database).ensure_organization(
            OrgId(uuid.uuid4()), f"{name} bundler"
        )
        bundle_id = uuid.uuid4()
        bundles.add_bundle(org, bundle_id, bytes(32))
        assert bundles.fill(bundle_id, content, None)
    builder = CodeBuilder(sandboxes=sandboxes, bundles=bundles)

    refused, accepted = (
        builder.unpack(BundledCode(
            runtime=Runtime.PYTHON, runtime_version=version, index=0,
            bundle=hashlib.sha256(content).hexdigest(),
        ))
        for version in ("2.7", OWN_PYTHON)
    )

    assert "built for Python 2.7" in (refused.problem or "")
    assert [each.value for each in run(sandboxes, accepted)] == [1]
    database.close()


def test_a_bundles_module_may_be_called_as_one_of_ours(sandboxes: Sandboxes) -> None:
    own = {"register.py": "import scorers.checks as _", "scorers/checks.py": CHECKS}
    checked = unpacked(sandboxes, zipped({**LIBRARY, **own}))
    assert [each.value for each in run(sandboxes, checked)] == [1]


def test_a_bundle_imports_nothing_but_what_it_brings(sandboxes: Sandboxes) -> None:
    checked = unpacked(sandboxes, python_bundle("import autoevals\n"))
    assert "No module named 'autoevals'" in (checked.problem or "")
    assert 'File "/bundle/quality/checks.py", line 1' in (checked.problem or "")


def test_a_bundle_cannot_write_where_it_is_read_from(sandboxes: Sandboxes) -> None:
    code = CHECKS + "open('/bundle/quality/more.py', 'w')\n"
    assert "Read-only file system" in (unpacked(sandboxes, python_bundle(code)).problem or "")


def test_a_bundle_for_another_python_is_refused_with_both_versions(
    sandboxes: Sandboxes,
) -> None:
    # Its own content: what is laid out already is not looked at again.
    other = python_bundle(CHECKS + "# for another\n")
    problem = unpacked(sandboxes, other, version="3.9").problem or ""
    assert "3.9" in problem
    assert OWN_PYTHON in problem


def link(archive: zipfile.ZipFile) -> None:
    entry = zipfile.ZipInfo("quality/link")
    entry.external_attr = (stat.S_IFLNK | 0o777) << 16
    archive.writestr(entry, "/etc/passwd")


def claim_501_mb(archive: zipfile.ZipFile) -> None:
    archive.getinfo("register.py").file_size = 501 * 2**20


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (zipped({**LIBRARY, "../out.py": ""}), "'../out.py'"),
        (zipped({**LIBRARY, "/etc/out.py": ""}), "'/etc/out.py'"),
        (zipped(LIBRARY, then=link), "'quality/link'"),
        (zipped({"register.py/x": "", "register.py": ""}), "cannot be unzipped"),
        (zipped({"other.py": ""}), "no register.py"),
        (python_bundle()[:-40], "not a usable zip"),
        (b"", "not a usable zip"),
        (zipped({f"{number}.py": "" for number in range(20_001)}), "over 20000 files"),
        (zipped(LIBRARY, then=claim_501_mb), "larger than 500 MB"),
    ],
    ids=[
        "up", "absolute", "link", "file as folder", "no entry", "cut", "empty", "many", "large",
    ],
)
def test_what_is_no_bundle_of_a_client_is_refused_and_leaves_nothing(
    sandboxes: Sandboxes, content: bytes, words: str
) -> None:
    before = kept(sandboxes)
    assert words in (unpacked(sandboxes, content).problem or "")
    assert kept(sandboxes) == before


def kept(sandboxes: Sandboxes) -> set[str]:
    bundles = sandboxes.place.bundles
    assert bundles is not None
    # The first bundle that is unpacked makes the folder.
    return {each.name for each in bundles.iterdir()} if bundles.exists() else set()


def test_a_bundle_is_laid_out_once(sandboxes: Sandboxes) -> None:
    content = python_bundle(CHECKS + "# once\n")
    program = made(unpacked(sandboxes, content))
    folder = sandboxes.place.bundle(program.bundle or "")
    before = folder.stat()
    assert made(unpacked(sandboxes, content)) == program
    assert folder.stat().st_ino == before.st_ino


def test_nobody_whom_scorers_run_as_owns_what_was_laid_out(sandboxes: Sandboxes) -> None:
    program = made(unpacked(sandboxes, python_bundle(CHECKS + "# owned\n")))
    folder = sandboxes.place.bundle(program.bundle or "")
    found = [each.lstat() for each in (folder, *folder.rglob("*"))]
    assert {each.st_uid for each in found} == {os.geteuid()}
    assert not [each for each in found if each.st_mode & 0o022]
    if os.geteuid() == 0:
        plain = {stat.S_IFDIR | 0o755, stat.S_IFREG | 0o644}
        assert {each.st_mode for each in found} == plain


def test_a_javascript_bundle_runs_by_its_index(sandboxes: Sandboxes) -> None:
    code = """
        globalThis._evals = { functions: [] };
        const { createHash } = require("node:crypto");
        const add = (handler) => globalThis._lazy_load && _evals.functions.push({ handler });
        add(({ output }) => createHash("sha1").update(output).digest().length / 20);
        add(async function ({ output: o, expected: e }) { return o === e ? 1 : 0.5; });
    """
    content = gzip.compress(code.encode())

    def function(index: int) -> CodeCheck:
        return unpack(
            sandboxes, content, encoding="gzip", runtime=Runtime.NODE, runtime_version="22.1.0",
            index=index,
        )

    assert made(function(1)).parameters == ("output", "expected")
    assert [each.value for each in run(sandboxes, function(0))] == [1]
    assert [each.value for each in run(sandboxes, function(1))] == [0.5]
    assert "2 functions" in (function(2).problem or "")


class NoBundles:
    """A store of bundles that has none."""

    def bundle_content(self, bundle: str) -> None:
        return None


@pytest.mark.parametrize(
    ("runtime", "code"),
    [
        (Runtime.PYTHON, "def handler(output):\r\n    return 0.5\r\n"),
        (Runtime.NODE, "export default ({ output }: { output: string }) => 0.5;\r\n"),
    ],
)
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_source_may_begin_with_a_byte_order_mark_and_end_lines_as_windows_does(
    sandboxes: Sandboxes, runtime: Runtime, code: str, mark: str
) -> None:
    builder = CodeBuilder(sandboxes=sandboxes, bundles=NoBundles())
    checked = builder.build(InlineCode(runtime=runtime, code=mark + code))
    assert made(checked).parameters == ("output",)
    assert [each.value for each in run(sandboxes, checked)] == [0.5]


def test_modules_of_a_bundle_may_begin_with_a_byte_order_mark(sandboxes: Sandboxes) -> None:
    checked = unpacked(sandboxes, python_bundle("\ufeff" + CHECKS.replace("\n", "\r\n")))
    assert [each.value for each in run(sandboxes, checked)] == [1]
    code = "\ufeffglobalThis._evals = { functions: [{ handler: () => 0.5 }] };\r\n"
    script = unpack(
        sandboxes, gzip.compress(code.encode()), encoding="gzip", runtime=Runtime.NODE,
        runtime_version="20", index=0,
    )
    assert [each.value for each in run(sandboxes, script)] == [0.5]


@pytest.mark.parametrize("content", [b"no gzip", gzip.compress(b"1", mtime=0)[:-5]])
def test_javascript_that_is_not_wholly_there_is_refused(
    sandboxes: Sandboxes, content: bytes
) -> None:
    checked = unpack(
        sandboxes, content, encoding="gzip", runtime=Runtime.NODE, runtime_version="20",
        index=0,
    )
    assert "gzip" in (checked.problem or "")
