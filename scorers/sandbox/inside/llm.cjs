// Lets a scorer call models, as `globalThis.tallyard.llm`. `llm.py` does the same for Python.
//
//     const answer = await tallyard.llm.chat({ model: 'gpt-4o-mini', messages: [...] });
//
// Requests go one at a time over the one descriptor that leads out of the jail. Reads and writes
// block, so a call that waits holds up this process, but no other.
'use strict';

const { readSync, writeSync } = require('node:fs');

const DESCRIPTOR = 4;
const REQUEST_BYTES_MAX = 2 ** 20;
const CHUNK = 65536;
const END_OF_HEAD = '\r\n\r\n';
const HOST = 'host: llm.internal';   // which HTTP/1.1 demands

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

// Makes `tallyard.llm` available to the handler's code.
function offer() {
  const value = Object.freeze({ llm });
  Object.defineProperty(globalThis, 'tallyard', { value, enumerable: false });
}

function call(path, request) {
  const body = Buffer.from(JSON.stringify(request));
  if (body.length > REQUEST_BYTES_MAX) {
    throw new LlmError(
      413, 'request_too_large', `a request may have at most ${REQUEST_BYTES_MAX} bytes`,
    );
  }
  const head = `POST ${path} HTTP/1.1\r\n${HOST}\r\ncontent-length: ${body.length}${END_OF_HEAD}`;
  let status, answer;
  try {
    write(Buffer.concat([Buffer.from(head), body]));
    [status, answer] = read();
  } catch (error) {
    if (error.code === undefined) throw error;
    throw new LlmError(
      503, 'no_models',
      'no model can be called from here: list those that the scorer needs in '
        + 'metadata.sandbox.models, and have the operator allow them',
    );
  }
  if (status !== 200) throw new LlmError(status, answer.error.code, answer.error.message);
  return answer;
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
