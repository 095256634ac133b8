/**
 * Every setting there is, by name: what it means, how its text reads, and what it is where nobody says anything.
 *
 * A secret (`token`) may stand in a file that `token_file` names: what is given as a flag or in the environment can be seen
 * in lists of processes.
 */
import { LOG_FORMATS, LOG_LEVELS } from '../observe/log-port.ts'
import { FORMATS } from './printer.ts'

export interface SettingKind {
  readonly about: string
  readonly fallback?: string
  /** Relative to the configuration file, where it comes from there. */
  readonly isPath?: boolean
  /** Never printed; of addresses, only what stands between the user's name and the `@`. */
  readonly secret?: 'whole' | 'address'
  /** How the text reads; any text where absent. `list`: separated by commas. */
  readonly form?: 'duration' | 'bytes' | 'ratio' | 'switch' | 'list'
  readonly bounds?: readonly [min: number, max: number]
  readonly choices?: readonly string[]
}

export const SASL_MECHANISMS = ['plain', 'scram-sha-256', 'scram-sha-512'] as const

const PORT = [0, 65_535] as const

export const KINDS = {
  // What is computed, and where it is kept
  file: { about: 'definitions', fallback: 'tilefold.yaml', isPath: true },
  namespace: { about: "first part of every stored name; the definitions' unless told" },
  store: { about: 'directory of the embedded store', fallback: '.tilefold', isPath: true },
  output: { about: 'form of results and errors', fallback: 'table', choices: FORMATS },
  threads: { about: 'threads that fold files and pushed events', bounds: [0, 64] },
  history_lanes: { about: 'lanes of a new history', bounds: [1, 4096] },

  // Redis
  redis_url: {
    about:
      'redis:// or rediss:// address; several, by comma, of a cluster; redis+sentinel://host:port/name of Sentinels',
    secret: 'address',
  },
  redis_url_file: { about: 'file that holds redis_url', isPath: true },
  redis_username: { about: 'ACL user' },
  redis_password: { about: 'password of the ACL user, or of the server', secret: 'whole' },
  redis_password_file: { about: 'file that holds redis_password', isPath: true },
  redis_sentinel_username: { about: 'ACL user of the Sentinels, where they have users of their own' },
  redis_sentinel_password: { about: 'password of the Sentinels', secret: 'whole' },
  redis_sentinel_password_file: { about: 'file that holds redis_sentinel_password', isPath: true },
  redis_tls: { about: 'TLS to Redis, also where the address says redis://', fallback: 'false', form: 'switch' },
  redis_tls_ca: { about: "file of certificates (PEM) that sign Redis's; implies TLS", isPath: true },
  redis_tls_cert: { about: 'file of our certificate (PEM), where Redis asks for one', isPath: true },
  redis_tls_key: { about: "file of that certificate's key (PEM)", isPath: true },
  redis_cluster: { about: 'the address is of a node of a cluster', fallback: 'false', form: 'switch' },

  // Kafka
  kafka_brokers: { about: 'host:port of some brokers, by comma', form: 'list' },
  kafka_group: { about: 'consumer group; tilefold-<namespace> unless told' },
  kafka_client_id: { about: 'name that brokers log', fallback: 'tilefold' },
  kafka_tls: { about: 'TLS to Kafka', fallback: 'false', form: 'switch' },
  kafka_tls_ca: { about: "file of certificates (PEM) that sign the brokers'; implies TLS", isPath: true },
  kafka_tls_cert: { about: 'file of our certificate (PEM), where brokers ask for one', isPath: true },
  kafka_tls_key: { about: "file of that certificate's key (PEM)", isPath: true },
  kafka_sasl_mechanism: { about: 'how the user is shown; plain where there is a user', choices: SASL_MECHANISMS },
  kafka_username: { about: 'SASL user' },
  kafka_password: { about: 'password of the SASL user', secret: 'whole' },
  kafka_password_file: { about: 'file that holds kafka_password', isPath: true },

  // Stream job
  flush_interval: {
    about: 'soonest flush after an event, when little is going on',
    fallback: '1ms',
    form: 'duration',
  },
  max_flush_interval: { about: 'latest flush after an event, however busy', fallback: '1s', form: 'duration' },
  route_linger: {
    about: 'how long routed events wait for others of their transaction',
    fallback: '100ms',
    form: 'duration',
  },
  memory_budget: { about: 'memory for events under way and resident entities', fallback: '256MiB', form: 'bytes' },
  idle_timeout: { about: 'a partition silent for so long holds back no watermark', fallback: '1m', form: 'duration' },
  ledger: {
    about: 'how long each lane remembers when which position became readable; not at all unless told',
    form: 'duration',
  },
  dead_letter_topic: { about: 'topic for events that cannot be read' },
  dead_letter_file: { about: 'file for events that cannot be read, JSON lines', isPath: true },
  max_dead_ratio: { about: 'share of unreadable events above which a lane stops', fallback: '0.01', form: 'ratio' },

  // Servers
  host: { about: 'address that servers listen on', fallback: '127.0.0.1' },
  port: { about: 'port of the feature server, 0 for a free one', fallback: '6567', bounds: PORT },
  metrics_port: { about: "port of the stream job's /metrics, /livez, /readyz; none unless told", bounds: PORT },
  token: { about: 'bearer token that requests must show', secret: 'whole' },
  token_file: { about: 'file that holds token', isPath: true },
  drain_delay: { about: 'served so long after /readyz fails', fallback: '0s', form: 'duration' },
  deadline: { about: 'a feature request is answered or failed within', fallback: '2s', form: 'duration' },
  max_in_flight: { about: 'feature requests under way; more are turned away', fallback: '256', bounds: [1, 100_000] },
  row_cache: { about: 'memory for rows that were read, 0 for none', fallback: '0', form: 'bytes' },
  row_cache_max_age: { about: 'a kept row is used for so long at most', fallback: '1s', form: 'duration' },
  served_log: { about: 'directory for a log of answers, in Parquet; none unless told', isPath: true },
  served_log_share: { about: 'part of the entities whose answers are logged', fallback: '1', form: 'ratio' },
  served_log_interval: { about: 'a file of that log ends after', fallback: '1m', form: 'duration' },

  // Logs
  log_level: { about: 'least level that is logged', fallback: 'info', choices: LOG_LEVELS },
  log_format: { about: 'json, or text; auto: text on a terminal', fallback: 'auto', choices: LOG_FORMATS },
} as const satisfies Record<string, SettingKind>

export type SettingName = keyof typeof KINDS

export const SETTING_NAMES = Object.keys(KINDS) as readonly SettingName[]

export function kindOf(name: SettingName): SettingKind {
  return KINDS[name]
}

export function isSettingName(name: string): name is SettingName {
  return Object.hasOwn(KINDS, name)
}

/** The setting whose value is the file that holds a secret. */
export function fileSettingOf(name: SettingName): SettingName | undefined {
  return kindOf(name).secret === undefined ? undefined : (`${name}_file` as SettingName)
}
