/** Grow the heap of objects; four times what we may have is success enough. */
export function handler({ metadata }: { metadata: { memory_mb: number } }) {
  const held: string[][] = [];
  const blocks = metadata.memory_mb * 4;
  for (let block = 0; block < blocks; block++) {
    held.push(Array.from({ length: 1 << 15 }, (_, at) => `${block}-${at}`));
  }
  return held.length === blocks ? 1.0 : 0.0;
}
