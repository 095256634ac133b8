/**
 * The layouts a reader knows. A layout is read before its view is first asked, and again once it is older than a moment: in
 * the same trip as the rows, so that a request never waits for a second one. A row that is newer than the layout it was
 * found through asks for a re-read as well (serve.ts); where there are no lanes yet no row can, and every request does.
 */
import { TilefoldError } from '../model/errors.ts'
import type { ViewLayout } from '../model/view-layout.ts'
import type { Store } from '../store/port.ts'
import type { ServedView } from './catalog.ts'
import type { Deadline } from './deadline.ts'
import type { MergerLease } from './merge.ts'
import type { ReadPlan } from './plan.ts'
import { targetOf, type ViewTarget } from './target.ts'

/** A pointer moved by a roll-out is followed after at most this long. Costs one small read per view and second. */
export const LAYOUT_AGE_MS = 1000

/** A read that has been under way so long keeps no other request waiting: its server does not answer. */
const PATIENCE_MS = 200

interface Known {
  /** The stored text: unchanged text keeps the target, so that a change is a change of identity. */
  readonly text: string
  readonly target: ViewTarget
  readAtMs: number
}

/** Layouts that are read again beside the rows. */
export interface LayoutRefresh {
  /** Resolves when nothing is left to wait for, rejects with the refusal. */
  readonly done: Promise<unknown>
  /** Views whose layout has not been read again, so far. */
  readonly unread: ReadonlySet<ServedView>
  /** What a layout says that no request can be answered with. */
  readonly refusal: TilefoldError | undefined
}

interface Pending {
  readonly read: Promise<void>
  readonly startMs: number
}

export class LayoutCache {
  readonly #store: Store
  readonly #namespace: string
  readonly #clock: () => number
  readonly #known = new Map<string, Known>()
  /** Reads under way, by view: requests that arrive meanwhile wait for the same one. */
  readonly #pending = new Map<string, Pending>()
  #expiries = 0

  constructor(store: Store, namespace: string, clock: () => number) {
    this.#store = store
    this.#namespace = namespace
    this.#clock = clock
  }

  /** Where the rows of the views are, as far as known; undefined when one of them was never read. */
  known(views: readonly ServedView[]): ViewTarget[] | undefined {
    const targets: ViewTarget[] = []
    for (const view of views) {
      const known = this.#known.get(view.plan.view)
      if (known === undefined) return undefined
      targets.push(known.target)
    }
    return targets
  }

  /** The same, read now. Throws LAYOUT_MISSING, VIEW_NOT_READY, DEFINITION_CHANGED, STORE_FORMAT, STORE_UNAVAILABLE. */
  async read(views: readonly ServedView[]): Promise<ViewTarget[]> {
    await Promise.all(views.map((view) => this.#refresh(view)))
    return this.known(views)!
  }

  /**
   * Reads the layouts of those views that are old; undefined when there is nothing to do. A store that cannot be read fails no
   * request here: what is known still tells where rows are, and the answer says that there may be more.
   */
  refreshDue(views: readonly ServedView[]): LayoutRefresh | undefined {
    const nowMs = this.#clock()
    // A clock that was set back makes the age negative: read then, too.
    const isDue = ({ plan }: ServedView) => {
      const known = this.#known.get(plan.view)
      if (known === undefined || known.target.groups.length === 0) return true
      return Math.abs(nowMs - known.readAtMs) > LAYOUT_AGE_MS
    }
    if (!views.some(isDue)) return undefined
    const unread = new Set(views.filter(isDue))
    const refresh: { -readonly [member in keyof LayoutRefresh]: LayoutRefresh[member] } = {
      done: Promise.resolve(),
      unread,
      refusal: undefined,
    }
    const reads = [...unread].map(async (view) => {
      const isSlow = this.#isSlow(view)
      const read = this.#refresh(view).then(
        () => void unread.delete(view),
        (cause: TilefoldError) => {
          if (isOutage(cause)) return
          refresh.refusal ??= cause
          throw cause
        },
      )
      if (!isSlow) return read
      read.catch(() => {})
    })
    refresh.done = Promise.all(reads)
    return refresh
  }

  /** From now on every layout counts as old: somebody in this process has just changed one. */
  expire(): void {
    this.#expiries++
    for (const known of this.#known.values()) known.readAtMs = Number.NEGATIVE_INFINITY
  }

  /**
   * True when the plan was made from a layout that has changed since. A row that is newer than its layout makes us ask the
   * store again first: the layout is written before a lane is first used, so the store must have a newer one. Where it cannot be
   * asked any more, the answer is partial.
   */
  async outdated(plan: ReadPlan, lease: MergerLease, deadline: Deadline): Promise<boolean> {
    const behind = plan.slots.filter(({ target }, slot) => lease.newestLayout(slot) > target.layout.version)
    if (behind.length > 0) {
      try {
        await deadline.race(Promise.all(behind.map(({ view }) => this.#refresh(view))))
      } catch (cause) {
        if (!isOutage(cause)) throw cause
        return false
      }
    }
    return plan.slots.some(({ view, target }) => this.#known.get(view.plan.view)?.target !== target)
  }

  #refresh(view: ServedView): Promise<void> {
    const name = view.plan.view
    const pending = this.#pending.get(name)
    if (pending !== undefined) return pending.read
    const read = this.#read(view).finally(() => this.#pending.delete(name))
    this.#pending.set(name, { read, startMs: performance.now() })
    return read
  }

  #isSlow({ plan }: ServedView): boolean {
    const pending = this.#pending.get(plan.view)
    return pending !== undefined && performance.now() - pending.startMs > PATIENCE_MS
  }

  async #read(view: ServedView): Promise<void> {
    const name = view.plan.view
    const nowMs = this.#clock()
    const expiries = this.#expiries
    try {
      const text = await this.#store.readLayout(this.#namespace, name)
      if (text === undefined) {
        throw new TilefoldError(
          'LAYOUT_MISSING',
          `cannot answer from view ${name}: the store holds nothing of it yet`,
          {
            view: name,
          },
        )
      }
      // A read that was under way at an expiry may have come too early.
      const readAtMs = expiries === this.#expiries ? nowMs : Number.NEGATIVE_INFINITY
      const known = this.#known.get(name)
      if (known?.text === text) known.readAtMs = readAtMs
      else
        this.#known.set(name, { text, target: targetOf(this.#namespace, view.plan, parseLayout(name, text)), readAtMs })
    } catch (cause) {
      if (!(cause instanceof TilefoldError)) {
        throw new TilefoldError(
          'STORE_UNAVAILABLE',
          `cannot read the layout of view ${name}: the store failed`,
          {},
          { cause },
        )
      }
      throw cause
    }
  }
}

function isOutage(cause: unknown): boolean {
  return cause instanceof TilefoldError && (cause.code === 'STORE_UNAVAILABLE' || cause.code === 'DEADLINE')
}

function parseLayout(view: string, text: string): ViewLayout {
  try {
    return JSON.parse(text) as ViewLayout
  } catch (cause) {
    throw new TilefoldError(
      'STORE_FORMAT',
      `cannot read the layout of view ${view}: it is not JSON`,
      { view },
      { cause },
    )
  }
}
