/** An endless chain of promises, so that no timer of the runner ever fires. */
export async function handler(): Promise<number> {
  for (;;) await Promise.resolve();
}
