// Runs a JavaScript scorer on the records of one order. `runner.py` does the same for Python, with
// the same request and the same frames (`frames.py`). The process is locked in by now. This code
// shares the process with the scorer, which may change any of it. So it only carries records and
// results; it decides nothing. It is no ES module, because node starts a third faster without:
// a batch of 100 takes 30 ms, not 39.
'use strict';

const { Console } = require('node:console');
const { closeSync, fstatSync, readFileSync, readSync, writeSync } = require('node:fs');
const { createRequire } = require('node:module');
const { compileFunction } = require('node:vm');
const { encoded, NotAScore, storable, ResultTooLarge } = require('./returned.cjs');

const RESULT = 3;
const TEXT = 5;
const HEADER_BYTES = 12;
const MESSAGE_CHARACTERS = 2000;
const STACK_LINES = 6;
const FILE = 'scorer.js';

// Kept here before the scorer's code is loaded, so that no patch of it breaks a frame by accident.
const { parse, stringify } = JSON;
const { min } = Math;
const bytesOf = Buffer.from.bind(Buffer);
const reserve = Buffer.alloc.bind(Buffer);
const join = Buffer.concat.bind(Buffer);
const end = process.reallyExit.bind(process);

// Replaces stdout and stderr. It keeps `most` bytes and only counts the rest.
class Output {
  #most;
  #kept = [];
  #size = 0;
  #dropped = 0;

  constructor(most) {
    this.#most = most;
  }

  install() {
    const listeners = { on() {}, once() {}, removeListener() {}, listenerCount: () => 1 };
    const stream = { write: this.write, ...listeners };
    globalThis.console = new Console(stream, stream);
    for (const name of ['stdout', 'stderr']) {
      Object.defineProperty(process, name, { value: stream, configurable: true });
    }
  }

