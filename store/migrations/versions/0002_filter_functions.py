"""Creates the SQL functions of filters.

With them a filter selects in PostgreSQL the same rows as in memory. Each function has a
counterpart in `btql` (values, times, calls), uses each operand once, and raises no error,
whatever a row contains. A point in time is a timestamp without zone, in UTC.
"""

from __future__ import annotations

from alembic import op

revision = "0002"
down_revision = "0001"

VALUES = r"""
create function btql_text(v jsonb) returns text
language sql immutable parallel safe as $$
  select case jsonb_typeof(v)
    when 'string' then v #>> '{}'
    when 'number' then trim_scale(v::numeric)::text
    when 'null' then null
    else v::text end
$$;

create function btql_words(v jsonb) returns text
language sql immutable parallel safe as $$
  select case when jsonb_typeof(v) in ('array', 'object')
    then coalesce((
      select string_agg(item #>> '{}', E'\n')
      from jsonb_path_query(v, 'strict $.** ? (@.type() == "string")') as item), '')
    else btql_text(v) end
$$;

-- Most values do not contain the word. Their JSON text shows that at once, since words contain
-- no character that JSON escapes.
create function btql_has_words(v jsonb, words text[], patterns text[]) returns boolean
language plpgsql immutable parallel safe strict as $$
declare
  raw text := lower(v::text collate "C");
  word text;
begin
  foreach word in array words loop
    if strpos(raw, word) = 0 then
      return false;
    end if;
  end loop;
  return lower(btql_words(v) collate "C") ~ all (patterns);
end $$;

-- -1, 0 or 1; null where the types differ or have no order.
create function btql_order(a jsonb, b jsonb) returns integer
language plpgsql immutable parallel safe strict as $$
declare
  kind text := jsonb_typeof(a);
  x text; y text;
begin
  if kind <> jsonb_typeof(b) then
    return null;
  elsif kind = 'number' or kind = 'boolean' then
    return (a > b)::int - (a < b)::int;
  elsif kind = 'string' then
    x := a #>> '{}'; y := b #>> '{}';
    return (x > y collate "C")::int - (x < y collate "C")::int;
  end if;
  return null;
end $$;

create function btql_listed(v jsonb, options jsonb[]) returns boolean
language sql immutable parallel safe as $$
  select case when v is null then null
    when jsonb_typeof(v) = 'array' then exists (
      select from jsonb_array_elements(v) as item where item = any (options))
    else coalesce(v = any (options), false) end
$$;

create function btql_includes(haystack jsonb, needle jsonb) returns boolean
language sql immutable parallel safe strict as $$
  select case jsonb_typeof(haystack)
    when 'array' then exists (
      select from jsonb_array_elements(haystack) as item where item = needle)
    when 'object' then exists (
      select from jsonb_each(haystack) as pair where pair.value = needle)
    else false end
$$;
"""

