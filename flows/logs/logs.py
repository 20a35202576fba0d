"""The use cases of a project's logs: write, give feedback, fetch, query, follow and expire.

A write is checked here, then committed together with others that arrive at the same time (see
group_commit). When the method returns, the rows are committed.
"""

from __future__ import annotations

import asyncio
import hashlib
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

import orjson

from btql.query import Query
from flows.access.principal import KeyRole, Principal
from flows.access.projects import Projects
from flows.access.use_case import use_case
from flows.logs.change_feed import Changes, ChangeStore
from flows.logs.expiry import Expired, ExpiryStore
from flows.logs.feedback import read_feedback
from flows.logs.fetch import FetchRequest, Page, QueryPage, RowReader
from flows.logs.group_commit import GroupCommit
from flows.logs.ingest import IngestRequest, IngestStore
from flows.logs.limits import LogLimits, TooLarge
from flows.logs.rejections import RejectedRow, fields_of, nothing_stored, rejection
from spans.errors import BadInput, Forbidden, NotFound, UserError
from spans.event import read_event
from spans.ids import ProjectId, Xact, parse_uuid
from spans.json import Json, JsonObject
from spans.queues import MATCH
from spans.repair.faults import Faults, Unreadable
from spans.repair.json_text import read_tolerantly
from spans.repair.values import BodyText, InexactIntegers
from spans.resends import IngestAnswer, Resend, ResendName
from spans.row import ObjectRef, RowWrite

NAME_CHARS_MAX = 60
"""How much of a project's id, as it was sent, an error quotes. An id has 36 characters."""