  write = (chunk, ...rest) => {
    const bytes = bytesOf(chunk);
    const room = min(this.#most - this.#size, bytes.length);
    if (room > 0) this.#kept.push(bytes.subarray(0, room));
    this.#size += room;
    this.#dropped += bytes.length - room;
    const done = rest.at(-1);
    if (typeof done === 'function') queueMicrotask(() => done(null));
    return true;
  };

  // Adds a line of our own, in brackets. It takes the place of output if it has to.
  note(line) {
    const printed = join(this.#kept);
    const start = printed.length > 0 && printed.at(-1) !== 0x0a ? '\n' : '';
    const told = bytesOf(`${start}[${line}]\n`).subarray(0, this.#most);
    const kept = printed.subarray(0, this.#most - told.length);
    this.#dropped += printed.length - kept.length;
    this.#kept = [kept, told];
    this.#size = kept.length + told.length;
  }

  // The output since the last call, and how many bytes of it were dropped.
  take() {
    const taken = { log: join(this.#kept), dropped: this.#dropped };
    this.#kept = [];
    this.#size = this.#dropped = 0;
    return taken;
  }
}

// A handler's `trace` argument. All of its data came with the record.
class Trace {
  #given;

  constructor(given) {
    this.#given = given ?? {};
  }

  // Its spans, oldest first: only those of the given types, and none of the scorers' own.
  async getSpans({ spanType, includeScorers = false } = {}) {
    const types = typeof spanType === 'string' ? [spanType] : spanType;
    return (this.#given.spans ?? []).filter(
      ({ span_attributes: attributes }) =>
        (types == null || types.includes(attributes?.type)) &&
        (includeScorers || attributes?.purpose !== 'scorer'),
    );
  }

  // Its messages in order. Only the default preprocessor exists.
  async getThread({ preprocessor } = {}) {
    if (preprocessor != null && preprocessor !== 'project_default') {
      throw new Error(`there is no preprocessor '${preprocessor}' here: leave it out`);
    }
    return this.#given.thread ?? [];
  }

  // Object type, object id and root span id: where the trace is stored.
  getConfiguration() {
    return this.#given.configuration ?? {};
  }
}

function readText() {
  const text = reserve(fstatSync(TEXT).size);
  let offset = 0;
  while (offset < text.length) {
    offset += readSync(TEXT, text, offset, text.length - offset, offset);
  }
  closeSync(TEXT);
  return text.toString();
}

function send(body, output) {
  const bytes = bytesOf(body);
  const { log, dropped } = output.take();
  const header = reserve(HEADER_BYTES);
  header.writeUInt32BE(min(dropped, 0xffffffff), 0);
  header.writeUInt32BE(log.length, 4);
  header.writeUInt32BE(bytes.length, 8);
  const frame = join([header, log, bytes]);
  let sent = 0;
  while (sent < frame.length) sent += writeSync(RESULT, frame, sent);
}

function refused(kind, message) {
  const told = storable(message.slice(0, MESSAGE_CHARACTERS));
  return stringify({ error: { kind, message: told } });
}

// Whether a line of a stack trace is in the author's code.
let isOwn = (line) => line.includes(FILE);

// The error as text, with the lines of the author's code that raised it. Any value can be thrown.
function described(error) {
  try {
    if (!(error instanceof Error)) return `thrown: ${String(error)}`;
    const places = String(error.stack)
      .split('\n')
      .filter((line) => /^ +at /.test(line) && isOwn(line));
    return [`${error.name}: ${error.message}`, ...places.slice(0, STACK_LINES)].join('\n');
  } catch {
    return 'an error that cannot be shown';
  }
}

async function load(program) {
  if (program.bundle) return bundled(program.folder, program.index ?? 0);
  const source = `${program.code}\n//# sourceURL=${FILE}`;
  const module = await import(`data:text/javascript;base64,${bytesOf(source).toString('base64')}`);
  const handler = module.handler ?? module.default;
  if (typeof handler !== 'function') throw new TypeError('the handler is not a function');
  return handler;
}

// Loads a pushed bundle as the client does that built it: it lists its functions in a global.
function bundled(folder, index) {
  const path = `${folder}/bundle.js`;
  isOwn = (line) => line.includes(path);
  globalThis._lazy_load = true;
  const names = ['require', 'module', '__filename', '__dirname'];
  const start = compileFunction(readFileSync(path, 'utf8'), names, { filename: path });
  start(createRequire(path), { exports: {} }, path, folder);
  const functions = globalThis._evals?.functions ?? [];
  const handler = functions[index]?.handler;
  if (typeof handler === 'function') return handler;
  throw new RangeError(`the bundle defines ${functions.length} functions, none at ${index}`);
}

// The names that a handler takes from its one object, if its source lists them; else null.
function taken(handler) {
  const start = /^(?:async\s*)?(?:function\s*[\w$]*\s*)?\(?\s*\{([^{}[\]=.]*)\}/;
  const found = start.exec(String(handler));
  if (!found) return null;
  return found[1].split(',').map((each) => each.split(':')[0].trim()).filter(Boolean);
}

// The body of the frame for one record, and a line for each change to what was returned.
async function answered(handler, record, most) {
  let value;
  try {
    if ('trace' in record) record.trace = new Trace(record.trace);
    value = await handler(record);
  } catch (error) {
    return { body: refused('exception', described(error)), changes: [] };
  }
  try {
    return encoded(value, most);
  } catch (error) {
    return { body: notAResult(error), changes: [] };
  }
}

function notAResult(error) {
  if (error instanceof ResultTooLarge) return refused('result_too_large', error.message);
  return refused('bad_result', error instanceof NotAScore ? error.message : described(error));
}

async function run() {
  const { program, records, describe } = parse(readText());
  const output = new Output(program.log_bytes);
  output.install();
  require('./llm.cjs').offer();
  // After such an error the process ends. The worker runs the remaining records again.
  const stop = (message) => {
    send(refused('exception', message), output);
    end(1);
  };
  process.on('uncaughtException', (error) => stop(described(error)));
  process.on('beforeExit', () => stop('the handler waits for something that never happens'));
  let handler;
  try {
    handler = await load(program);
  } catch (error) {
    send(refused('invalid_source', described(error)), output);
    end(0);
  }
  send('{"result":true}', output);
  if (describe) send(stringify({ result: { parameters: taken(handler) } }), output);
  for (let at = 0; at < records.length; at += 1) {
    const { body, changes } = await answered(handler, records[at], program.result_bytes);
    for (const change of changes) output.note(change);
    send(body, output);
  }
  end(0);
}

run();
