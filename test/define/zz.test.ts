import { it } from 'vitest'
it('x', async () => { await import('/tmp/pg/e2e.ts') })