OTHER_OBJECTS = ("experiment_id", "dataset_id", "prompt_session_id")
"""Fields of a row that belongs to an object other than a project's logs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SentRows:
    """The rows of one request.

    `body` is the JSON text that they were parsed from. It shows which numbers the parser
    rounded and whether a string holds NUL. `sent_to` is the path of its URL.

    `error` is that of a body that is not valid JSON: it says why all rows are to be refused,
    unless one of them shows which value is wrong.

    `idempotency_key` is what the client names the request, in all of its tries. `retries` is
    how often it says that it has tried before. Each is None if the client says nothing.
    """

    rows: Sequence[Json]
    body: bytes
    sent_to: str
    is_exact: bool = False   # the rows come from `read_tolerantly`
    error: BadInput | None = None
    idempotency_key: str | None = None
    retries: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Ingested:
    """The result of `ingest`: the ids of the stored rows, in the request's order, their
    version, and the rejected rows."""

    row_ids: tuple[str, ...]
    xact: Xact
    rejected: tuple[RejectedRow, ...]


class _NewIds:
    """Makes ids for what comes without one, and counts them."""

    def __init__(self, new_id: Callable[[], uuid.UUID]) -> None:
        self._new_id = new_id
        self.made = 0

    def __call__(self) -> str:
        self.made += 1
        return str(self._new_id())


class Logs:
    """The use cases of a project's logs. Thread-safe. To be closed at the end."""

    def __init__(
        self, *, projects: Projects, store: IngestStore, reader: RowReader,
        feed: ChangeStore, expiry: ExpiryStore, ring: Callable[[str], None],
        limits: LogLimits,
        new_id: Callable[[], uuid.UUID] = uuid.uuid4,
    ) -> None:
        self.limits = limits
        self._projects = projects
        self._reader = reader
        self._feed = feed
        self._expiry = expiry
        self._new_id = new_id
        self._commit = GroupCommit(store, after=lambda: ring(MATCH))

    def close(self) -> None:
        """Stores the rows that were sent so far, then stops."""
        self._commit.close()

    @use_case(KeyRole.INGEST, KeyRole.READ)
    async def require(self, principal: Principal, project_id: ProjectId) -> None:
        """Raises NotFound unless the key reaches the project.

        With it an entry point can refuse a request before it reads the body. The other methods
        do not rely on it.
        """
        await self._logs_of(principal, project_id)

    @use_case(KeyRole.INGEST)
    async def ingest(self, principal: Principal, sent: SentRows) -> Ingested:
        """Stores rows, each of which names its project. Bad rows are rejected and listed.

        This is for clients that would drop all rows after an error. Values that cannot be
        stored are mended. If there are rows and none could be stored, raises the error of
        `nothing_stored`, and the rows are listed all the same. Raises TooLarge for too many
        rows.
        """
        self._check_number(sent, "rows")
        places = await self._places(principal, sent.rows)
        ids = _NewIds(self._new_id)
        try:
            writes, refused = self._read_each(sent, ids, places)
        except InexactIntegers:
            writes, refused = self._read_each(_read_again(sent), ids, places)
        rejected = tuple(row for row, _ in refused)
        answer = await self._write(principal, sent, ids, writes, rejected)
        if refused and not writes:
            raise nothing_stored(refused)
        return Ingested(row_ids=answer.row_ids, xact=answer.xact, rejected=rejected)

    @use_case(KeyRole.INGEST)
    async def insert(
        self, principal: Principal, project_id: ProjectId, sent: SentRows
    ) -> tuple[str, ...]:
        """Stores events of one project, all or none, and returns their row ids.

        Raises BadInput that names the first bad event, and NotFound for the project.
        """
        where = await self._logs_of(principal, project_id)
        ids = _NewIds(self._new_id)
        read = self._event_reader(sent, ids, Faults(is_strict=True))
        writes = self._read_all(sent, "events", lambda event: [read(event, where)])
        return (await self._write(principal, sent, ids, writes)).row_ids

    @use_case(KeyRole.INGEST)
    async def feedback(
        self, principal: Principal, project_id: ProjectId, sent: SentRows
    ) -> None:
        """Stores people's scores, corrections, tags and comments on rows, all or none.

        Raises BadInput that names the first bad item, and NotFound for the project.
        """
        where = await self._logs_of(principal, project_id)
        text, ids = BodyText(sent.body, is_exact=sent.is_exact), _NewIds(self._new_id)
        writes = self._read_all(
            sent, "feedback",
            lambda item: read_feedback(item, where, self.limits.event, text, ids),
        )
        await self._write(principal, sent, ids, writes)

    @use_case(KeyRole.READ)
    def fetch(
        self, principal: Principal, project_id: ProjectId, request: FetchRequest
    ) -> Page:
        """One page of a project's rows, newest first. Raises NotFound, BadInput."""
        where = self._projects.logs_of(principal, project_id)
        most = self.limits.fetch_limit_max
        limit = most if request.limit is None else min(request.limit, most)
        return self._reader.page(where, principal.org_id, request, limit=limit)

    @use_case(KeyRole.READ)
    def query(
        self, principal: Principal, query: Query, *, tz_offset_minutes: int = 0
    ) -> QueryPage:
        """One page of the rows that a query selects, in the query's order.

        Raises NotFound unless the key reaches every project that the query names, and BadInput
        for a query of other objects or a query that takes too long.
        """
        if query.object_type != "project_logs":
            raise BadInput(
                f"{query.object_type} is not supported; query project_logs('PROJECT_ID')"
            )
        projects = tuple(
            self._projects.logs_of(principal, _project_id(text)).project_id
            for text in query.object_ids
        )
        return self._reader.query(
            query, principal.org_id, projects, limit_max=self.limits.fetch_limit_max,
            tz_offset=tz_offset_minutes,
        )

    @use_case(KeyRole.READ)
    def rejected(
        self, principal: Principal, project_id: ProjectId, limit: int
    ) -> list[JsonObject]:
        """A project's latest rejected rows, newest first. Raises NotFound."""
        self._projects.logs_of(principal, project_id)
        return self._reader.rejected(principal.org_id, project_id, limit)

    @use_case()
    def rejected_anywhere(self, principal: Principal, limit: int) -> list[JsonObject]:
        """The organisation's latest rejected rows, newest first.

        Those that named no project that their key reached are only here. Raises Forbidden for a
        key of one project.
        """
        if principal.project_id is not None:
            raise Forbidden("this key is for one project; the list is of all of them")
        return self._reader.rejected(principal.org_id, None, limit)

    @use_case(KeyRole.READ)
    def changes(
        self, principal: Principal, project_id: ProjectId, *, after: Xact | None, limit: int
    ) -> Changes:
        """A project's rows that changed after the version `after`, at most about `limit`.

        Begin with None, which returns no rows but the current version in `upto`.
        """
        self._projects.logs_of(principal, project_id)
        if after is None:
            return Changes(rows=(), upto=self._feed.now())
        return self._feed.changes(project_id, after, limit)

    @use_case()
    def expire(
        self, principal: Principal, project_id: ProjectId, before: datetime, *,
        is_dry_run: bool = False,
    ) -> Expired:
        """Deletes a project's traces whose newest row was created before `before`.

        With `is_dry_run` nothing is deleted. Raises NotFound.
        """
        where = self._projects.logs_of(principal, project_id)
        return self._expiry.expire(where, before, is_dry_run=is_dry_run)

    async def _logs_of(self, principal: Principal, project_id: ProjectId) -> ObjectRef:
        trusted = self._projects.trusted_logs_of(principal, project_id)
        if trusted is not None:
            return trusted
        return await asyncio.to_thread(self._projects.logs_of, principal, project_id)

    async def _places(
        self, principal: Principal, rows: Sequence[Json]
    ) -> dict[str, ObjectRef | None]:
        """The logs of each project that the rows name, by the id in the row.

        None stands for a project that the key does not reach.
        """
        places: dict[str, ObjectRef | None] = {}
        for row in rows:
            text = fields_of(row).get("project_id")
            if not isinstance(text, str) or text in places:
                continue
            try:
                places[text] = await self._logs_of(principal, _project_id(text))
            except NotFound:
                places[text] = None
        return places

    def _check_number(self, sent: SentRows, name: str) -> None:
        most = self.limits.rows_per_request_max
        if len(sent.rows) > most:
            raise TooLarge(
                f"{len(sent.rows)} {name}, more than {most} "
                "(TALLYARD_ROWS_PER_REQUEST_MAX): send them in several requests"
            )

    def _read_each(
        self, sent: SentRows, ids: _NewIds, places: dict[str, ObjectRef | None]
    ) -> tuple[list[RowWrite], list[tuple[RejectedRow, UserError]]]:
        """The writes of the rows that can be read, mended, and the others with their errors.

        Raises InexactIntegers if the rows have to be read again from the text.
        """
        read = self._event_reader(sent, ids, Faults(is_strict=False))
        writes: list[RowWrite] = []
        refused: list[tuple[RejectedRow, UserError]] = []
        for row in sent.rows:
            where: ObjectRef | None = None
            try:
                where = _place_of(row, places)
                writes.append(read(row, where))
            except UserError as error:
                project_id = where.project_id if where else None
                refused.append((rejection(row, project_id, error), error))
        return writes, refused

    def _event_reader(
        self, sent: SentRows, ids: _NewIds, faults: Faults
    ) -> Callable[[Json, ObjectRef], RowWrite]:
        """The function that reads one event of the request. It raises BadInput and TooLarge."""
        text = BodyText(sent.body, is_exact=sent.is_exact)
        limits = self.limits.event
        most = self.limits.span_bytes_max
        # A span is no larger than its body. Most bodies are small enough to skip the check.
        may_be_too_large = len(sent.body) > most

        def read(event: Json, where: ObjectRef) -> RowWrite:
            write = read_event(event, where, limits, new_id=ids, body=text, faults=faults)
            # Read first: what is nested too deep for the writer of JSON is mended or refused.
            if may_be_too_large and (size := _bytes_of(write)) > most:
                raise TooLarge(
                    f"the span has {size} bytes, more than {most} (TALLYARD_SPAN_BYTES_MAX)"
                )
            return write

        return read

    def _read_all(
        self, sent: SentRows, name: str, read: Callable[[Json], Sequence[RowWrite]]
    ) -> list[RowWrite]:
        """The writes of all rows. Raises BadInput with the path of the first bad row, or else
        the error of the body."""
        self._check_number(sent, name)
        writes: list[RowWrite] = []
        for index, row in enumerate(sent.rows):
            try:
                writes += read(row)
            except BadInput as error:
                raise error.within(f"{name}[{index}]") from error
        if sent.error is not None:
            raise sent.error
        return writes

    async def _write(
        self, principal: Principal, sent: SentRows, ids: _NewIds, writes: Sequence[RowWrite],
        rejected: Sequence[RejectedRow] = (),
    ) -> IngestAnswer:
        return await self._commit.write(
            IngestRequest(
                org_id=principal.org_id, sent_by=principal.key_name, writes=tuple(writes),
                rejected=tuple(rejected),
                resend=_resend(principal, sent) if ids.made else None,
            )
        )


