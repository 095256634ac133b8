import { readFileSync } from 'node:fs'

/** Version of the installed package. */
export function packageVersion(): string {
  // The sources stand two folders below the package, the compiled files three.
  const up = import.meta.url.endsWith('.ts') ? '../../package.json' : '../../../package.json'
  return (JSON.parse(readFileSync(new URL(up, import.meta.url), 'utf8')) as { version: string }).version
}
