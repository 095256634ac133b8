/**
 * What may be asked, in its two spellings: a `FeatureQuery` from the embedding program and the JSON body of
 * `POST /v1/features`. Both become a `FeatureRequest`, in which every name is resolved and every instant is a number.
 */
import { TilefoldError } from '../model/errors.ts'
import { didYouMean } from '../model/nearest.ts'
import { parseInstant, TIME_LIMIT_MS } from '../model/time.ts'
import { type Catalog, featureNamed, type ServedFeature, type ServedView, viewNamed } from './catalog.ts'

/** RFC 3339 with a zone, whole milliseconds since the epoch, or a `Date`. */
export type Instant = number | string | Date

export interface FeatureQuery {
  /** A whole view; with `features`, the view that their names belong to. */
  readonly view?: string
  /** `view:feature`, or `view` for all of its features; with `view` set, also bare feature names. */
  readonly features?: readonly string[]
  /** One answer row each. A row carries the join keys of every view asked; what no view needs is ignored. */
  readonly entities: readonly Readonly<Record<string, unknown>>[]
  /** Windows end here, exclusively; the reader's clock unless given. */
  readonly asOf?: Instant
  /** One instant per entity, instead of `asOf`. */
  readonly asOfs?: readonly Instant[]
  /** Adds to each row what its values were computed from. */
  readonly explain?: boolean
}

/** One column of the answer: a feature, and which of the request's views it belongs to. */
export interface AskedFeature {
  readonly slot: number
  readonly feature: ServedFeature
}

export interface FeatureRequest {
  /** The distinct views asked, ascending by catalog index; a `slot` is an index into them. */
  readonly views: readonly ServedView[]
  readonly columns: readonly AskedFeature[]
  readonly entities: readonly Readonly<Record<string, unknown>>[]
  /** One for all, or one per entity. */
  readonly asOfMs: number | Float64Array
  readonly explain: boolean
}

export interface RequestLimits {
  readonly entitiesMax: number
  /** Columns of an answer: a whole view counts with each of its features. */
  readonly featuresMax: number
}

/** 1,000 entities of some 2 KB rows are 2 MB through the merger: a few milliseconds of one core. */
export const REQUEST_LIMITS: RequestLimits = { entitiesMax: 1000, featuresMax: 500 }

const BODY_MEMBERS = new Map<string, keyof FeatureQuery>([
  ['view', 'view'],
  ['features', 'features'],
  ['entities', 'entities'],
  ['as_of', 'asOf'],
  ['as_ofs', 'asOfs'],
  ['explain', 'explain'],
])

/** The query a JSON body spells. Its members' types are left to `parseRequest`. Throws REQUEST_INVALID. */
export function queryFromBody(body: unknown): FeatureQuery {
  if (!isRecord(body)) throw invalid(`the body is ${show(body)}, expected a JSON object`)
  const query: { -readonly [member in keyof FeatureQuery]?: unknown } = {}
  for (const name of Object.keys(body)) {
    const member = BODY_MEMBERS.get(name)
    if (member === undefined) {
      throw invalid(`unknown member ${show(name)}; ${didYouMean(name, BODY_MEMBERS.keys()).text}`)
    }
    query[member] = body[name]
  }
  return query as unknown as FeatureQuery
}

/** Throws REQUEST_INVALID, REQUEST_TOO_LARGE, VIEW_UNKNOWN, FEATURE_UNKNOWN. `nowMs` is the as-of of a query without one. */
export function parseRequest(
  query: FeatureQuery,
  catalog: Catalog,
  limits: RequestLimits,
  nowMs: number,
): FeatureRequest {
  if (!isRecord(query)) throw invalid(`the query is ${show(query)}, expected an object`)
  const entities = parseEntities(query.entities, limits)
  const asked = parseFeatures(query, catalog, limits)
  const views = [...new Set(asked.map((feature) => feature.view))].sort((a, b) => a.index - b.index)
  const columns = asked.map((feature) => ({ slot: views.indexOf(feature.view), feature }))
  const explain = query.explain ?? false
  if (typeof explain !== 'boolean') throw invalid(`explain is ${show(explain)}, expected true or false`)
  return { views, columns, entities, asOfMs: parseAsOf(query, entities.length, nowMs), explain }
}

