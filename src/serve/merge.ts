/**
 * Mergers on loan. A merger holds the rows of one call at a time, and between its first row and its answer a store may take
 * its time; so a request has the mergers of its views to itself from the plan to the response, and others take theirs from
 * the pool or wait.
 */

import { Merger } from '../engine/merger.ts'
import type { CoreModule } from '../engine/module.ts'
import type { Catalog, ServedView } from './catalog.ts'
import type { Deadline } from './deadline.ts'

/**
 * Mergers of one view at most. With an embedded store one is nearly always enough; with a remote one this is how many
 * requests can be on the wire. Each has a WebAssembly memory of its own, as large as its largest call.
 */
export const MERGERS_MAX = 16

export class MergerPool {
  readonly #create: (view: ServedView) => Merger
  readonly #max: number
  readonly #views: { idle: Merger[]; count: number; waiting: (() => void)[] }[]

  constructor(core: CoreModule, catalog: Catalog, max = MERGERS_MAX) {
    this.#create = (view) => Merger.create(core, view.plan)
    this.#max = max
    this.#views = catalog.views.map(() => ({ idle: [], count: 0, waiting: [] }))
  }

  /** One merger per view. Views come in catalog order, so two requests never wait for each other in a circle. */
  async lease(views: readonly ServedView[], deadline: Deadline): Promise<MergerLease> {
    const lease = new MergerLease(this, views)
    try {
      for (const view of views) lease.mergers.push(this.#takeNow(view) ?? (await this.#wait(view, deadline)))
    } catch (cause) {
      lease.release()
      throw cause
    }
    return lease
  }

  #takeNow(view: ServedView): Merger | undefined {
    const pool = this.#views[view.index]!
    const idle = pool.idle.pop()
    if (idle !== undefined) return idle
    if (pool.count >= this.#max) return undefined
    const merger = this.#create(view)
    pool.count++
    return merger
  }

  async #wait(view: ServedView, deadline: Deadline): Promise<Merger> {
    const { waiting } = this.#views[view.index]!
    let place: 'last' | 'first' = 'last'
    for (;;) {
      let wake!: () => void
      const woken = new Promise<void>((resolve) => {
        wake = resolve
      })
      if (place === 'last') waiting.push(wake)
      else waiting.unshift(wake)
      try {
        await deadline.race(woken)
      } catch (cause) {
        // Still in the queue, or woken at the very moment the deadline passed: then it is the next one's turn.
        const at = waiting.indexOf(wake)
        if (at >= 0) waiting.splice(at, 1)
        else waiting.shift()?.()
        throw cause
      }
      const merger = this.#takeNow(view)
      if (merger !== undefined) return merger
      place = 'first'
    }
  }

  give(view: ServedView, merger: Merger): void {
    const pool = this.#views[view.index]!
    pool.idle.push(merger)
    pool.waiting.shift()?.()
  }

  /** A merger that failed is not used again; its place in the pool is free for a new one. */
  drop(view: ServedView): void {
    const pool = this.#views[view.index]!
    pool.count--
    pool.waiting.shift()?.()
  }
}

export class MergerLease {
  readonly mergers: Merger[] = []
  readonly #pool: MergerPool
  readonly #views: readonly ServedView[]
  #entities = 0
  #broken = false
  #released = false

  constructor(pool: MergerPool, views: readonly ServedView[]) {
    this.#pool = pool
    this.#views = views
  }

  /** Starts a call for `entities` entities, as of one instant or one each, in every merger. */
  begin(entities: number, asOfMs: number | Float64Array): void {
    this.#guard(() => {
      for (const merger of this.mergers) merger.begin(entities, asOfMs)
    })
    this.#entities = entities
  }

  /** Takes the bytes of one row; they are copied. A row that comes after the release (a late answer of a store) is ignored. */
  addRow(slot: number, entity: number, bytes: Uint8Array): void {
    if (this.#released || this.#broken) return
    try {
      this.mergers[slot]!.addRow(entity, bytes)
    } catch (cause) {
      this.#broken = true
      throw cause
    }
  }

  run(): void {
    this.#guard(() => {
      for (const merger of this.mergers) merger.run()
    })
  }

  /** The highest layout version that a row of the slot was written under; 0 without rows. */
  newestLayout(slot: number): number {
    const merger = this.mergers[slot]!
    let newest = 0
    for (let entity = 0; entity < this.#entities; entity++) {
      newest = Math.max(newest, merger.layoutVersion(entity))
    }
    return newest
  }

  #guard(step: () => void): void {
    try {
      step()
    } catch (cause) {
      this.#broken = true
      throw cause
    }
  }

  release(): void {
    if (this.#released) return
    this.#released = true
    for (let slot = 0; slot < this.mergers.length; slot++) {
      if (this.#broken) this.#pool.drop(this.#views[slot]!)
      else this.#pool.give(this.#views[slot]!, this.mergers[slot]!)
    }
  }
}
