import { it } from 'vitest'
import { drawCase, keysOf, instantsOf } from '/work/main/test/support/cases.ts'
import { toBatches } from '/work/main/test/support/batches.ts'
import { seededRandom } from '/work/main/test/support/random.ts'
import { naiveAccept, naiveFeatures, countVerdicts } from '/work/main/test/oracle/naive.ts'
import { loadCore } from '/work/main/src/engine/module.ts'
import { Core } from '/work/main/src/engine/core.ts'
import { Merger } from '/work/main/src/engine/merger.ts'
import { encodeKey } from '/work/main/src/model/key.ts'
it('smoke', () => {
  let bad = 0, ok = 0
  const from = Number(process.env.FROM ?? 1), to = Number(process.env.TO ?? 60)
  for (let seed = from; seed <= to; seed++) {
    const c = drawCase(seed)
    const random = seededRandom(seed)
    try {
    const module = loadCore((process.env.TILEFOLD_CORE as any) ?? 'debug')
    const core = new Core(module, c.plan.state, { lanes: 1, shard: 0, shards: 1, completeSinceMs: 0, layoutVersion: 1 }, c.notAfterMs)
    const acc = naiveAccept(c.events, c.plan.state, { notAfterMs: c.notAfterMs })
    const store = new Map<string, Uint8Array>()
    const flush = () => {
      for (const chunk of core.beginFlush(7)) {
        const keys = core.keysOf(chunk).map((k) => Buffer.from(k).toString('hex'))
        const rows = core.writeRows(chunk, keys.map((k) => store.get(k)), core.position)
        rows.forEach((r, i) => store.set(keys[i], r))
      }
      core.endFlush()
    }
    for (const b of toBatches(c.events, c.plan.state, random)) {
      core.prepare(b); core.fold(Infinity, false)
      if (random.chance(0.3)) flush()
    }
    flush()
    const v = countVerdicts(acc), k = core.counters()
    if (v.applied !== k.applied) { console.log(seed, 'verdicts', v, k); bad++; continue }
    const m = Merger.create(module, c.plan)
    for (const key of keysOf(acc.applied, c.plan.state).slice(0, 6)) {
      let bytes
      try { bytes = encodeKey(c.plan.state.entity, key as any) } catch (e) { continue }
      const row = store.get(Buffer.from(bytes).toString('hex'))
      for (const t of instantsOf(random, c.plan, acc.applied, core.headFrontierMs, 8)) {
        m.begin(1, t); if (row) m.addRow(0, row); m.run()
        const want = naiveFeatures(acc.applied, c.plan, key as any, t)
        want.forEach((w, f) => {
          const got = m.value(0, f), st = m.status(0, f)
          const same = (Object.is(got, w.value) || (typeof got === 'number' && got === w.value)) && st === w.status
          if (st === 'too_old') return
          if (!same) { if (bad++ < 12) console.log('seed', seed, w.name, JSON.stringify(c.plan.features[f]), 't', t, 'H', core.headFrontierMs, 'got', got, st, 'want', w.value, w.status, m.entityInfo(0).error?.message) }
          else ok++
        })
      }
    }
    } catch (e) { bad++; console.log('seed', seed, (e as Error).message, (e as any).cause?.stack?.split('\n').slice(0, 6).join('\n') ?? (e as Error).stack?.split('\n').slice(0,5).join('\n')) ; if (bad > 15) break }
  }
  console.log({ ok, bad })
})
