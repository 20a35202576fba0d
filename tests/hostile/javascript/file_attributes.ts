/** Change the mode, times or owner of a file of our own user's; move it, and remove it. */
const fs = await import(["node", "fs"].join(":"));

export function handler({ metadata }: { metadata: { owned: string } }) {
  const path = metadata.owned;
  const worked: string[] = [];
  const ways: Record<string, () => void> = {
    chmod: () => fs.chmodSync(path, 0o755),
    chown: () => fs.chownSync(path, process.getuid!(), process.getgid!()),
    utimes: () => fs.utimesSync(path, 1, 1),
    lutimes: () => fs.lutimesSync(path, 1, 1),
    truncate: () => fs.truncateSync(path, 1),
    link: () => fs.linkSync(path, `${path}.new`),
    watch: () => fs.watch(path).close(),
    rename: () => fs.renameSync(path, `${path}.moved`),
    remove: () => fs.rmSync(path),
  };
  for (const [name, way] of Object.entries(ways)) {
    try {
      way();
      worked.push(name);
    } catch {}
  }
  return { score: worked.length ? 1 : 0, metadata: { worked } };
}
