/** A process that outlives the answer. */
export async function handler({ metadata }: { metadata: { drop: string } }) {
  const processes = await import(["node", "child_process"].join(":"));
  const fs = await import(["node", "fs"].join(":"));
  const path = `${metadata.drop}/survived`;
  const code = `setInterval(() => { try { require("fs").writeFileSync(${JSON.stringify(path)}, "" + process.pid) }
    catch {} }, 50); setTimeout(() => process.exit(), 5000)`;
  try {
    const child = processes.spawn(process.execPath, ["-e", code], {
      detached: true, stdio: "ignore",
    });
    child.on("error", () => {});
    child.unref();
  } catch {}
  await new Promise((resolve) => setTimeout(resolve, 100));
  return 0.0;
}
