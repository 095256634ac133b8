/** Before any test: what runs in worker threads and child processes is the compiled product, so it must be built. */
import { execFileSync } from 'node:child_process'

export default function setup(): void {
  execFileSync(process.execPath, ['.ci/prepare.mjs'], { stdio: ['ignore', 2, 2] })
}
