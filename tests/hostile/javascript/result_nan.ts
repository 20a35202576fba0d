/** What looks like a score in JavaScript and is none. */
const cyclic: Record<string, unknown> = { score: 0.5 };
cyclic.metadata = cyclic;
const GIVEN: unknown[] = [
  NaN, Infinity, -Infinity, 10n, { score: NaN }, { score: 7 }, { score: "1" }, cyclic,
  { score: 0.5, metadata: { x: Infinity, n: 10n } }, Symbol("score"), () => 1, new Map([["score", 1]]),
  { score: 0.5, metadata: { text: "\ud800" } }, { score: 0.5, name: "a\u0000b" }, new Number(7), "1",
  { score: { valueOf: () => 1 } }, { score: 1, toJSON: () => ({ score: 7 }) },
];

export function handler({ metadata }: { metadata: { variant: number } }) {
  return GIVEN[metadata.variant];
}
