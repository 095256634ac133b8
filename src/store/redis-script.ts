/**
 * The atomic steps of a lane in Redis, as Lua. Each judges what `rules.ts` judges, in the same words (a test drives both), and
 * declares every key it touches: that is what a Cluster needs to redirect a script while a slot moves.
 *
 * A script that fails has written nothing: its first write is one that Redis refuses when it is out of memory or a
 * replica, and behind the first write nothing can fail.
 *
 * The lane record is a hash. Its numbers are decimal texts; Lua's numbers are doubles, exact up to 2^53 as ours are.
 */
import { createHash } from 'node:crypto'
import { TilefoldError } from '../model/errors.ts'
import type { LaneRecord } from './port.ts'

export interface Script {
  readonly lua: string
  /** What EVALSHA calls it. */
  readonly sha: string
}

/** In the order in which scripts return them and `recordOf` takes them. */
const FIELDS = `'v', 'counter', 'nonce', 'sequence', 'marker', 'hash', 'flushing', 'layout', 'erased'`
export const RECORD_FIELDS = 9
const VERSION = '1'
/** What a script calls a record of another version. */
export const UNKNOWN_VERSION = 'TILEFOLDVERSION'

const READ_RECORD = `
local function whole(n) return string.format('%.0f', n) end
local record = redis.call('HMGET', KEYS[1], ${FIELDS})
if record[1] and record[1] ~= '${VERSION}' then return redis.error_reply('${UNKNOWN_VERSION} ' .. record[1]) end
local counter, sequence = tonumber(record[2]), tonumber(record[4])
`

/** KEYS: record. ARGV: nonce. Returns the record. */
export const TAKE_LANE = script(`${READ_RECORD}
if counter then
  redis.call('HSET', KEYS[1], 'counter', whole(counter + 1), 'nonce', ARGV[1])
else
  redis.call('HSET', KEYS[1], 'v', '${VERSION}', 'counter', '1', 'nonce', ARGV[1], 'sequence', '0',
    'marker', '-1', 'hash', '', 'flushing', '-1', 'layout', '0')
end
return redis.call('HMGET', KEYS[1], ${FIELDS})`)

/** KEYS: record, rows. Returns the record's fields, then the rows; who asked judges the record. */
export const READ_OWN_ROWS = script(`
local reply = redis.call('HMGET', KEYS[1], ${FIELDS})
if #KEYS > 1 then
  for i, row in ipairs(redis.call('MGET', unpack(KEYS, 2))) do reply[${RECORD_FIELDS} + i] = row end
end
return reply`)

/**
 * KEYS: record, catalogue, ledger, then rows, new segments, segments that must be there, segments to drop.
 * ARGV: see \`writeArguments\` in redis-lane.ts; from 18 on the bytes of rows and new segments, then the ledger segments to drop.
 *
 * Returns what to answer. Beside the port's outcomes: \`stale\` and the catalogue, where another one than expected stands;
 * \`missing\` and the number of a segment that is not there.
 */
