/**
 * The erase list of a namespace: which entities were asked to be forgotten, of which views, when. It is only ever added to,
 * and everything that folds events honours it (ingest/erase.ts says how), so a rebuild or a new version of a view forgets
 * whom the old one had forgotten.
 *
 *   ~erase           { last }        the number of the newest request: what owners look at every few seconds
 *   ~erase.0, .1 …   { entries }     requests 1 to 256, 257 to 512, …
 *
 * They stand where layouts stand and change as layouts do, by compare and swap; no view is named like this, and whoever goes
 * through all layouts finds one without generations. An entry is some
 * 200 bytes and stays for ever. It holds the entity's key: without it nobody could tell whom to leave out.
 */
import { TilefoldError } from '../model/errors.ts'
import type { LayoutSeat } from './layouts.ts'

export interface EraseRequest {
  /** Views of one entity that shall forget it. */
  readonly views: readonly string[]
  /** Their states: views that share one share its rows. */
  readonly states: readonly string[]
  /** The entity's key, in hex. */
  readonly key: string
  /** When it was asked: events from before count nowhere any more. */
  readonly atMs: number
}

export interface EraseEntry extends EraseRequest {
  /** From 1, without gaps, in the order of the requests. */
  readonly number: number
}

const HEAD = '~erase'
const PAGE_ENTRIES = 256
const NO_LAYOUT = { format: 1, generations: [] }

/** Adds a request; from when it resolves, owners find it. */
export async function requestErase(seat: LayoutSeat, request: EraseRequest): Promise<EraseEntry> {
  const head = await readHead(seat)
  // A page beyond the head is of somebody who died in between: what stands in it is a request all the same.
  for (let page = Math.floor(head / PAGE_ENTRIES); ; page++) {
    const text = await seat.store.readLayout(seat.namespace, pageName(page))
    const entries = readPage(text)
    if (entries.length >= PAGE_ENTRIES) continue
    const next = JSON.stringify({ ...NO_LAYOUT, entries: [...entries, request] })
    if (!(await seat.store.writeLayout(seat.namespace, pageName(page), text, next))) {
      page--
      continue
    }
    const number = page * PAGE_ENTRIES + entries.length + 1
    await raiseHead(seat, number)
    return { number, ...request }
  }
}

/** Number of the newest request; 0 where there is none. */
export async function lastErase(seat: LayoutSeat): Promise<number> {
  return readHead(seat)
}

/** The requests behind number `after` up to `last`, in order. */
export async function readErases(seat: LayoutSeat, after: number, last: number): Promise<EraseEntry[]> {
  const found: EraseEntry[] = []
  for (let page = Math.floor(after / PAGE_ENTRIES); page * PAGE_ENTRIES < last; page++) {
    const entries = readPage(await seat.store.readLayout(seat.namespace, pageName(page)))
    for (const [i, entry] of entries.entries()) found.push({ ...entry, number: page * PAGE_ENTRIES + i + 1 })
  }
  return found.filter(({ number }) => number > after && number <= last)
}

/**
 * For whoever computes features of a view without an ingest: by the hex of the entity's key, the instant before which its
 * events don't count.
 */
export async function forgottenBefore(
  seat: LayoutSeat,
  { view, stateHash }: { readonly view: string; readonly stateHash: string },
): Promise<ReadonlyMap<string, number>> {
  const lines = new Map<string, number>()
  for (const entry of await readErases(seat, 0, await lastErase(seat))) {
    if (concerns(entry, view, stateHash)) lines.set(entry.key, Math.max(entry.atMs, lines.get(entry.key) ?? 0))
  }
  return lines
}

/** Does a request concern the rows of a view's state? */
export function concerns({ views, states }: EraseRequest, view: string, stateHash: string): boolean {
  return views.includes(view) || states.includes(stateHash)
}

async function readHead({ store, namespace }: LayoutSeat): Promise<number> {
  return headOf(await store.readLayout(namespace, HEAD))
}

async function raiseHead({ store, namespace }: LayoutSeat, last: number): Promise<void> {
  for (;;) {
    const text = await store.readLayout(namespace, HEAD)
    if (headOf(text) >= last) return
    if (await store.writeLayout(namespace, HEAD, text, JSON.stringify({ ...NO_LAYOUT, last }))) return
  }
}

function headOf(text: string | undefined): number {
  return text === undefined ? 0 : checked<{ last: number }>(text).last
}

function readPage(text: string | undefined): readonly EraseRequest[] {
  return text === undefined ? [] : checked<{ entries: readonly EraseRequest[] }>(text).entries
}

function checked<T>(text: string): T {
  const value = JSON.parse(text) as T & { format: number }
  if (value.format === 1) return value
  throw new TilefoldError('STORE_FORMAT', `cannot use the erase list: unknown format; got ${value.format}, expected 1`)
}

function pageName(page: number): string {
  return `${HEAD}.${page}`
}
