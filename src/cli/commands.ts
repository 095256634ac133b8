/** The commands by name. Each is loaded when it is called: `--help` shall not wait for Parquet, SQL and HTTP. */
import type { Command } from './command.ts'

export interface CommandEntry {
  readonly name: string
  readonly summary: string
  load(): Promise<Command>
}

export const COMMANDS: readonly CommandEntry[] = [
  {
    name: 'init',
    summary: 'write a definition file and sample events, or propose one from a file of yours',
    load: async () => (await import('./init.ts')).init,
  },
  {
    name: 'validate',
    summary: 'check definitions, and say what they keep, serve and cost',
    load: async () => (await import('./validate.ts')).validate,
  },
  {
    name: 'estimate',
    summary: 'say what definitions will take, from a sample: rows, bytes, writes, CPU',
    load: async () => (await import('./estimate.ts')).estimate,
  },
  {
    name: 'backfill',
    summary: 'fold files of history into the store',
    load: async () => (await import('./backfill.ts')).backfillCommand,
  },
  {
    name: 'rebuild',
    summary: 'write the lanes of mirrored topics anew; the stream goes on where the mirror ends',
    load: async () => (await import('./rebuild.ts')).rebuildCommand,
  },
  {
    name: 'parity',
    summary: 'compare stored rows with those that the mirror gives, byte for byte',
    load: async () => (await import('./parity.ts')).parity,
  },
  {
    name: 'training-set',
    summary: 'add features to rows of labels, each as of its own instant',
    load: async () => (await import('./training-set.ts')).trainingSetCommand,
  },
  {
    name: 'push',
    summary: 'fold a file or standard input as a live log',
    load: async () => (await import('./push.ts')).push,
  },
  {
    name: 'run',
    summary: 'fold topics of Kafka as they come, beside any number of others',
    load: async () => (await import('./run.ts')).run,
  },
  {
    name: 'route',
    summary: "key a topic by a view's entity, for workers to read",
    load: async () => (await import('./route.ts')).route,
  },
  {
    name: 'mirror',
    summary: 'write topics of Kafka to Parquet, each record once',
    load: async () => (await import('./mirror.ts')).mirror,
  },
  {
    name: 'get',
    summary: 'ask for features of entities',
    load: async () => (await import('./get.ts')).get,
  },
  {
    name: 'serve',
    summary: 'serve features over HTTP',
    load: async () => (await import('./serve.ts')).serve,
  },
  {
    name: 'lag',
    summary: 'show how far every partition is behind its topic',
    load: async () => (await import('./lag.ts')).lag,
  },
  {
    name: 'doctor',
    summary: 'say what around us does not fit: Kafka, Redis, their settings',
    load: async () => (await import('./doctor.ts')).doctor,
  },
  {
    name: 'dlq',
    summary: 'count dead letters, and send their records again',
    load: async () => (await import('./dlq.ts')).dlq,
  },
  {
    name: 'inspect',
    summary: 'show the stored rows of an entity, byte by byte if asked',
    load: async () => (await import('./inspect.ts')).inspect,
  },
  {
    name: 'forget',
    summary: 'erase an entity from the store, and leave it out of every rebuild',
    load: async () => (await import('./forget.ts')).forget,
  },
  {
    name: 'ledger',
    summary: 'show which positions were readable when, by lane',
    load: async () => (await import('./ledger.ts')).ledger,
  },
  {
    name: 'generation',
    summary: 'build a view beside itself, see how far it is, switch readers to it, go back',
    load: async () => (await import('./generation.ts')).generation,
  },
  {
    name: 'offsets',
    summary: 'show up to which offset each lane of each generation holds its log',
    load: async () => (await import('./offsets.ts')).offsets,
  },
  {
    name: 'gc',
    summary: 'list stored states, and delete those that no view names any more',
    load: async () => (await import('./gc.ts')).gc,
  },
  {
    name: 'config',
    summary: 'show every setting, and where it comes from',
    load: async () => (await import('./config.ts')).config,
  },
]
