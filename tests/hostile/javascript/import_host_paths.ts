/** Static imports of the host's own: refused at upload, or not found. */
import "/etc/passwd";
import "file:///opt/runner/secrets.mjs";

export function handler(): number {
  return 1.0;
}
