"""What becomes of deliveries after attempts, and how much is sent at a time."""

from __future__ import annotations

import uuid

from hypothesis import given
from hypothesis import strategies as st

from automations.limits import (
    ENDPOINT_IN_FLIGHT,
    ENDPOINT_PER_MINUTE,
    PROJECT_IN_FLIGHT,
    PROJECT_PER_MINUTE,
    DueDelivery,
    Use,
    endpoint_of,
    take_turns,
)
from automations.outbound.request_end import HTTP_STATUS, TIMEOUT, RequestEnd
from automations.schedule import (
    ATTEMPTS_MAX,
    DISABLE_AFTER_ATTEMPTS,
    DISABLE_AFTER_S,
    WAITS_S,
    Delivered,
    Failing,
    GivenUp,
    TryAgainIn,
    after_attempt,
)

spreads = st.floats(0, 1)
failures = st.one_of(
    st.integers(300, 599).map(lambda code: RequestEnd(status=code, error_class=HTTP_STATUS)),
    st.just(RequestEnd(error_class=TIMEOUT)),
)
PROJECTS = [uuid.UUID(int=number) for number in range(3)]
ENDPOINTS = [bytes([number]) for number in range(4)]
due_ones = st.builds(
    DueDelivery, st.uuids(), st.sampled_from(PROJECTS), st.sampled_from(ENDPOINTS)
)
uses = st.builds(
    Use, in_minute=st.integers(0, 700), in_flight=st.integers(0, 10),
    oldest_s=st.floats(0, 60),
)


@given(failures, st.integers(1, 20), spreads)
def test_a_failure_is_tried_again_until_the_last_attempt_or_410(end, attempt, spread):
    then = after_attempt(
        end, attempt=attempt, is_test=False, failing=Failing(), spread=spread
    )
    if end.status == 410 or attempt >= ATTEMPTS_MAX:
        assert isinstance(then, GivenUp)
    else:
        assert isinstance(then, TryAgainIn)
        usual_s = WAITS_S[attempt - 1]
        assert usual_s * 0.79 <= then.wait_s <= usual_s * 1.21


@given(st.integers(200, 299), st.integers(1, 20), spreads, st.booleans())
def test_a_success_is_the_end_at_any_attempt(status, attempt, spread, is_test):
    then = after_attempt(
        RequestEnd(status=status), attempt=attempt, is_test=is_test,
        failing=Failing(seconds=1e9, attempts=99), spread=spread,
    )
    assert then == Delivered()


@given(st.sampled_from([429, 503, 500]), st.floats(0, 3600), st.integers(1, 7), spreads)
def test_only_a_busy_receiver_is_given_the_time_that_it_asks_for(
    status, asked_s, attempt, spread
):
    end = RequestEnd(status=status, error_class=HTTP_STATUS, retry_after_s=asked_s)
    then = after_attempt(
        end, attempt=attempt, is_test=False, failing=Failing(), spread=spread
    )
    assert isinstance(then, TryAgainIn)
    if status != 500:
        assert then.wait_s >= asked_s
    else:
        assert then.wait_s <= WAITS_S[attempt - 1] * 1.21


@given(
    failures.filter(lambda end: end.status != 410), st.floats(0, 10 * 86_400),
    st.integers(0, 40), st.integers(1, 7), spreads,
)
def test_an_automation_is_paused_only_after_five_days_and_twelve_failures(
    end, seconds, attempts, attempt, spread
):
    then = after_attempt(
        end, attempt=attempt, is_test=False,
        failing=Failing(seconds=seconds, attempts=attempts), spread=spread,
    )
    is_long = seconds >= DISABLE_AFTER_S and attempts + 1 >= DISABLE_AFTER_ATTEMPTS
    assert (isinstance(then, GivenUp) and then.pause_because is not None) == is_long


@given(failures, st.integers(1, 3), spreads)
def test_a_test_is_tried_once(end, attempt, spread):
    assert after_attempt(
        end, attempt=attempt, is_test=True, failing=Failing(seconds=1e9, attempts=99),
        spread=spread,
    ) == GivenUp()


@given(
    st.lists(due_ones, max_size=100, unique_by=lambda one: one.id),
    st.dictionaries(st.sampled_from(ENDPOINTS), uses),
    st.dictionaries(st.sampled_from(PROJECTS), uses), st.integers(0, 32),
)
def test_no_turn_exceeds_a_limit_and_each_delivery_has_one_place(
    due, endpoints, projects, room
):
    turns = take_turns(due, endpoints=endpoints, projects=projects, room=room)
    placed = [*turns.now, *(one for one, _ in turns.put_off)]
    assert len(placed) == len({one.id for one in placed})
    assert len(turns.now) <= room
    assert all(wait_s >= 0 for _, wait_s in turns.put_off)
    for key in {one.endpoint for one in turns.now}:
        sent = sum(one.endpoint == key for one in turns.now)
        use = endpoints.get(key, Use())
        assert use.in_flight + sent <= ENDPOINT_IN_FLIGHT
        assert use.in_minute + sent <= ENDPOINT_PER_MINUTE
    for project in {one.project_id for one in turns.now}:
        sent = sum(one.project_id == project for one in turns.now)
        use = projects.get(project, Use())
        assert use.in_flight + sent <= PROJECT_IN_FLIGHT
        assert use.in_minute + sent <= PROJECT_PER_MINUTE


@given(st.lists(due_ones, min_size=1, max_size=100, unique_by=lambda one: one.id))
def test_where_nothing_is_in_use_the_first_one_gets_a_turn(due):
    assert take_turns(due, endpoints={}, projects={}, room=1).now == [due[0]]


@given(st.text(alphabet="abc", max_size=5), st.text(alphabet="abc=&", max_size=9))
def test_an_endpoint_is_the_url_without_its_query(path, query):
    url = f"https://example.com/{path}"
    assert endpoint_of(f"{url}?{query}") == endpoint_of(f"{url}#{query}") == endpoint_of(url)
    assert endpoint_of(f"{url}x") != endpoint_of(url)
