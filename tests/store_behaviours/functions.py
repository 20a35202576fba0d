"""What every store of functions and bundles does."""

from __future__ import annotations

import hashlib
import itertools
import uuid
from dataclasses import dataclass

import pytest
from store_behaviours.access import BothStores, create, new_org

from flows.access.projects import ListPage
from flows.functions.lookup import FunctionStore
from scorers.functions.body import FunctionBody, read_function
from scorers.functions.bundle import Bundle, BundleStore
from scorers.functions.function import (
    Definition,
    Function,
    FunctionFilter,
    FunctionWrite,
    IfExists,
    Shadow,
)
from scorers.sandbox.model import Program, Runtime
from spans.errors import BadInput, Contended, NotFound
from spans.ids import FunctionId, OrgId, ProjectId, Xact

_numbers = itertools.count(1)

CODE = "def handler(output):\n    return 1"
INLINE = {"type": "code", "data": {
    "type": "inline", "runtime_context": {"runtime": "python", "version": "3.11"},
    "code": CODE,
}}
PROGRAM = Program(runtime=Runtime.PYTHON, code=CODE, parameters=("output",))
TOOL = {"type": "code", "data": {"type": "bundle", "location": {"type": "experiment"}}}
"""What is kept, and cannot be run as a scorer."""
PAGE = ListPage(limit=100)


def bundled(bundle_id: uuid.UUID) -> dict[str, object]:
    return {"type": "code", "data": {
        "type": "bundle", "bundle_id": str(bundle_id),
        "location": {"type": "function", "index": 0},
        "runtime_context": {"runtime": "python", "version": "3.11"},
    }}


def body_of(slug: str, data: object = None, **changes: object) -> FunctionBody:
    """A scorer's; no two are the same."""
    return read_function({
        "name": slug, "slug": slug, "function_type": "scorer",
        "description": f"version {next(_numbers)}",
        "function_data": data or {"type": "global", "name": "ExactMatch"}, **changes,
    })


@dataclass(kw_only=True)
class FunctionStores:
    """The stores of functions and bundles of one database, and an organisation of its own."""

    functions: FunctionStore
    bundles: BundleStore
    projects: BothStores

    def __post_init__(self) -> None:
        self.org = new_org(self.projects)

    def project(self) -> ProjectId:
        made, _ = create(self.projects, self.org, f"project {next(_numbers)}")
        return made.id

    def asked(
        self, project: ProjectId, body: FunctionBody, *,
        shadow: float | None = None, if_exists: IfExists = IfExists.REPLACE,
        program: Program | None = None,
    ) -> FunctionWrite:
        return FunctionWrite(
            definition=Definition(
                project_id=project, body=body, if_exists=if_exists, shadow_rate=shadow
            ),
            new_id=FunctionId(uuid.uuid4()), program=program,
        )

    def write(
        self, project: ProjectId, slug: str, data: object = None, **asked: object
    ) -> Function:
        """A function, or its next version."""
        write = self.asked(project, body_of(slug, data), **asked)
        (written,) = self.functions.write(self.org, [write])
        return written.function

    def now(self, function: Function) -> Function:
        found = self.functions.find(self.org, function.id)
        assert found is not None
        return found


