/**
 * A call to Redis with all its attempts. Every call has a deadline. A connection that is cut, a server that loads, a failover, a
 * slot that moves: the call is tried again after a random wait, while there is time; then STORE_UNAVAILABLE, and nobody knows
 * whether a write landed. That is safe, because a write carries the sequence it expects: done twice it counts once. What will not
 * pass by itself (rights, certificates, memory) is told at once.
 */
import { TilefoldError } from '../model/errors.ts'
import type { RedisArgument, RedisConnection } from './redis-connection.ts'
import { refusal, textOf, troubleOf, unavailable } from './redis-error.ts'
import { asEval, reuse, type ScriptRequest, scriptRequest } from './redis-request.ts'
import { type Script, UNKNOWN_VERSION, unknownVersion } from './redis-script.ts'

const DEADLINE_MS = 5_000
const RETRY_MS_MAX = 500

export class RedisCalls {
  readonly connection: RedisConnection
  readonly #deadlineMs: number

  constructor(connection: RedisConnection, deadlineMs = DEADLINE_MS) {
    this.connection = connection
    this.#deadlineMs = deadlineMs
  }

  /** One command; `verb` says in an error what could not be done. */
  send(verb: string, command: string, commandArguments: readonly RedisArgument[]): Promise<unknown> {
    return this.attempt(verb, () => this.connection.send(command, commandArguments))
  }

  async run(verb: string, script: Script, keys: readonly Buffer[], scriptArguments: readonly (string | Uint8Array)[]) {
    const request = scriptRequest(script, keys, scriptArguments)
    let isRepeated = false
    const reply = await this.attempt(verb, (attempt) => {
      isRepeated = attempt > 0
      return runScript(this.connection, request)
    })
    // An attempt that nobody waits for any more may still be on its way, with these bytes.
    if (!isRepeated) reuse(request)
    return reply
  }

  /** Runs `work` until it succeeds, the deadline is over, or there is no point in going on. */
  async attempt<T>(
    verb: string,
    work: (attempt: number) => Promise<T>,
    deadlineMs: number = this.#deadlineMs,
  ): Promise<T> {
    const { connection } = this
    const deadline = performance.now() + deadlineMs
    for (let attempt = 0; ; attempt++) {
      let failure: Error
      try {
        if (connection.closed) throw unavailable(verb, connection.where, 'the store is closed')
        await connection.ready(deadline)
        return await within(work(attempt), deadline)
      } catch (error) {
        failure = error as Error
        if (connection.closed && !(error instanceof TilefoldError)) {
          throw unavailable(verb, connection.where, 'the store was closed meanwhile')
        }
        if (troubleOf(error) !== 'passing') throw this.#coded(error, verb)
      }
      const pauseMs = Math.random() * Math.min(RETRY_MS_MAX, 20 * 2 ** attempt)
      if (performance.now() + pauseMs >= deadline) {
        const why = textOf(connection.trouble ?? failure)
        const waited = `no success within ${Math.round(deadlineMs)} ms`
        throw unavailable(verb, connection.where, `${waited}; last: ${why}`, failure)
      }
      await new Promise((wake) => setTimeout(wake, pauseMs))
    }
  }

  #coded(error: unknown, verb: string): unknown {
    if (!(error instanceof Error) || error instanceof TilefoldError) return error
    const version = new RegExp(`${UNKNOWN_VERSION} (\\S+)`).exec(error.message)?.[1]
    if (version !== undefined) return unknownVersion('the record of a lane', version)
    return troubleOf(error) === 'ours' ? error : refusal(error, verb, this.connection.where)
  }
}

/** One attempt to run a script. */
export async function runScript(connection: RedisConnection, request: ScriptRequest): Promise<unknown> {
  const { script, key, bytes } = request
  try {
    return await connection.sendWritten('evalsha', [script.sha, '1', key], bytes)
  } catch (error) {
    // A server that was restarted, or took over, does not know it yet.
    if (!/NOSCRIPT/.test((error as Error).message)) throw error
    return connection.sendWritten('eval', [script.lua, '1', key], asEval(request))
  }
}

function within<T>(work: Promise<T>, deadline: number): Promise<T> {
  return new Promise((resolve, reject) => {
    const late = () => reject(new Error('Command timed out'))
    const timer = setTimeout(late, Math.max(0, deadline - performance.now()))
    work.then(
      (value) => {
        clearTimeout(timer)
        resolve(value)
      },
      (error) => {
        clearTimeout(timer)
        reject(error)
      },
    )
  })
}
