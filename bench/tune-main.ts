/** The command behind `npm run bench:tune`; see tune.ts. */
import { tune } from './tune.ts'

await tune(process.argv.slice(2))
