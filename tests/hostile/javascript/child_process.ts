/** Run another program, or another node. */
export async function handler() {
  const processes = await import(["node", "child_process"].join(":"));
  const programs: [string, string[]][] = [
    ["/bin/sh", ["-c", ":"]], ["/bin/true", []], ["/usr/bin/python3", ["-c", ""]],
    ["/usr/bin/env", []], ["/usr/bin/bwrap", ["--version"]],
  ];
  const ran: string[] = [];
  for (const [program, args] of programs) {
    const done = processes.spawnSync(program, args, { timeout: 300 });
    if (done.status === 0) ran.push(program);
  }
  try {
    processes.execSync(":", { timeout: 300 });
    ran.push("exec");
  } catch {}
  return { score: ran.length > 0 ? 1.0 : 0.0, metadata: { ran } };
}
