// Lets a scorer call models, as `globalThis.tallyard.llm`. `llm.py` does the same for Python.
//
//     const answer = await tallyard.llm.chat({ model: 'gpt-4o-mini', messages: [...] });
//
// The package openai works as well, in the versions that use `fetch` (5 and newer): the
// environment names HOST (`network.py`), and `fetch` leads that here. Requests go one at a time
// over the one descriptor that leads out of the jail. Reads and writes block, so a call that waits
// holds up this process, but no other.
'use strict';

const { fstatSync, readSync, writeSync } = require('node:fs');

const DESCRIPTOR = 4;
const REQUEST_BYTES_MAX = 2 ** 20;
const CHUNK = 65536;
const END_OF_HEAD = '\r\n\r\n';
const HOST = 'llm.internal';         // never looked up
const SETTINGS =
  'metadata.sandbox.models of the scorer, and TALLYARD_SANDBOX_MODELS of the workers';
const NO_NETWORK =
  'a scorer has no network: put what it needs into the span or into the bundle; for models, '
  + `see ${SETTINGS}`;

class LlmError extends Error {
  constructor(status, code, message) {
    super(message);
    this.name = 'LlmError';
    this.status = status;
    this.code = code;
  }
}

const llm = Object.freeze({
  LlmError,
  chat: async (request) => call('/v1/chat/completions', request),
  responses: async (request) => call('/v1/responses', request),
  embeddings: async (request) => call('/v1/embeddings', request),
});

// Makes `tallyard.llm` available to the handler's code, and leads `fetch` to it.
function offer() {
  const value = Object.freeze({ llm });
  Object.defineProperty(globalThis, 'tallyard', { value, enumerable: false });
  const plain = globalThis.fetch;
  globalThis.fetch = async function fetch(input, init) {
    const url = new URL(typeof input === 'string' ? input : input.url ?? input);
    if (url.hostname === HOST) return answered(url, new Request(input, init));
    try {
      return await plain(input, init);
    } catch (cause) {
      throw new TypeError(`fetch failed: ${NO_NETWORK}`, { cause });
    }
  };
}

// The answer to a request of `fetch`. Its errors have the form in which an endpoint answers them.
async function answered(url, request) {
  const body = Buffer.from(await request.arrayBuffer());
  const headers = { 'content-type': 'application/json', 'x-should-retry': 'false' };
  try {
    const [status, answer] = exchange(request.method, url.pathname, body);
    return new Response(JSON.stringify(answer), { status, headers });
  } catch (error) {
    if (!(error instanceof LlmError)) throw error;
    const { status, code, message } = error;
    const told = { error: { message, type: code, code } };
    return new Response(JSON.stringify(told), { status, headers });
  }
}

function call(path, request) {
  const [status, answer] = exchange('POST', path, Buffer.from(JSON.stringify(request)));
  if (status !== 200) throw new LlmError(status, answer.error.code, answer.error.message);
  return answer;
}

// Status and parsed body of the answer. Throws LlmError if there is no connection.
function exchange(method, path, body) {
  if (body.length > REQUEST_BYTES_MAX) {
    throw new LlmError(
      413, 'request_too_large', `a request may have at most ${REQUEST_BYTES_MAX} bytes`,
    );
  }
  if (!isConnected()) {
    throw new LlmError(
      403, 'no_models',
      'this scorer may call no model: its author must list the model in metadata.sandbox.models',
    );
  }
  const head = `${method} ${path} HTTP/1.1\r\nhost: ${HOST}\r\n`
    + `content-length: ${body.length}${END_OF_HEAD}`;
  try {
    write(Buffer.concat([Buffer.from(head), body]));
    return read();
  } catch (error) {
    if (error.code === undefined) throw error;
    throw new LlmError(503, 'connection_lost', 'the connection to the models has been closed');
  }
}

// Whether the run was given a connection. Node may use the number for itself if not.
function isConnected() {
  try {
    return fstatSync(DESCRIPTOR).isSocket();
  } catch {
    return false;
  }
}

function write(data) {
  for (let done = 0; done < data.length; ) done += writeSync(DESCRIPTOR, data, done);
}

function read() {
  let received = Buffer.alloc(0);
  let end;
  while ((end = received.indexOf(END_OF_HEAD)) < 0) received = Buffer.concat([received, some()]);
  const head = received.subarray(0, end).toString('latin1');
  const length = Number(/content-length: (\d+)/.exec(head)[1]);
  const parts = [received.subarray(end + END_OF_HEAD.length)];
  for (let size = parts[0].length; size < length; size += parts.at(-1).length) parts.push(some());
  return [Number(head.split(' ')[1]), JSON.parse(Buffer.concat(parts).toString())];
}

function some() {
  const chunk = Buffer.alloc(CHUNK);
  const size = readSync(DESCRIPTOR, chunk);
  if (size === 0) throw Object.assign(new Error('the connection to the models has been closed'), { code: 'EOF' });
  return chunk.subarray(0, size);
}

module.exports = { offer };
