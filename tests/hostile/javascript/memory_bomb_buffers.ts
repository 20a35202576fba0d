/** Grow buffers, which V8's own limit does not count; at most four times what we may have. */
export async function handler({ metadata }: { metadata: { memory_mb: number } }) {
  const held: Uint8Array[] = [];
  try {
    for (let block = 0; block < metadata.memory_mb * 4; block++) {
      held.push(new Uint8Array(1 << 20).fill(1));
      // A turn of the loop, so that whoever watches has the time to see it.
      if (block % 16 === 0) await new Promise((resolve) => setTimeout(resolve, 1));
    }
  } catch {
    return 0.0;
  }
  return 1.0;
}
