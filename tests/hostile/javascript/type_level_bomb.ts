/** A type that a checker computes for ever: nobody should check it. */
type Join<A extends unknown[], B extends unknown[]> = [...A, ...B];
type Double<T extends unknown[], N extends unknown[] = []> = N["length"] extends 24
  ? T
  : Double<Join<T, T>, [...N, 0]>;
type Union<N extends number, T extends string[] = []> = T["length"] extends N
  ? T[number]
  : Union<N, [...T, `${T["length"]}${"a" | "b" | "c" | "d"}`]>;
type Bomb = `${Union<99>}${Union<99>}${Union<99>}${Union<99>}`;

const size: Double<[0]>["length"] | Bomb = 0 as never;

export function handler(): number {
  return size === undefined ? 1.0 : 0.0;
}
