/** End, or refuse to, in each of node's ways. */
export async function handler({ metadata }: { metadata: { variant: number; pids: number[] } }) {
  if (process.getuid() === 0) return 1.0;
  process.on("uncaughtException", () => {});
  process.on("unhandledRejection", () => {});
  process.on("SIGTERM", () => {});
  process.on("beforeExit", () => setTimeout(() => {}, 60_000));
  process.on("exit", () => {
    for (;;) {}
  });
  let sent = 0;
  for (const pid of [process.ppid, ...metadata.pids]) {
    if (pid <= 1) continue;
    try {
      process.kill(pid, "SIGKILL");
      sent += 1;
    } catch {}
  }
  switch (metadata.variant) {
    case 0:
      return sent > 0 ? 1.0 : 0.0;
    case 1:
      process.removeAllListeners("exit");
      process.exit(0);
    case 2:
      process.abort();
    case 3:
      setImmediate(() => {
        throw new Error("later");
      });
      return 0.0;
    case 4:
      process.reallyExit(0);
    default:
      process.exit(0);
  }
}
