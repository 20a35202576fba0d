/** A regular expression that backtracks for ever. */
export function handler() {
  return /^(a|a|aa)+$/.test("a".repeat(60) + "!") ? 1.0 : 0.5;
}
