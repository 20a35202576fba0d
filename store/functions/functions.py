"""Reads and writes functions and their versions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, LiteralString

import orjson

from flows.access.projects import ListPage
from scorers.functions.body import FunctionBody, program_from_json, program_to_json
from scorers.functions.function import (
    Function,
    FunctionFilter,
    FunctionWrite,
    IfExists,
    Shadow,
    Written,
)
from scorers.functions.version import FunctionVersion
from scorers.sandbox.model import Program
from spans.errors import BadInput, Contended, NotFound
from spans.ids import FunctionId, OrgId, ProjectId, Xact
from store.postgres.database import Cursor, Database
from store.postgres.paging import read_page
from store.postgres.rule_revisions import add_revisions_naming, lock_functions_exclusively
from store.postgres.versions import draw_versions
from store.scoring.supersede import supersede_outcomes_of_functions

# One row for each version of each function.
FUNCTIONS: LiteralString = """
    select * from (
      select function.id, home.org_id, function.project_id, present.version,
             function.version as in_force, function.created, present.name, function.slug,
             present.description, function_type, function_data, prompt_data, function_schema,
             tags, metadata, origin, program,
             encode(bundle.content_sha256, 'hex') as bundle_sha256, shadow_version,
             shadow_rate, function.deleted_at is null and home.deleted_at is null as is_there
        from function
        join project home on home.id = function.project_id
        join function_version present on present.function_id = function.id
        left join bundle on bundle.id = present.bundle_id) found
"""
VERSION_COLUMNS: LiteralString = """
    function_id, version, project_id, name, description, function_type, function_data,
    prompt_data, function_schema, tags, metadata, origin, kind, queue, bundle_id, program
"""
AT_VERSION: LiteralString = "version = coalesce(%s::bigint, in_force)"
VERSIONS_SHOWN = 1000
"""The most versions of a function that are listed."""


class StoredFunctions:
    """Implements flows.functions.lookup.FunctionStore."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def write(self, org_id: OrgId, writes: Sequence[FunctionWrite]) -> list[Written]:
        """Create or replace functions, all or none, in one transaction.

        Safe to repeat, except for writes whose `if_exists` is ERROR: these raise BadInput.
        """
        with self._database.cursor() as cursor:
            lock_functions_exclusively(cursor, org_id)
            written = [_write_one(cursor, org_id, write) for write in writes]
            add_revisions_naming(
                cursor, org_id, [one.function.id for one in written if one.existed]
            )
        return written

    def change(
        self, present: Function, body: FunctionBody, program: Program | None,
        shadow_rate: float | None,
    ) -> Function:
        with self._database.cursor() as cursor:
            lock_functions_exclusively(cursor, present.org_id)
            now = _reload(cursor, present)
            if now.in_force != present.version:
                raise Contended(f"{now.body.name!r} was changed meanwhile: send this again")
            if body.slug != now.body.slug:
                _rename(cursor, now, body.slug)
                now = _reload(cursor, now)
            _set_body(cursor, now, body, program, shadow_rate)
            add_revisions_naming(cursor, now.org_id, [now.id])
            return _reload(cursor, now)

    def find(
        self, org_id: OrgId, function_id: FunctionId, version: Xact | None = None
    ) -> Function | None:
        condition = "is_there and org_id = %s and id = %s"
        return self._lookup(condition, version, org_id, function_id)

    def named(
        self, org_id: OrgId, project_id: ProjectId, slug: str, version: Xact | None = None
    ) -> Function | None:
        return self._lookup(
            """is_there and org_id = %s and id = (
                 select function.id from function
                  where function.project_id = %s and function.slug = %s
                    and function.deleted_at is null)""",
            version, org_id, project_id, slug,
        )

    def list_functions(
        self, org_id: OrgId, page: ListPage, wanted: FunctionFilter
    ) -> list[Function]:
        with self._database.cursor() as cursor:
            rows = read_page(
                cursor,
                FUNCTIONS,
                f"""{AT_VERSION} and is_there and org_id = %s
                   and (%s::uuid is null or project_id = %s)
                   and (%s::text is null or slug = %s)
                   and (not %s or (function_data ->> 'type' = 'prompt'
                                   and function_type is null))""",
                (
                    wanted.version, org_id, wanted.project_id, wanted.project_id, wanted.slug,
                    wanted.slug, wanted.only_prompts,
                ),
                page,
                table="function",
            )
        return [_function(row) for row in rows]

    def versions(self, function: Function) -> list[Function]:
        with self._database.cursor() as cursor:
            cursor.execute(
                f"{FUNCTIONS} where id = %s order by version desc limit %s",
                (function.id, VERSIONS_SHOWN),
            )
            return [_function(row) for row in cursor]

    def delete(self, function: Function) -> None:
        """Hide the function and supersede its pending outcomes. Safe to repeat."""
        with self._database.cursor() as cursor:
            lock_functions_exclusively(cursor, function.org_id)
            cursor.execute(
                """update function set deleted_at = now(), shadow_version = null,
                                       shadow_rate = null
                    where id = %s and deleted_at is null""",
                (function.id,),
            )
            if cursor.rowcount:
                add_revisions_naming(cursor, function.org_id, [function.id])
                supersede_outcomes_of_functions(cursor, function.org_id, [function.id])

    def set_shadow(self, function: Function, shadow: Shadow | None) -> Function:
        """Run a version beside the one in force, or none. Raises BadInput for the version in
        force itself, because there would be nothing to compare."""
        with self._database.cursor() as cursor:
            lock_functions_exclusively(cursor, function.org_id)
            now = _reload(cursor, function)
            if shadow is not None:
                beside = _at_version(cursor, now, shadow.version)
                _require_scorer(beside.body, "be a shadow", path="version")
                if shadow.version == now.in_force:
                    raise BadInput("this version is in force: name another", path="version")
            _set_shadow(cursor, now, shadow)
            add_revisions_naming(cursor, now.org_id, [now.id])
            return _reload(cursor, now)

    def promote(self, function: Function, version: Xact) -> Function:
        """Put a version in force, which ends the shadow. Safe to repeat."""
        with self._database.cursor() as cursor:
            lock_functions_exclusively(cursor, function.org_id)
            now = _reload(cursor, function)
            wanted = _at_version(cursor, now, version)
            if now.body.queue is not None:
                _require_scorer(wanted.body, "take a scorer's place", path="version")
            _put_in_force(cursor, now, version)
            add_revisions_naming(cursor, now.org_id, [now.id])
            return _reload(cursor, now)

    def version(self, function_id: FunctionId, version: Xact) -> FunctionVersion | None:
        found = self._lookup("id = %s", version, function_id)
        return found.as_version() if found else None

    def _lookup(
        self, condition: LiteralString, version: Xact | None, *parameters: object
    ) -> Function | None:
        with self._database.cursor() as cursor:
            return _find(cursor, condition, version, *parameters)


