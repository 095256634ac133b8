/** Servers that tests start must not outlive them, by whatever way they end. */
import { spawn } from 'node:child_process'

/** Kills the process when this one is gone; call what it returns once it has ended. */
export function guard(pid: number): () => void {
  // It reads from a pipe that closes when we are gone.
  const waiting = spawn('sh', ['-c', `read line; kill -9 ${pid}`], { stdio: ['pipe', 'ignore', 'ignore'] })
  waiting.stdin.on('error', () => {})
  return () => void waiting.kill('SIGKILL')
}