NUMBERS = r"""
-- A number as a double; null if it is near the size at which doubles overflow and raise errors.
create function btql_double(v jsonb) returns double precision
language plpgsql immutable parallel safe strict as $$
declare n numeric;
begin
  if jsonb_typeof(v) <> 'number' then
    return null;
  end if;
  n := v::numeric;
  if n = 0 or abs(n) between 1e-150 and 1e150 then
    return n::double precision;
  end if;
  return null;
end $$;

-- Calls no other function, because it may run for each row of a log and must be fast.
create function btql_calculate(operation text, a jsonb, b jsonb) returns jsonb
language plpgsql immutable parallel safe strict as $$
declare m numeric; n numeric; x double precision; y double precision;
begin
  if jsonb_typeof(a) <> 'number' or jsonb_typeof(b) <> 'number' then
    return null;
  end if;
  m := abs(a::numeric); n := abs(b::numeric);
  if (m not between 1e-150 and 1e150 and m <> 0) or (n not between 1e-150 and 1e150 and n <> 0)
     or (n = 0 and operation in ('div', 'mod')) then
    return null;
  end if;
  x := a::double precision; y := b::double precision;
  x := case operation
    when 'add' then x + y
    when 'sub' then x - y
    when 'mul' then x * y
    when 'div' then x / y
    else x - trunc(x / y) * y end;
  if x = 0 or abs(x) between 1e-150 and 1e150 then
    return to_jsonb(x);
  end if;
  return null;
end $$;

create function btql_round(v jsonb, digits jsonb) returns jsonb
language plpgsql immutable parallel safe strict as $$
declare
  x double precision := btql_double(v);
  d double precision := btql_double(digits);
begin
  if x is null or d is null or d <> trunc(d) or abs(d) > 15 then
    return null;
  end if;
  return to_jsonb(round(to_jsonb(x)::numeric, d::int)::double precision);
end $$;

create function btql_length(v jsonb) returns jsonb
language sql immutable parallel safe as $$
  select to_jsonb(case jsonb_typeof(v)
    when 'array' then jsonb_array_length(v)
    when 'object' then (select count(*)::int from jsonb_object_keys(v))
    when 'string' then length(v #>> '{}') end)
$$;

-- The first of the greatest (wanted 1) or least (-1) values; null where two have no order.
create function btql_extreme(candidates jsonb[], wanted integer) returns jsonb
language plpgsql immutable parallel safe strict as $$
declare best jsonb; candidate jsonb; sign integer;
begin
  foreach candidate in array candidates loop
    continue when candidate is null;
    sign := btql_order(candidate, coalesce(best, candidate));
    if sign is null then
      return null;
    elsif best is null or sign = wanted then
      best := candidate;
    end if;
  end loop;
  return best;
end $$;
"""

TIMES = r"""
create function btql_micros(t timestamp) returns bigint
language sql immutable parallel safe strict as $$
  select (extract(epoch from t) * 1000000)::bigint
$$;

-- Null outside of the years 1 to 9999.
create function btql_from_micros(m bigint) returns timestamp
language sql immutable parallel safe strict as $$
  select case when m between -62135596800000000 and 253402300799999999
    then timestamp '1970-01-01' + (m / 86400000000) * interval '1 day'
         + (m % 86400000000) * interval '1 microsecond' end
$$;

create function btql_instant(v text) returns timestamp
language plpgsql immutable parallel safe strict as $$
declare
  f text[] := regexp_match(v,
    '^([0-9]{4})-([0-9]{2})-([0-9]{2})'
    '(?:[T ]([0-9]{2}):([0-9]{2})(?::([0-9]{2})(?:\.([0-9]{1,9}))?)?'
    '(Z|[+-][0-9]{2}:?[0-9]{2})?)?$');
  month_start timestamp; zone text; ahead bigint := 0;
begin
  if f is null or f[1]::int < 1 or f[2]::int not between 1 and 12 or f[3]::int < 1
     or coalesce(f[4], '0')::int > 23 or coalesce(f[5], '0')::int > 59
     or coalesce(f[6], '0')::int > 59 then
    return null;
  end if;
  month_start := make_timestamp(f[1]::int, f[2]::int, 1, 0, 0, 0);
  if f[3]::int > extract(day from month_start + interval '1 month' - interval '1 day') then
    return null;
  end if;
  zone := coalesce(f[8], 'Z');
  if zone <> 'Z' then
    if substr(zone, 2, 2)::int > 23 or right(zone, 2)::int > 59 then
      return null;
    end if;
    ahead := (substr(zone, 2, 2)::bigint * 60 + right(zone, 2)::bigint) * 60000000;
    if left(zone, 1) = '-' then
      ahead := -ahead;
    end if;
  end if;
  return btql_from_micros(
    btql_micros(month_start) - ahead + (f[3]::bigint - 1) * 86400000000
    + coalesce(f[4], '0')::bigint * 3600000000 + coalesce(f[5], '0')::bigint * 60000000
    + coalesce(f[6], '0')::bigint * 1000000
    + left(rpad(coalesce(f[7], '0'), 6, '0'), 6)::bigint);
end $$;

create function btql_time(v jsonb) returns timestamp
language sql immutable parallel safe strict as $$
  select case when jsonb_typeof(v) = 'string' then btql_instant(v #>> '{}') end
$$;

create function btql_time_text(t timestamp) returns text
language sql immutable parallel safe strict as $$
  select to_char(t, 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"')
$$;

create function btql_shift(t timestamp, months integer, micros bigint) returns timestamp
language plpgsql immutable parallel safe strict as $$
begin
  if extract(year from t) * 12 + extract(month from t) - 1 + months not between 12 and 119999 then
    return null;
  end if;
  return btql_from_micros(btql_micros(t + make_interval(months => months)) + micros);
end $$;

create function btql_seconds(later timestamp, earlier timestamp) returns jsonb
language sql immutable parallel safe strict as $$
  select to_jsonb(((btql_micros(later) - btql_micros(earlier))::numeric * 0.000001)
                  ::double precision)
$$;

-- Periods of several units are counted from 1970, weeks from Mondays; the clock is
-- `behind` minutes behind UTC. `size` is the period's length in microseconds.
create function btql_truncate(t timestamp, unit text, size bigint, behind integer)
returns timestamp
language plpgsql immutable parallel safe strict as $$
declare
  late bigint := behind::bigint * 60000000;
  near timestamp := btql_from_micros(btql_micros(t) - late);
  since bigint := btql_micros(near);
  past bigint;
begin
  if unit in ('month', 'year') then
    return btql_from_micros(btql_micros(date_trunc(unit, near)) + late);
  end if;
  -- 1970-01-01 was a Thursday: its week began three days before.
  past := since + case unit when 'week' then 259200000000 else 0 end;
  past := (past % size + size) % size;
  return btql_from_micros(btql_micros(btql_from_micros(since - past)) + late);
end $$;
"""

