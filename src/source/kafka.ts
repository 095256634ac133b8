/**
 * The one door to kafkajs: clients with TLS, SASL and our codecs, and what went wrong as one line.
 *
 * kafkajs logs a lot and warns on its own; its logger goes to `log`, its two warnings that nobody can act on stay away.
 */
import './kafka-aborted.ts'

import { setTimeout as sleep } from 'node:timers/promises'
import kafkajs, { type logLevel as LogLevel, type SASLOptions } from 'kafkajs'
import { TilefoldError } from '../model/errors.ts'
import { kafkaCodecs } from './kafka-codecs.ts'
import { KafkaSockets } from './kafka-sockets.ts'

export type { Admin, Consumer, EachBatchPayload, IHeaders, Producer, RecordMetadata, Transaction } from 'kafkajs'

export interface KafkaOptions {
  /** `host:port` of some brokers; they name the others. */
  readonly brokers: readonly string[]
  /** `tilefold` unless told. */
  readonly clientId?: string
  /** `true`: the system's certificates. */
  readonly tls?: boolean | KafkaTls
  readonly sasl?: KafkaSasl
  readonly log?: (entry: KafkaLogEntry) => void
}

/** PEM each. */
export interface KafkaTls {
  readonly ca?: string
  readonly cert?: string
  readonly key?: string
  readonly passphrase?: string
}

export interface KafkaSasl {
  readonly mechanism: 'plain' | 'scram-sha-256' | 'scram-sha-512'
  readonly username: string
  readonly password: string
}

export interface KafkaLogEntry {
  readonly level: 'error' | 'warn' | 'info' | 'debug'
  readonly message: string
  readonly facts: Readonly<Record<string, unknown>>
}

/** A broker that is down answers no sooner. */
const CONNECT_TIMEOUT_MS = 3_000
const REQUEST_TIMEOUT_MS = 30_000
/** Some ten seconds in all: enough for a leader's move; what takes longer is for the caller to try again. */
const RETRY = { initialRetryTime: 100, maxRetryTime: 2_000, retries: 7 }

/** Nothing is connected yet. */
export class KafkaClient extends kafkajs.Kafka {
  readonly #sockets: KafkaSockets

  constructor(options: KafkaOptions) {
    silenceWarnings()
    for (const [type, codec] of kafkaCodecs()) kafkajs.CompressionCodecs[type as 2] = () => codec
    const sockets = new KafkaSockets()
    super({
      clientId: options.clientId ?? 'tilefold',
      brokers: [...options.brokers],
      ssl: tlsOf(options.tls),
      sasl: options.sasl as SASLOptions | undefined,
      connectionTimeout: CONNECT_TIMEOUT_MS,
      requestTimeout: REQUEST_TIMEOUT_MS,
      enforceRequestTimeout: true,
      retry: RETRY,
      socketFactory: sockets.create,
      logLevel: kafkajs.logLevel.INFO,
      logCreator: () => (entry) => {
        if (sockets.hasEnded) return
        const { message, timestamp, ...facts } = entry.log
        options.log?.({ level: levelOf(entry.level), message: `${entry.namespace}: ${message}`, facts })
      },
    })
    this.#sockets = sockets
  }

  /** Cuts what its consumers, producers and admins have left open after they were disconnected. */
  end(): void {
    this.#sockets.end()
  }
}

function tlsOf(tls: KafkaOptions['tls']) {
  if (tls === undefined || typeof tls === 'boolean') return tls ?? false
  return { ...tls, ca: tls.ca === undefined ? undefined : [tls.ca] }
}

function levelOf(level: LogLevel): KafkaLogEntry['level'] {
  if (level === kafkajs.logLevel.ERROR) return 'error'
  if (level === kafkajs.logLevel.WARN) return 'warn'
  return level === kafkajs.logLevel.INFO ? 'info' : 'debug'
}

const ATTEMPTS = 8
const ATTEMPT_DELAY_MS = 250

/** A coordinator that has just come up or moved refuses for a moment, and kafkajs takes its word for final. */
export async function tryForAWhile<T>(act: () => Promise<T>, isOver: () => boolean = () => false): Promise<T> {
  for (let attempt = 1; ; attempt++) {
    try {
      return await act()
    } catch (error) {
      if (attempt === ATTEMPTS || isOver() || isFinal(error)) throw error
      await sleep(ATTEMPT_DELAY_MS * attempt)
    }
  }
}

// ---- what went wrong ---------------------------------------------------------------------------------------------------

/** LOG_UNAVAILABLE with the innermost cause in its one line; our own errors as they are. */
export function logUnavailable(what: string, options: KafkaOptions, error: unknown): TilefoldError {
  const root = rootOf(error)
  if (root instanceof TilefoldError) return root
  const brokers = options.brokers.join(', ')
  const message = `${(root as Error).message}`.split('\n')[0]
  return new TilefoldError('LOG_UNAVAILABLE', `cannot ${what} (Kafka at ${brokers}): ${message}`, {}, { cause: error })
}

/** kafkajs wraps errors in errors; the innermost, or the first of ours, says what happened. */
export function rootOf(error: unknown): unknown {
  let root = error
  while (!(root instanceof TilefoldError) && root instanceof Error && root.cause instanceof Error) root = root.cause
  return root
}

/** Answers of a broker that stay the same however often one asks. */
const FINAL_TYPES = new Set([
  'SASL_AUTHENTICATION_FAILED',
  'UNSUPPORTED_SASL_MECHANISM',
  'ILLEGAL_SASL_STATE',
  'TOPIC_AUTHORIZATION_FAILED',
  'GROUP_AUTHORIZATION_FAILED',
  'CLUSTER_AUTHORIZATION_FAILED',
  'TRANSACTIONAL_ID_AUTHORIZATION_FAILED',
  'INVALID_GROUP_ID',
  'INVALID_SESSION_TIMEOUT',
  'INCONSISTENT_GROUP_PROTOCOL',
  'INVALID_TOPIC_EXCEPTION',
  'UNSUPPORTED_VERSION',
])
const FINAL_NAMES = new Set([
  'KafkaJSSASLAuthenticationError',
  'KafkaJSNotImplemented',
  'KafkaJSUnsupportedMagicByteInMessageSet',
])

/** Is trying again of no use? Ours and JavaScript's own errors are final; so is what a broker refuses. */
export function isFinal(error: unknown): boolean {
  for (let each = error; each instanceof Error; each = each.cause) {
    const { name, type } = each as Error & { readonly type?: string }
    if (each instanceof TilefoldError || FINAL_NAMES.has(name) || (type !== undefined && FINAL_TYPES.has(type)))
      return true
  }
  return rootOf(error) instanceof TypeError
}

// ---- warnings ----------------------------------------------------------------------------------------------------------

let silenced = false

/**
 * kafkajs asks to be told that the partitioner has changed in 2.0 (we choose partitions ourselves), and passes negative
 * delays to setTimeout, of which Node 24 warns. Only this warning, and only out of kafkajs, is dropped.
 */
function silenceWarnings(): void {
  if (silenced) return
  silenced = true
  process.env.KAFKAJS_NO_PARTITIONER_WARNING ??= '1'
  const emitWarning = process.emitWarning as (...args: unknown[]) => void
  process.emitWarning = (...args: unknown[]) => {
    if (args[1] === 'TimeoutNegativeWarning' && new Error().stack?.includes('kafkajs')) return
    emitWarning.apply(process, args)
  }
}
