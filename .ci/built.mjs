// After tsc: the mark that says when dist/ was built, and the files of the package that no compiler makes.
import { chmodSync, existsSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'

const dist = join(dirname(dirname(fileURLToPath(import.meta.url))), 'dist')
const cli = join(dist, 'src/cli/main.js')
if (existsSync(cli)) chmodSync(cli, 0o755)
const schema = join(dist, 'src/define/schema.js')
if (existsSync(schema)) {
  const { schemaText } = await import(schema)
  writeFileSync(join(dist, 'schema.json'), schemaText())
}
writeFileSync(join(dist, '.built'), '')