class FunctionBehaviours:
    """A subclass has a fixture `stores` that gives FunctionStores."""

    def test_a_function_is_found_by_its_id_and_its_slug_at_any_version(
        self, stores: FunctionStores
    ) -> None:
        home, other = stores.project(), stores.project()
        first, second = stores.write(home, "a"), stores.write(home, "a")

        assert first.id == second.id
        assert second.version == second.in_force > first.version
        find, named = stores.functions.find, stores.functions.named
        assert find(stores.org, first.id) == named(stores.org, home, "a") == second
        for found in (
            find(stores.org, first.id, first.version),
            named(stores.org, home, "a", first.version),
        ):
            assert found is not None
            assert (found.version, found.in_force) == (first.version, second.version)
            assert found.body == first.body
        assert find(stores.org, first.id, Xact(1)) is None
        assert named(stores.org, other, "a") is None
        assert find(OrgId(uuid.uuid4()), first.id) is None
        assert named(OrgId(uuid.uuid4()), home, "a") is None

    def test_a_write_says_what_was_in_force_before_it(self, stores: FunctionStores) -> None:
        home, body = stores.project(), body_of("a", INLINE)
        (new,) = stores.functions.write(
            stores.org, [stores.asked(home, body, program=PROGRAM)]
        )
        (same,) = stores.functions.write(stores.org, [stores.asked(home, body)])

        assert (new.existed, new.function.program) == (False, PROGRAM)
        assert same.before == same.function == new.function

    def test_what_a_write_finds_is_replaced_or_left_or_an_error(
        self, stores: FunctionStores
    ) -> None:
        home = stores.project()
        first = stores.write(home, "a")

        assert stores.write(home, "a", if_exists=IfExists.IGNORE) == first
        with pytest.raises(BadInput) as caught:
            stores.write(home, "a", if_exists=IfExists.ERROR)
        assert caught.value.path == "slug"
        assert stores.now(first) == first
        assert stores.write(home, "a", if_exists=IfExists.REPLACE).version > first.version

    def test_functions_are_written_all_or_none(self, stores: FunctionStores) -> None:
        home = stores.project()
        present = stores.write(home, "there")
        writes = [
            stores.asked(home, body_of("new")),
            stores.asked(home, body_of("there"), if_exists=IfExists.ERROR),
        ]

        with pytest.raises(BadInput):
            stores.functions.write(stores.org, writes)

        found = stores.functions.list_functions(
            stores.org, PAGE, FunctionFilter(project_id=home)
        )
        assert found == [present]

    def test_a_function_is_made_only_in_a_project_of_the_organisation(
        self, stores: FunctionStores
    ) -> None:
        write = stores.asked(stores.project(), body_of("a"))
        stranger = new_org(stores.projects)

        with pytest.raises(NotFound, match="no such project"):
            stores.functions.write(stranger, [write])

    @pytest.mark.parametrize("if_exists", [IfExists.IGNORE, IfExists.ERROR])
    def test_code_that_nobody_checked_since_there_was_a_function_is_not_kept(
        self, stores: FunctionStores, if_exists: IfExists
    ) -> None:
        with pytest.raises(Contended):   # the function was deleted before the write
            stores.write(stores.project(), "unchecked", INLINE, if_exists=if_exists)

    # --- changes

    def test_a_change_of_a_version_that_is_not_in_force_any_more_is_contended(
        self, stores: FunctionStores
    ) -> None:
        home = stores.project()
        first, second = stores.write(home, "a"), stores.write(home, "a")

        with pytest.raises(Contended):
            stores.functions.change(first, body_of("a"), None, None)
        assert stores.now(first) == second
        stores.functions.delete(second)
        with pytest.raises(NotFound):
            stores.functions.change(second, body_of("a"), None, None)

    def test_a_slug_is_that_of_all_versions_at_once(self, stores: FunctionStores) -> None:
        home = stores.project()
        first, second = stores.write(home, "a"), stores.write(home, "a")

        renamed = stores.functions.change(second, body_of("b"), None, 0.1)

        assert (renamed.body.slug, renamed.version) == ("b", second.version)
        assert {each.body.slug for each in stores.functions.versions(renamed)} == {"b"}
        assert stores.functions.named(stores.org, home, "a") is None
        back = stores.functions.promote(renamed, first.version)
        assert back.body.slug == "b"
        assert stores.write(home, "b").id == first.id

    def test_a_new_slug_alone_makes_no_version(self, stores: FunctionStores) -> None:
        made = stores.write(stores.project(), "a")

        renamed = stores.functions.change(
            made, made.body.model_copy(update={"slug": "b"}), None, None
        )

        assert (renamed.version, renamed.body.slug) == (made.version, "b")

    def test_a_slug_of_another_function_is_not_taken(self, stores: FunctionStores) -> None:
        home = stores.project()
        made, _ = stores.write(home, "a"), stores.write(home, "taken")

        with pytest.raises(BadInput, match="taken") as caught:
            stores.functions.change(made, body_of("taken"), None, None)
        assert caught.value.path == "slug"
        assert stores.now(made) == made

    def test_a_deleted_function_is_hidden_and_its_slug_is_free(
        self, stores: FunctionStores
    ) -> None:
        home = stores.project()
        gone = stores.write(home, "a")

        stores.functions.delete(gone)
        stores.functions.delete(gone)

        assert stores.functions.find(stores.org, gone.id) is None
        assert stores.functions.named(stores.org, home, "a") is None
        assert [each.version for each in stores.functions.versions(gone)] == [gone.version]
        for use in (
            lambda: stores.functions.promote(gone, gone.version),
            lambda: stores.functions.set_shadow(gone, None),
        ):
            with pytest.raises(NotFound):
                use()
        assert stores.write(home, "a").id != gone.id

    def test_the_functions_of_a_deleted_project_are_gone(self, stores: FunctionStores) -> None:
        home = stores.project()
        made = stores.write(home, "a")

        stores.projects.delete_project(home)

        assert stores.functions.find(stores.org, made.id) is None
        assert stores.functions.list_functions(stores.org, PAGE, FunctionFilter()) == []

    # --- shadows

    def test_a_version_written_as_a_shadow_does_not_come_into_force(
        self, stores: FunctionStores
    ) -> None:
        home = stores.project()
        first = stores.write(home, "a")
        body = body_of("a")

        def push(rate: float | None) -> Function:
            (written,) = stores.functions.write(
                stores.org, [stores.asked(home, body, shadow=rate)]
            )
            return written.function

        shadowed = push(0.25)
        assert shadowed.shadow is not None
        assert (shadowed.version, shadowed.shadow.rate) == (first.version, 0.25)
        again = push(0.5)      # only the rate changes
        assert again.shadow == Shadow(version=shadowed.shadow.version, rate=0.5)
        assert len(stores.functions.versions(first)) == 2
        in_force = push(None)
        assert in_force.shadow is None
        assert in_force.body == body

    def test_promotion_puts_a_version_in_force_and_ends_the_shadow(
        self, stores: FunctionStores
    ) -> None:
        home = stores.project()
        first = stores.write(home, "a")
        shadow = stores.write(home, "a", shadow=0.5).shadow
        assert shadow is not None

        promoted = stores.functions.promote(first, shadow.version)

        assert (promoted.version, promoted.shadow) == (shadow.version, None)
        assert stores.functions.promote(first, first.version).version == first.version
        with pytest.raises(NotFound):
            stores.functions.promote(first, Xact(1))

    def test_a_shadow_is_set_to_another_version_and_ended(
        self, stores: FunctionStores
    ) -> None:
        home = stores.project()
        older, newer = stores.write(home, "a"), stores.write(home, "a")
        shadow = Shadow(version=older.version, rate=0.1)

        assert stores.functions.set_shadow(newer, shadow).shadow == shadow
        assert stores.now(newer).shadow == shadow
        with pytest.raises(BadInput, match="in force"):
            stores.functions.set_shadow(newer, Shadow(version=newer.version, rate=0.1))
        with pytest.raises(NotFound):
            stores.functions.set_shadow(newer, Shadow(version=Xact(1), rate=0.1))
        assert stores.functions.set_shadow(newer, None).shadow is None

    def test_a_new_function_is_no_shadow(self, stores: FunctionStores) -> None:
        with pytest.raises(BadInput) as caught:
            stores.write(stores.project(), "a", shadow=0.5)
        assert caught.value.path == "rollout"

    def test_what_is_no_scorer_takes_no_scorers_place(self, stores: FunctionStores) -> None:
        home = stores.project()
        tool = stores.write(home, "mixed", TOOL)
        scorer = stores.write(home, "mixed")

        with pytest.raises(BadInput, match="cannot be a shadow"):
            stores.functions.set_shadow(scorer, Shadow(version=tool.version, rate=0.5))
        with pytest.raises(BadInput, match="cannot be a shadow"):
            stores.write(home, "mixed", TOOL, shadow=0.5)
        with pytest.raises(BadInput, match="cannot take a scorer's place"):
            stores.functions.promote(scorer, tool.version)

    def test_an_older_version_of_what_never_was_a_scorer_is_put_back_in_force(
        self, stores: FunctionStores
    ) -> None:
        home = stores.project()
        older, newer = stores.write(home, "tool", TOOL), stores.write(home, "tool", TOOL)

        assert stores.functions.promote(newer, older.version).version == older.version

    # --- lists

    def test_a_list_is_newest_first_and_limited_by_each_filter(
        self, stores: FunctionStores
    ) -> None:
        home, other = stores.project(), stores.project()
        first = stores.write(home, "a")
        prompt = stores.functions.write(stores.org, [stores.asked(home, read_function({
            "name": "p", "slug": "p", "function_data": {"type": "prompt"},
            "prompt_data": {"prompt": {"type": "completion", "content": "{{input}}"}},
        }))])[0].function
        elsewhere = stores.write(other, "a")
        newer = stores.write(home, "a")

        def ids(page: ListPage = PAGE, **wanted: object) -> list[FunctionId]:
            found = stores.functions.list_functions(
                stores.org, page, FunctionFilter(**wanted)
            )
            return [each.id for each in found]

        assert ids() == [elsewhere.id, prompt.id, first.id]
        assert ids(project_id=home) == [prompt.id, first.id]
        assert ids(slug="a") == [elsewhere.id, first.id]
        assert ids(only_prompts=True) == [prompt.id]
        assert ids(version=first.version) == ids(version=newer.version) == [first.id]
        assert ids(ListPage(limit=9, name="p")) == [prompt.id]
        assert ids(ListPage(limit=1, starting_after=str(elsewhere.id))) == [prompt.id]
        assert ids(ListPage(limit=9, ids=(str(first.id),))) == [first.id]

    # --- bundles

    def test_a_function_runs_the_bundle_that_is_uploaded_after_it(
        self, stores: FunctionStores
    ) -> None:
        bundle_id = uuid.uuid4()
        stores.bundles.add_bundle(stores.org, bundle_id, bytes(32))
        made = stores.write(stores.project(), "a", bundled(bundle_id))
        assert made.program is None

        assert stores.bundles.fill(bundle_id, b"zip", None)

        now = stores.now(made)
        assert now.program == made.body.bundled_program(hashlib.sha256(b"zip").hexdigest())

    def test_a_function_takes_no_bundle_of_another_organisation(
        self, stores: FunctionStores
    ) -> None:
        bundle_id, home = uuid.uuid4(), stores.project()
        stores.bundles.add_bundle(new_org(stores.projects), bundle_id, bytes(32))

        for wrong in (bundle_id, uuid.uuid4()):
            with pytest.raises(BadInput) as caught:
                stores.write(home, "a", bundled(wrong))
            assert caught.value.path == "function_data.data.bundle_id"
        assert stores.functions.named(stores.org, home, "a") is None

    def test_a_bundle_is_found_by_the_hash_of_its_bytes_once_it_has_them(
        self, stores: FunctionStores
    ) -> None:
        bundle_id, content, bundles = uuid.uuid4(), uuid.uuid4().bytes, stores.bundles
        digest = hashlib.sha256(content).hexdigest()
        bundles.add_bundle(stores.org, bundle_id, bytes(range(32)))
        assert bundles.secret_of(bundle_id) == bytes(range(32))
        assert bundles.digest_of(stores.org, bundle_id) is None
        assert bundles.bundle_content(digest) is None

        assert bundles.fill(bundle_id, content, "gzip")
        assert bundles.fill(bundle_id, content, "gzip")
        assert not bundles.fill(bundle_id, content + b"!", "gzip")

        assert bundles.bundle_content(digest) == Bundle(content=content, encoding="gzip")
        assert bundles.digest_of(stores.org, bundle_id) == digest
        assert bundles.digest_of(new_org(stores.projects), bundle_id) is None

    def test_a_bundle_that_nobody_asked_for_is_not_there(self, stores: FunctionStores) -> None:
        unknown = uuid.uuid4()
        assert stores.bundles.secret_of(unknown) is None
        assert stores.bundles.digest_of(stores.org, unknown) is None
        assert not stores.bundles.fill(unknown, b"zip", None)