CASTS = r"""
create function btql_extract(v jsonb, key text) returns jsonb
language plpgsql immutable strict as $$
begin
  if jsonb_typeof(v) = 'string' then
    v := (v #>> '{}')::jsonb;
  end if;
  return nullif(v -> key, 'null');
exception when data_exception or program_limit_exceeded then
  return null;  -- no JSON: there is no way to ask before PostgreSQL 16
end $$;

create function btql_to_boolean(v jsonb) returns boolean
language sql immutable parallel safe strict as $$
  select case jsonb_typeof(v)
    when 'boolean' then v = 'true'
    when 'number' then v <> '0'
    when 'string' then case lower((v #>> '{}') collate "C")
      when 'true' then true when 'false' then false end end
$$;

create function btql_to_number(v jsonb) returns jsonb
language plpgsql immutable parallel safe strict as $$
declare n numeric;
begin
  case jsonb_typeof(v)
    when 'number' then return v;
    when 'boolean' then return case when v = 'true' then '1' else '0' end::jsonb;
    when 'string' then null;
    else return null;
  end case;
  if (v #>> '{}') !~ '^[+-]?[0-9]{1,40}(\.[0-9]{1,40})?([eE][+-]?[0-9]{1,3})?$' then
    return null;
  end if;
  n := (v #>> '{}')::numeric;
  if n = trunc(n) and abs(n) < 9223372036854775808 then
    return to_jsonb(trunc(n));
  elsif abs(n) between 1e-150 and 1e150 then
    return to_jsonb(n::double precision);
  end if;
  return null;
end $$;

create function btql_to_integer(v jsonb) returns jsonb
language plpgsql immutable parallel safe strict as $$
declare n numeric := trunc(btql_to_number(v)::numeric);
begin
  return case when abs(n) < 9223372036854775808 then to_jsonb(n) end;
end $$;

create function btql_to_datetime(v jsonb) returns timestamp
language plpgsql immutable parallel safe strict as $$
declare seconds double precision;
begin
  if jsonb_typeof(v) = 'string' then
    return btql_instant(v #>> '{}');
  end if;
  seconds := btql_double(v);
  if abs(seconds) > 1e12 then
    return null;
  end if;
  return btql_from_micros(floor(seconds * 1000000)::bigint);
end $$;
"""


def upgrade() -> None:
    for functions in (VALUES, NUMBERS, TIMES, CASTS):
        op.execute(functions)


def downgrade() -> None:
    raise RuntimeError("0002 cannot be undone: drop the database instead")