def _write_one(cursor: Cursor, org_id: OrgId, write: FunctionWrite) -> Written:
    wanted, slug = write.definition, write.definition.body.slug
    function_id = _find_id(cursor, wanted.project_id, slug)
    if function_id is None:
        if wanted.body.source is not None and write.program is None:
            # When the code would have been checked, the function existed and was to stay as it
            # was, so the check was left out.
            raise Contended(f"the function {slug!r} has been deleted meanwhile: push it again")
        _create(cursor, org_id, write)
        return Written(function=_existing(cursor, write.new_id), before=None)
    if wanted.if_exists is IfExists.ERROR:
        raise BadInput(
            f"the project has a function {slug!r}: push it with if_exists replace", path="slug"
        )
    present = _existing(cursor, function_id)
    if wanted.if_exists is IfExists.IGNORE:
        return Written(function=present, before=present)
    _set_body(cursor, present, wanted.body, write.program, wanted.shadow_rate)
    return Written(function=_existing(cursor, function_id), before=present)


def _create(cursor: Cursor, org_id: OrgId, write: FunctionWrite) -> None:
    wanted = write.definition
    if wanted.shadow_rate is not None:
        raise BadInput(
            f"{wanted.body.slug!r} is new: push it without rollout", path="rollout"
        )
    cursor.execute(
        """insert into function (id, project_id, slug, version)
           select %s, id, %s, 0 from project
            where id = %s and org_id = %s and deleted_at is null""",
        (write.new_id, wanted.body.slug, wanted.project_id, org_id),
    )
    if not cursor.rowcount:
        raise NotFound("no such project")
    version = _add_version(cursor, write.new_id, wanted.body, write.program)
    cursor.execute("update function set version = %s where id = %s", (version, write.new_id))


def _set_body(
    cursor: Cursor, present: Function, body: FunctionBody, program: Program | None,
    shadow_rate: float | None,
) -> None:
    """Add a version with this body, and put it in force, or with `shadow_rate` make it the
    shadow. A body that is in force or is the shadow already adds no version."""
    if body == present.body:
        return
    if shadow_rate is None:
        version = _add_version(cursor, present.id, body, program)
        _put_in_force(cursor, present, version)
        return
    _require_scorer(body, "be a shadow", path="rollout")
    if (shadow := present.shadow) is not None:
        beside = _find(cursor, "id = %s", shadow.version, present.id)
        if beside is not None and beside.body == body:
            _set_shadow(cursor, present, Shadow(version=shadow.version, rate=shadow_rate))
            return
    version = _add_version(cursor, present.id, body, program)
    _set_shadow(cursor, present, Shadow(version=version, rate=shadow_rate))


