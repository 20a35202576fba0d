// Makes JSON of what a handler returned. `returned.py` does the same for Python, and says why.
'use strict';

const INTEGER_MAX = Number.MAX_SAFE_INTEGER;
const DEPTH_MAX = 24;
const CHANGES_MAX = 10;
const TEXT_CHARACTERS = 1000;
const PATH_CHARACTERS = 100;
const ENVELOPE_BYTES = 64;

// Kept here before the scorer's code is loaded, as in `runner.cjs`.
const { stringify } = JSON;
const { isFinite, isInteger } = Number;
const { isArray } = Array;
const { fromEntries } = Object;
const sizeOf = Buffer.byteLength.bind(Buffer);

class NotAScore extends Error {}
class ResultTooLarge extends Error {}
class Full extends Error {}

// The body of a frame with the handler's result, and a line for each change to it. `most` is the
// most bytes of the body. Throws NotAScore and ResultTooLarge.
function encoded(value, most) {
  const making = new Making();
  const returned = value ?? null;
  const many = isArray(returned);
  const given = many ? returned.map(plainObject) : [plainObject(returned)];
  const scores = given.map((each) => making.score(each));
  let left = most - ENVELOPE_BYTES - sizeOf(stringify(scores));
  if (left < 0) throw new ResultTooLarge(`more than ${most} bytes`);
  scores.forEach((score, place) => {
    if (score === null || typeof score !== 'object') return;
    left = making.fill(score, given[place], many ? `[${place}].` : '', left);
  });
  return { body: stringify({ result: many ? scores : scores[0] }), changes: making.changes() };
}

// An object with a form of its own in JSON, such as a Score of a library, as a plain one.
function plainObject(value) {
  return typeof value?.toJSON === 'function' ? value.toJSON() : value ?? null;
}

function kind(value) {
  if (value === null || typeof value !== 'object') return typeof value;
  return String(value.constructor?.name ?? 'object').slice(0, PATH_CHARACTERS);
}

class Making {
  #changes = [];
  #unsaid = 0;
  #left = 0;

  changes() {
    return this.#unsaid ? [...this.#changes, `${this.#unsaid} more changes`] : this.#changes;
  }

  // The score without what stands beside it: a value, or an object with a value.
  score(given) {
    if (given === null || typeof given !== 'object' || isArray(given)) return this.#value(given, '');
    const { score, name } = given;
    if (score === undefined) return {};
    return { score: this.#value(score, typeof name === 'string' ? ` of '${name.slice(0, 99)}'` : '') };
  }

  // Puts what stands beside a score into it, as far as it fits. Returns the bytes left.
  fill(score, given, at, left) {
    for (const key of Object.keys(given)) {
      if (key === 'score') continue;
      const name = storable(key);
      this.#left = left;
      let made;
      let size = left + 1;
      try {
        made = this.#plain(() => given[key], `${at}${name}`, [], DEPTH_MAX);
        if (made === undefined) continue;
        size = sizeOf(stringify({ [name]: made }));
      } catch (error) {
        if (!(error instanceof Full)) throw error;
      }
      if (size > left) {
        this.#say(`${at}${name}`, 'does not fit into the result (result_bytes)', 'it is left out');
        continue;
      }
      score[name] = made;
      left -= size;
    }
    return left;
  }

  #value(value, of) {
    if (value === null || typeof value === 'boolean') return value;
    if (typeof value === 'string') return storable(value);
    if (typeof value !== 'number') {
      throw new NotAScore(`the score${of} is a ${kind(value)}: a score is a number in 0..1`);
    }
    if (isFinite(value)) return value;
    throw new NotAScore(`the score${of} is ${value}: a score is a number in 0..1, or null`);
  }

  #say(path, was, now) {
    if (this.#changes.length < CHANGES_MAX) {
      this.#changes.push(`${path.slice(0, PATH_CHARACTERS)} ${was}: ${now}`);
    } else {
      this.#unsaid += 1;
    }
  }

  // The value that `read` gives, as JSON; undefined for what JSON leaves out. `above` are the
  // objects that it stands in. Getters and `toJSON` are the scorer's own and may throw anything.
  #plain(read, path, above, depth) {
    this.#left -= 2;
    if (this.#left < 0) throw new Full();
    try {
      return this.#converted(read(), path, above, depth);
    } catch (error) {
      if (error instanceof Full) throw error;
      this.#say(path, 'cannot be read', 'null is stored');
      return null;
    }
  }

  #converted(value, path, above, depth) {
    switch (typeof value) {
      case 'undefined':
        return undefined;
      case 'boolean':
        return value;
      case 'string':
        return this.#text(value, path);
      case 'number':
        return this.#number(value, path);
      case 'bigint':
        if (value >= -INTEGER_MAX && value <= INTEGER_MAX) return Number(value);
        this.#say(path, 'is an integer beyond 2**53', 'it is stored as text');
        return this.#text(String(value), path);
      case 'object':
        break;
      default:
        this.#say(path, `is a ${typeof value}, which JSON has no form for`, 'it is stored as text');
        return this.#text(String(value).slice(0, TEXT_CHARACTERS), path);
    }
    if (value === null) return null;
    if (above.includes(value)) {
      this.#say(path, 'contains itself', 'null is stored');
      return null;
    }
    if (!depth) {
      this.#say(path, `is nested more than ${DEPTH_MAX} deep`, 'null is stored');
      return null;
    }
    return this.#inner(value, path, [...above, value], depth - 1);
  }

  // A value that holds others.
  #inner(value, path, above, depth) {
    const again = (other) => this.#plain(() => other, path, above, depth);
    if (typeof value.toJSON === 'function' && !Buffer.isBuffer(value)) return again(value.toJSON());
    // Before a copy takes up more memory: each of its values has at least two bytes.
    if (ArrayBuffer.isView(value) && value.length * 2 > this.#left) throw new Full();
    if (value instanceof Map) return again(fromEntries(value));
    if (value instanceof Set || ArrayBuffer.isView(value)) return again([...value]);
    if (value instanceof Error || value instanceof RegExp) return again(String(value));
    if (value instanceof Number || value instanceof String || value instanceof Boolean) {
      return again(value.valueOf());
    }
    if (isArray(value)) {
      return Array.from(
        value, (_, place) => this.#plain(() => value[place], `${path}[${place}]`, above, depth) ?? null,
      );
    }
    const made = {};
    for (const key of Object.keys(value)) {
      const name = storable(key);
      this.#left -= name.length;
      const each = this.#plain(() => value[key], `${path}.${name}`, above, depth);
      if (each !== undefined) {
        Object.defineProperty(made, name, { value: each, enumerable: true, configurable: true });
      }
    }
    return made;
  }

  #number(value, path) {
    const text = String(value);
    if (isInteger(value) && Math.abs(value) > INTEGER_MAX && !text.includes('e')) {
      this.#say(path, 'is an integer beyond 2**53', 'it is stored as text');
      return text;
    }
    if (isFinite(value)) return value;
    this.#say(path, `is ${value}, which JSON has no form for`, 'null is stored');
    return null;
  }

  #text(text, path) {
    this.#left -= text.length;
    if (this.#left < 0) throw new Full();
    const kept = storable(text);
    if (kept !== text) {
      this.#say(path, 'has characters that cannot be stored', '\\ufffd stands for each');
    }
    return kept;
  }
}

// The text with U+FFFD for NUL and lone surrogates, which PostgreSQL cannot store.
function storable(text) {
  return text.toWellFormed().replaceAll('\0', '\ufffd');
}

module.exports = { encoded, NotAScore, ResultTooLarge, storable };