function parseEntities(entities: unknown, limits: RequestLimits): FeatureRequest['entities'] {
  if (!Array.isArray(entities)) throw invalid(`entities is ${show(entities)}, expected a list of objects`)
  if (entities.length === 0) throw invalid('entities is an empty list, expected at least one object')
  if (entities.length > limits.entitiesMax) throw tooLarge('entities', entities.length, limits.entitiesMax)
  for (let i = 0; i < entities.length; i++) {
    const row: unknown = entities[i]
    if (!isRecord(row)) throw invalid(`entities[${i}] is ${show(row)}, expected an object with the join keys`)
    if (Object.hasOwn(row, '__proto__')) throw invalid(`entities[${i}] has a member "__proto__", which is no join key`)
  }
  return entities
}

function parseFeatures(query: FeatureQuery, catalog: Catalog, limits: RequestLimits): ServedFeature[] {
  const { view, features } = query
  if (view !== undefined && typeof view !== 'string') throw invalid(`view is ${show(view)}, expected a name`)
  const home = view === undefined ? undefined : viewNamed(catalog, view)
  if (features === undefined) {
    if (home === undefined) throw invalid('it names no features; expected "view" or "features"')
    return bounded([...home.features], limits)
  }
  if (!Array.isArray(features)) throw invalid(`features is ${show(features)}, expected a list of names`)
  if (features.length === 0) throw invalid('features is an empty list, expected at least one name')
  if (features.length > limits.featuresMax) throw tooLarge('features', features.length, limits.featuresMax)
  const asked: ServedFeature[] = []
  for (const [i, name] of features.entries()) {
    if (typeof name !== 'string') throw invalid(`features[${i}] is ${show(name)}, expected "view:feature" or "view"`)
    const colon = name.indexOf(':')
    if (colon >= 0) asked.push(featureNamed(viewNamed(catalog, name.slice(0, colon)), name.slice(colon + 1)))
    else if (home !== undefined) asked.push(featureNamed(home, name))
    else asked.push(...viewNamed(catalog, name).features)
    bounded(asked, limits)
  }
  return asked
}

function bounded(asked: ServedFeature[], limits: RequestLimits): ServedFeature[] {
  if (asked.length > limits.featuresMax) throw tooLarge('features', asked.length, limits.featuresMax)
  return asked
}

function parseAsOf(query: FeatureQuery, count: number, nowMs: number): number | Float64Array {
  const { asOf, asOfs } = query
  if (asOfs === undefined || asOfs === null)
    return asOf === undefined || asOf === null ? nowMs : instantOf('as_of', asOf)
  if (asOf !== undefined && asOf !== null) throw invalid('it has both as_of and as_ofs, expected one of them')
  if (!Array.isArray(asOfs)) throw invalid(`as_ofs is ${show(asOfs)}, expected a list of instants`)
  if (asOfs.length !== count)
    throw invalid(`as_ofs has ${asOfs.length} instants for ${count} entities, expected one each`)
  return Float64Array.from(asOfs, (each, i) => instantOf(`as_ofs[${i}]`, each))
}

function instantOf(where: string, value: unknown): number {
  const plain = value instanceof Date ? value.getTime() : value
  if (typeof plain === 'number' || (typeof plain === 'string' && plain.length <= 40)) {
    let instant: number | undefined
    try {
      instant = parseInstant(plain)
    } catch {
      // The error below says the same and names the member.
    }
    if (instant !== undefined && instant >= 0 && instant < TIME_LIMIT_MS) return instant
  }
  throw invalid(
    `${where} is ${show(plain)}, expected RFC 3339 with a zone (2001-06-24T12:00:00Z) or milliseconds since the epoch`,
  )
}

/** The instant that entity `entity` is asked as of. */
export function asOfMsOf(request: FeatureRequest, entity: number): number {
  return typeof request.asOfMs === 'number' ? request.asOfMs : request.asOfMs[entity]!
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

/** A few characters of any value, however hostile: nothing deep is walked. */
export function show(value: unknown): string {
  if (value === undefined) return 'missing'
  if (typeof value === 'string') return JSON.stringify(value.length > 60 ? `${value.slice(0, 60)}…` : value)
  if (Array.isArray(value)) return 'a list'
  if (typeof value === 'object' && value !== null) return 'an object'
  return typeof value === 'function' ? 'a function' : String(value)
}

export function invalid(cause: string, details?: Record<string, unknown>): TilefoldError {
  return new TilefoldError('REQUEST_INVALID', `cannot read the request: ${cause}`, details)
}

function tooLarge(what: string, got: number, max: number): TilefoldError {
  return new TilefoldError('REQUEST_TOO_LARGE', `cannot answer: got ${got} ${what}, expected at most ${max}`, {
    got,
    max,
  })
}