def _resend(principal: Principal, sent: SentRows) -> Resend | None:
    """How later tries of the request are recognised; None if the client tells none apart."""
    key = sent.idempotency_key
    if key is None and sent.retries is None:
        return None
    body_hash = _hash(sent.body)
    known_by = b"body" + body_hash if key is None else b"key " + _hash(key.encode())
    return Resend(
        name=ResendName(principal.key_id, _hash(known_by + sent.sent_to.encode())),
        body_hash=body_hash, tries=sent.retries if key is None else None,
    )


def _hash(data: bytes) -> bytes:
    return hashlib.blake2b(data, digest_size=32).digest()


def _project_id(text: str) -> ProjectId:
    found = parse_uuid(text)
    if found is None:
        raise NotFound("no such project")
    return ProjectId(found)


def _place_of(row: Json, places: dict[str, ObjectRef | None]) -> ObjectRef:
    if not isinstance(row, dict | Unreadable):
        raise BadInput("a row must be an object")
    fields = fields_of(row)
    if isinstance(text := fields.get("project_id"), str):
        if (where := places.get(text)) is None:
            raise NotFound(f"no such project: {text[:NAME_CHARS_MAX]!r}")
        return where
    if isinstance(row, Unreadable):
        raise BadInput(row.reason)
    for name in OTHER_OBJECTS:
        if name in fields:
            raise BadInput("not supported: log to a project, with project_id", path=name)
    raise BadInput("missing: a row must name its project", path="project_id")


def _read_again(sent: SentRows) -> SentRows:
    """The rows as their text says them to the last digit."""
    try:
        body = read_tolerantly(sent.body)
    except RecursionError:   # the strict parser reads what is nested somewhat deeper
        return replace(sent, is_exact=True)
    rows = body.get("rows") if isinstance(body, dict) else None
    return replace(sent, rows=rows if isinstance(rows, list) else (), is_exact=True)


def _bytes_of(write: RowWrite) -> int:
    """The size of what is stored of a write, as JSON."""
    parts = (write.fields, write.scoring_state, write.comment, write.audit_metadata)
    return len(orjson.dumps(parts))
