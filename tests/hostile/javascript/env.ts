/** Find the worker's secrets in the environment, in reports, or in what /proc tells. */
const SECRET = /CANARY_[0-9a-f]{32}/;

export async function handler({ metadata }: { metadata: { pids: number[] } }) {
  const fs = await import(["node", "fs"].join(":"));
  const seen = [JSON.stringify(process.env), process.argv.join(" "), process.execArgv.join(" ")];
  try {
    seen.push(JSON.stringify(process.report.getReport()));
  } catch {}
  for (const pid of ["self", 1, process.ppid, ...metadata.pids]) {
    try {
      seen.push(fs.readFileSync(`/proc/${pid}/environ`, "utf8"));
    } catch {}
  }
  for (const text of seen) {
    const secret = SECRET.exec(text);
    if (secret) return { score: 1.0, metadata: { secret: secret[0] } };
  }
  return 0.0;
}
