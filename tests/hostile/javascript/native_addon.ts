/** Native code, node's own insides, an inspector for others, WebAssembly beyond its bounds. */
export async function handler({ metadata }: { metadata: { file: string; variant: number } }) {
  const worked: string[] = [];
  const host = process as unknown as Record<string, (...given: unknown[]) => any>;
  for (const path of ["/lib/x86_64-linux-gnu/libc.so.6", "./addon.node", metadata.file]) {
    try {
      host.dlopen({ exports: {} }, path);
      worked.push(`dlopen ${path}`);
    } catch {}
  }
  if (metadata.variant === 1) {
    // Node's own files, past its own checks; it may well abort for that.
    const fs = host.binding("fs");
    const descriptor = fs.open(metadata.file, 0, 0o600, undefined, {});
    return typeof descriptor === "number" && descriptor >= 0 ? 1.0 : 0.0;
  }
  try {
    const spawn = host.binding("process_wrap").Process;
    const child = new spawn();
    const failed = child.spawn({ file: "/bin/true", args: ["true"], stdio: [] });
    if (failed === 0) worked.push("process_wrap");
  } catch {}
  try {
    const inspector = await import(["node", "inspector"].join(":"));
    inspector.open(0, "127.0.0.1");
    if (inspector.url()) worked.push("inspector");
    inspector.close();
  } catch {}
  try {
    const memory = new WebAssembly.Memory({ initial: 1, maximum: 65536 });
    memory.grow(40000);
    new Uint8Array(memory.buffer).fill(1);
    worked.push("wasm memory");
  } catch {}
  return { score: worked.length > 0 ? 1.0 : 0.0, metadata: { worked } };
}