def _put_in_force(cursor: Cursor, function: Function, version: Xact) -> None:
    """Put a version in force, and end the shadow, which ran beside the former version."""
    cursor.execute(
        """update function set version = %s, shadow_version = null, shadow_rate = null
            where id = %s""",
        (version, function.id),
    )


def _set_shadow(cursor: Cursor, function: Function, shadow: Shadow | None) -> None:
    cursor.execute(
        "update function set shadow_version = %s, shadow_rate = %s where id = %s",
        (shadow and shadow.version, shadow and shadow.rate, function.id),
    )


def _add_version(
    cursor: Cursor, function_id: FunctionId, body: FunctionBody, program: Program | None
) -> Xact:
    if (bundle_id := body.bundle_id) is not None:
        cursor.execute(
            """select from function
                 join project on project.id = function.project_id
                 join bundle on bundle.org_id = project.org_id
                where function.id = %s and bundle.id = %s
                  for key share of bundle""",
            (function_id, bundle_id),
        )
        if cursor.fetchone() is None:
            raise BadInput(
                f"there is no bundle {bundle_id}: ask for one with POST /function/code",
                path="function_data.data.bundle_id",
            )
    (version,), _ = draw_versions(cursor, 1)
    cursor.execute(
        f"""insert into function_version ({VERSION_COLUMNS})
            select id, %s, project_id, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s
              from function where id = %s""",
        (
            version, body.name, body.description, body.function_type,
            _json(body.function_data), _json(body.prompt_data),
            _json(body.function_schema), _json(body.tags), _json(body.metadata),
            _json(body.origin), body.kind.value, body.queue, bundle_id,
            program and _json(program_to_json(program)), function_id,
        ),
    )
    return version


def _rename(cursor: Cursor, function: Function, slug: str) -> None:
    """Change the slug, which belongs to the function and not to its versions."""
    if _find_id(cursor, function.project_id, slug) is not None:
        raise BadInput(f"another function has the slug {slug!r}", path="slug")
    cursor.execute("update function set slug = %s where id = %s", (slug, function.id))


def _find_id(cursor: Cursor, project_id: ProjectId, slug: str) -> FunctionId | None:
    cursor.execute(
        """select id from function
            where project_id = %s and slug = %s and deleted_at is null""",
        (project_id, slug),
    )
    row = cursor.fetchone()
    return FunctionId(row[0]) if row else None


def _reload(cursor: Cursor, function: Function) -> Function:
    """The function as it is under the lock of functions. Raises NotFound if it was deleted."""
    found = _find(cursor, "is_there and id = %s", None, function.id)
    if found is None:
        raise NotFound("no such function")
    return found


def _existing(cursor: Cursor, function_id: FunctionId) -> Function:
    found = _find(cursor, "id = %s", None, function_id)
    assert found is not None  # noqa: S101 it exists, and the lock keeps others from deleting it
    return found


def _at_version(cursor: Cursor, function: Function, version: Xact) -> Function:
    found = _find(cursor, "id = %s", version, function.id)
    if found is None:
        raise NotFound(f"{function.body.name!r} has no version {version}")
    return found


def _require_scorer(body: FunctionBody, use: str, *, path: str) -> None:
    if body.queue is None:
        raise BadInput(
            f"this version is of kind {body.kind.value}, which is not a scorer, and cannot "
            f"{use}: only code, classifiers and global scorers can be run",
            path=path,
        )


def _find(
    cursor: Cursor, condition: LiteralString, version: Xact | None, *parameters: object
) -> Function | None:
    cursor.execute(
        f"{FUNCTIONS} where {AT_VERSION} and {condition}", (version, *parameters)
    )
    row = cursor.fetchone()
    return _function(row) if row else None


def _function(row: tuple[Any, ...]) -> Function:
    (function_id, org_id, project_id, version, in_force, created, name, slug, description,
     function_type, function_data, prompt_data, function_schema, tags, metadata, origin,
     program, bundle_sha256, shadow_version, shadow_rate, _) = row
    body = FunctionBody.model_construct(
        name=name, slug=slug, description=description, function_type=function_type,
        function_data=function_data, prompt_data=prompt_data, function_schema=function_schema,
        tags=tags, metadata=metadata, origin=origin,
    )
    runs = program_from_json(program) if program else None
    if runs is None and bundle_sha256 is not None:
        runs = body.bundled_program(bundle_sha256)
    return Function(
        id=FunctionId(function_id), org_id=OrgId(org_id), project_id=ProjectId(project_id),
        version=Xact(version), in_force=Xact(in_force), created=created, body=body,
        program=runs,
        shadow=None if shadow_version is None else Shadow(
            version=Xact(shadow_version), rate=shadow_rate
        ),
    )


def _json(value: object) -> str | None:
    return None if value is None else orjson.dumps(value).decode()
