/** Never answer. */
export function handler(): number {
  for (;;) {}
}