export const WRITE = script(`${READ_RECORD}
local given = tonumber(ARGV[3])
if not counter or counter < tonumber(ARGV[1]) then return {'regressed'} end
if counter > tonumber(ARGV[1]) or record[3] ~= ARGV[2] then return {'fenced'} end
if sequence ~= given then
  if sequence == given + 1 then return {'ok'} end
  return {'regressed'}
end

local rows, segments, needed = tonumber(ARGV[10]), tonumber(ARGV[11]), tonumber(ARGV[12])
local changesCatalogue = ARGV[14] ~= ''
if changesCatalogue then
  local catalogue = redis.call('GET', KEYS[2]) or ''
  if catalogue ~= ARGV[13] then return {'stale', catalogue} end
  for i = 1, needed do
    if redis.call('EXISTS', KEYS[3 + rows + segments + i]) == 0 then return {'missing', i} end
  end
end

local flushing = tonumber(record[7])
-- No stored row is beyond flushing_to, so only rows that are given as older need a look at the stored ones.
local isReplay = tonumber(ARGV[8]) < flushing
for i = 1, rows do
  local key, bytes = KEYS[3 + i], ARGV[17 + i]
  if isReplay then
    local stored = redis.call('GETRANGE', key, 8, 15)
    if #stored == 8 and struct.unpack('<i8', stored) > struct.unpack('<i8', bytes, 9) then
      bytes = bytes:sub(1, 8) .. stored .. bytes:sub(17)
    end
  end
  if ARGV[9] == '' then redis.call('SET', key, bytes) else redis.call('SET', key, bytes, 'PX', ARGV[9]) end
end
if changesCatalogue then
  for i = 1, segments do redis.call('SET', KEYS[3 + rows + i], ARGV[17 + rows + i]) end
  redis.call('SET', KEYS[2], ARGV[14])
  for i = 4 + rows + segments + needed, #KEYS do redis.call('UNLINK', KEYS[i]) end
end
if ARGV[16] ~= '' then
  redis.call('HSET', KEYS[3], ARGV[16], ARGV[17])
  local first = 18 + rows + segments
  if first <= #ARGV then redis.call('HDEL', KEYS[3], unpack(ARGV, first)) end
end

local marker, hash = record[5], record[6]
if ARGV[5] ~= '' and tonumber(ARGV[5]) >= tonumber(marker) then marker, hash = ARGV[5], ARGV[6] end
redis.call('HSET', KEYS[1], 'sequence', whole(sequence + 1), 'marker', marker, 'hash', hash,
  'flushing', whole(math.max(flushing, tonumber(ARGV[4]))), 'layout', whole(math.max(tonumber(record[8]), tonumber(ARGV[7]))))
if tonumber(ARGV[15]) > tonumber(record[9] or '0') then redis.call('HSET', KEYS[1], 'erased', ARGV[15]) end
return {'ok'}`)

/** KEYS: record, then what goes. ARGV: counter, nonce. Returns how many went, or -1 where the lane is somebody else's. */
export const DROP = script(`${READ_RECORD}
if counter ~= tonumber(ARGV[1]) or record[3] ~= ARGV[2] then return -1 end
return redis.call('UNLINK', unpack(KEYS, 2))`)

/** KEYS: layout. ARGV: expected ('' = none), new, whether an attempt before this one may have landed. Returns 1 or 0. */
export const WRITE_LAYOUT = script(`
local stored = redis.call('GET', KEYS[1]) or ''
if stored == ARGV[1] then
  redis.call('SET', KEYS[1], ARGV[2])
  return 1
end
if ARGV[3] == '1' and stored == ARGV[2] then return 1 end
return 0`)

/** KEYS: one that nobody uses. Runs every command that the other scripts run: may this user do them? */
export const PROBE = script(`
redis.call('SET', KEYS[1], '1', 'PX', '1000')
redis.call('EXISTS', KEYS[1])
redis.call('GET', KEYS[1])
redis.call('GETRANGE', KEYS[1], 0, 0)
redis.call('MGET', KEYS[1])
redis.call('UNLINK', KEYS[1])
redis.call('HSET', KEYS[1], 'a', '1')
redis.call('HMGET', KEYS[1], 'a')
redis.call('HDEL', KEYS[1], 'b')
redis.call('UNLINK', KEYS[1])
return 1`)

/** A record as the scripts return it; undefined where there is none. Throws STORE_FORMAT. */
export function recordOf(fields: readonly (Buffer | null)[], what: string): LaneRecord | undefined {
  const [version, counter, nonce, sequence, marker, hash, flushing, layout, erased] = fields.map((field) =>
    field?.toString(),
  )
  if (version === undefined && counter === undefined) return undefined
  if (version !== VERSION) throw unknownVersion(what, version)
  const record = {
    token: { counter: Number(counter), nonce: nonce! },
    sequence: Number(sequence),
    marker: Number(marker),
    markerHash: hash!,
    flushingTo: Number(flushing),
    layoutVersion: Number(layout),
    ...(erased === undefined ? {} : { erased: Number(erased) }),
  }
  const numbers = [
    Number(erased ?? 0),
    record.token.counter,
    record.sequence,
    record.marker,
    record.flushingTo,
    record.layoutVersion,
  ]
  if (nonce === undefined || hash === undefined || !numbers.every(Number.isSafeInteger)) {
    throw new TilefoldError('STORE_FORMAT', `cannot read ${what}: a field is missing or damaged`)
  }
  return record
}

export function unknownVersion(what: string, version: string | undefined): TilefoldError {
  return new TilefoldError(
    'STORE_FORMAT',
    `cannot read ${what}: unknown version; got ${version ?? 'none'}, expected ${VERSION}`,
  )
}

function script(lua: string): Script {
  return { lua, sha: createHash('sha1').update(lua).digest('hex') }
}
