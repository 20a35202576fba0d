/** Hundreds of threads, each with a heap of its own. */
export async function handler() {
  const { Worker } = await import(["node", "worker_threads"].join(":"));
  let online = 0;
  for (let number = 0; number < 200; number++) {
    try {
      const worker = new Worker("setInterval(() => {}, 1000)", { eval: true });
      worker.on("online", () => (online += 1));
      worker.on("error", () => {});
      worker.unref();
    } catch {
      break;
    }
  }
  await new Promise((resolve) => setTimeout(resolve, 400));
  return { score: online > 100 ? 1.0 : 0.0, metadata: { online } };
}
