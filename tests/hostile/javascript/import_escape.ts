/** Everything at load: host paths, addresses, and a wait at top level that never ends. */
const tried: string[] = [];
for (const name of [
  "/etc/passwd", "file:///etc/hostname", "http://127.0.0.1:6379/x.mjs", "../../../../etc/hosts",
  "data:application/json,{}",
]) {
  try {
    await import(name);
    tried.push(name);
  } catch {}
}
await new Promise(() => setInterval(() => {}, 1000));

export function handler(): number {
  return 1.0;
}
