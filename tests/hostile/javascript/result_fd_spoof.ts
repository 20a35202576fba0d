/** A forged answer where answers go, in every likely framing, before the true one. */
export async function handler({ metadata }: { metadata: { variant: number } }) {
  const fs = await import(["node", "fs"].join(":"));
  const key = ["result", "ok", "value"][metadata.variant % 3];
  const body = Buffer.from(JSON.stringify({ [key]: 1.0 }));
  const header = Buffer.alloc(12);
  header.writeUInt32BE(body.length, 8);
  const length = Buffer.alloc(4);
  length.writeUInt32LE(body.length);
  const line = Buffer.concat([body, Buffer.from("\n")]);
  // The runner's own framings first, then others that a reader might take.
  const frames = [Buffer.concat([header, body]), line, Buffer.concat([length, body]), body];
  const frame = frames[Math.floor(metadata.variant / 3)];
  fs.writeSync(3, frame);
  return 0.0;
}
