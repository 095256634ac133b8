/**
 * A real Apache Kafka for tests: one broker or three, in KRaft mode, on free loopback ports, from its own jars.
 *
 * A broker takes 4 s to come up and some 340 MB: files that need no other than a plain one share it (kafka-shared.ts), the others
 * have one cluster each. `KAFKA_BROKERS` names a cluster to use instead; what needs a broker of our own to kill is then skipped.
 */
import { type ChildProcess, execFileSync, spawn } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import kafkajs, { type Admin, type Kafka } from 'kafkajs'
import { guard } from './guard.ts'
import { kafkaClassPath } from './kafka-jars.ts'
import { borrowKafka } from './kafka-shared.ts'
import { freePorts } from './ports.ts'

process.env.KAFKAJS_NO_PARTITIONER_WARNING = '1'

export interface KafkaCluster {
  readonly brokers: readonly string[]
  /** The listener with TLS and SASL of each broker, where `secure` was asked for. */
  readonly secureBrokers: readonly string[]
  /** PEM of the certificate that the secure listener shows. */
  readonly certificate: string
  /** What a client shows there, where it has to: PEM. */
  readonly clientKeys: { readonly cert: string; readonly key: string } | undefined
  /** A plain client, for tests that look at the cluster from outside. */
  readonly client: Kafka
  readonly admin: Admin
  /** A topic with a leader for every partition; its name is `name` and a suffix of this run. */
  createTopic(name: string, partitions?: number, config?: Readonly<Record<string, string>>): Promise<string>
  /** The broker that leads each partition, by partition; -1 where none does. */
  leaders(topic: string): Promise<number[]>
  /** The offset behind the last record of a partition. */
  topicEnd(topic: string, partition: number): Promise<number>
  /** Runs a Java program of this folder against the brokers' own client library; its standard output. */
  java(source: string, args: readonly string[], input?: string): string
  /** Kills broker `index` where it stands. */
  kill9(index: number): Promise<void>
  /** Starts broker `index` again, on its ports and its data. */
  restart(index: number): Promise<void>
  stop(): Promise<void>
}

export interface KafkaOptions {
  readonly brokers?: 1 | 3
  readonly properties?: Readonly<Record<string, string>>
  /**
   * One more listener with TLS and SASL (PLAIN and SCRAM-SHA-256); its user is `alice`, the password `alice-secret`. `mutual`:
   * a client has to show its certificate as well.
   */
  readonly secure?: boolean | 'mutual'
}

/** Why there is no Kafka to test with, or undefined: then there is one. In CI there must be one. */
export function whyNoKafka(): string | undefined {
  if (process.env.KAFKA_BROKERS !== undefined) return undefined
  try {
    kafkaClassPath()
    return undefined
  } catch (error) {
    if (process.env.CI === 'true') throw error
    const { message } = error as Error
    process.stderr.write(`\n*** SKIPPED, no Kafka to test with: ${message} ***\n\n`)
    return message
  }
}

/** Is the cluster somebody else's? Then no broker can be killed. */
export const isForeignKafka = process.env.KAFKA_BROKERS !== undefined

/** Without options the one that all files share: its topics are everybody's, and nobody kills it. */
export async function startKafka(options?: KafkaOptions): Promise<KafkaCluster> {
  const foreign = process.env.KAFKA_BROKERS?.split(',') ?? (options === undefined ? await borrowKafka() : undefined)
  return foreign === undefined ? startOwnKafka(options) : openCluster(foreign, undefined)
}

export async function startOwnKafka(options: KafkaOptions = {}): Promise<KafkaCluster> {
  for (let attempt = 1; ; attempt++) {
    const nodes = await planNodes(options)
    try {
      for (const node of nodes) formatNode(node)
      for (const node of nodes) startNode(node)
      return await openCluster(
        nodes.map((node) => `127.0.0.1:${node.port}`),
        nodes,
      )
    } catch (error) {
      for (const node of nodes) await killNode(node)
      rmSync(nodes[0]!.folder, { recursive: true, force: true })
      // Another took a port, or the machine was too busy for it to be heard: that passes.
      if (attempt === 3) throw error
      console.warn(`cannot start Kafka, trying again: ${(error as Error).message}`)
    }
  }
}

async function openCluster(brokers: readonly string[], nodes: Node[] | undefined): Promise<KafkaCluster> {
  const client = new kafkajs.Kafka({
    clientId: 'tilefold-test',
    brokers: [...brokers],
    logLevel: kafkajs.logLevel.NOTHING,
    retry: { initialRetryTime: 50, maxRetryTime: 500, retries: 60 },
  })
  const admin = client.admin()
  if (nodes !== undefined) await firstUp(admin, nodes)
  await admin.connect()
  if (nodes !== undefined) await allUp(admin, nodes)
  const run = randomBytes(3).toString('hex')
  let classes: string | undefined
  return {
    brokers,
    secureBrokers: (nodes ?? []).map((node) => `127.0.0.1:${node.securePort}`),
    certificate: nodes?.[0]?.certificate ?? '',
    clientKeys: nodes?.[0]?.clientKeys,
    client,
    admin,
    async createTopic(name, partitions = 1, config = {}) {
      const topic = `${name}-${run}`
      await admin.createTopics({
        // kafkajs' own wait takes a broker that has not heard of the topic yet for a failure.
        waitForLeaders: false,
        topics: [
          {
            topic,
            numPartitions: partitions,
            configEntries: Object.entries(config).map(([key, value]) => ({ name: key, value })),
          },
        ],
      })
      await hasLeaders(admin, topic)
      return topic
    },
    leaders(topic) {
      return leadersOf(admin, topic)
    },
    async topicEnd(topic, partition) {
      const offsets = await admin.fetchTopicOffsets(topic)
      return Number(offsets.find((each) => each.partition === partition)!.high)
    },
    java(source, args, input = '') {
      // Compiled once: that takes longer than the program itself.
      classes ??= compileJava(source)
      const classPath = [kafkaClassPath(), classes].join(path.delimiter)
      const program = [path.parse(source).name, brokers.join(','), ...args]
      return execFileSync('java', ['-XX:TieredStopAtLevel=1', '-cp', classPath, ...program], {
        input,
        encoding: 'utf8',
        stdio: ['pipe', 'pipe', 'inherit'],
        maxBuffer: 2 ** 28,
      })
    },
    async kill9(index) {
      await killNode(nodes![index]!)
    },
    async restart(index) {
      startNode(nodes![index]!)
      await allUp(admin, nodes!)
    },
    async stop() {
      await admin.disconnect()
      for (const node of nodes ?? []) await killNode(node)
      if (nodes !== undefined) rmSync(nodes[0]!.folder, { recursive: true, force: true })
      if (classes !== undefined) rmSync(classes, { recursive: true })
    },
  }
}

/** The folder of its classes. */
function compileJava(source: string): string {
  const folder = mkdtempSync(path.join(tmpdir(), 'tilefold-java-'))
  execFileSync('javac', ['-cp', kafkaClassPath(), '-d', folder, path.join(import.meta.dirname, source)])
  return folder
}

interface Node {
  readonly id: number
  /** Of the whole cluster. */
  readonly folder: string
  readonly file: string
  readonly port: number
  readonly securePort: number
  readonly clusterId: string
  readonly certificate: string
  readonly clientKeys: KafkaCluster['clientKeys']
  readonly secure: boolean
  process: ChildProcess | undefined
  output: string
}

async function planNodes(options: KafkaOptions): Promise<Node[]> {
  const count = options.brokers ?? 1
  const secure = options.secure !== undefined && options.secure !== false
  const isMutual = options.secure === 'mutual'
  const folder = mkdtempSync(path.join(tmpdir(), 'tilefold-kafka-'))
  const clusterId = randomBytes(16).toString('base64url')
  const certificate = secure ? makeCertificate(folder) : ''
  const clientKeys = isMutual ? makeClientKeys(folder) : undefined
  const ports = await freePorts(count * 3)
  const voters = Array.from({ length: count }, (_, id) => `${id}@127.0.0.1:${ports[id * 3 + 1]}`).join(',')
  return Array.from({ length: count }, (_, id) => {
    const [port, controllerPort, securePort] = ports.slice(id * 3) as [number, number, number]
    const listeners = [`PLAINTEXT://127.0.0.1:${port}`, ...(secure ? [`SECURE://127.0.0.1:${securePort}`] : [])]
    const data = path.join(folder, `data-${id}`)
    mkdirSync(data)
    const properties: Record<string, string | number> = {
      'process.roles': 'broker,controller',
      'node.id': id,
      'controller.quorum.voters': voters,
      'controller.listener.names': 'CONTROLLER',
      listeners: [...listeners, `CONTROLLER://127.0.0.1:${controllerPort}`].join(','),
      'advertised.listeners': listeners.join(','),
      'listener.security.protocol.map': 'PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,SECURE:SASL_SSL',
      'log.dirs': data,
      'auto.create.topics.enable': 'false',
      'default.replication.factor': count,
      'min.insync.replicas': count === 1 ? 1 : 2,
      'offsets.topic.replication.factor': count,
      'transaction.state.log.replication.factor': count,
      'transaction.state.log.min.isr': count === 1 ? 1 : 2,
      'share.coordinator.state.topic.replication.factor': count,
      'share.coordinator.state.topic.min.isr': count === 1 ? 1 : 2,
      'offsets.topic.num.partitions': 4,
      'transaction.state.log.num.partitions': 4,
      'group.initial.rebalance.delay.ms': 0,
      'group.min.session.timeout.ms': 1000,
      'broker.session.timeout.ms': 3000,
      'broker.heartbeat.interval.ms': 500,
      'log.cleaner.backoff.ms': 200,
      // Tests' records bear times of their own, some years old: by time, retention would delete them before they are read.
      'log.retention.ms': -1,
      ...(secure ? secureProperties(folder) : {}),
      ...(isMutual ? mutualProperties(folder) : {}),
      ...options.properties,
    }
    const file = path.join(folder, `server-${id}.properties`)
    writeFileSync(
      file,
      Object.entries(properties)
        .map(([key, value]) => `${key}=${value}\n`)
        .join(''),
    )
    const node = { id, folder, file, port, securePort, clusterId, certificate, clientKeys, secure }
    return { ...node, process: undefined, output: '' }
  })
}

function secureProperties(folder: string): Record<string, string> {
  const module = 'org.apache.kafka.common.security'
  return {
    'ssl.keystore.location': path.join(folder, 'keys.p12'),
    'ssl.keystore.type': 'PKCS12',
    'ssl.keystore.password': 'of-a-test',
    'listener.name.secure.sasl.enabled.mechanisms': 'PLAIN,SCRAM-SHA-256',
    'listener.name.secure.plain.sasl.jaas.config': `${module}.plain.PlainLoginModule required user_alice="alice-secret";`,
    'listener.name.secure.scram-sha-256.sasl.jaas.config': `${module}.scram.ScramLoginModule required;`,
  }
}

function mutualProperties(folder: string): Record<string, string> {
  return {
    'listener.name.secure.ssl.client.auth': 'required',
    'ssl.truststore.location': path.join(folder, 'trusted.p12'),
    'ssl.truststore.type': 'PKCS12',
    'ssl.truststore.password': 'of-a-test',
  }
}

/** A client's key and certificate, which the brokers trust. */
function makeClientKeys(folder: string): { readonly cert: string; readonly key: string } {
  const [cert, key] = [path.join(folder, 'client.crt'), path.join(folder, 'client.key')]
  const self = ['-x509', '-newkey', 'rsa:2048', '-nodes', '-days', '2', '-subj', '/CN=a worker']
  execFileSync('openssl', ['req', ...self, '-keyout', key, '-out', cert], { stdio: 'pipe' })
  const store = ['-keystore', path.join(folder, 'trusted.p12'), '-storetype', 'PKCS12', '-storepass', 'of-a-test']
  execFileSync('keytool', ['-importcert', '-noprompt', '-alias', 'client', '-file', cert, ...store], { stdio: 'pipe' })
  return { cert: readFileSync(cert, 'utf8'), key: readFileSync(key, 'utf8') }
}

/** A certificate for 127.0.0.1 that signs itself; its PEM. */
function makeCertificate(folder: string): string {
  const store = ['-keystore', path.join(folder, 'keys.p12'), '-storetype', 'PKCS12', '-storepass', 'of-a-test']
  const name = ['-alias', 'broker', '-dname', 'CN=127.0.0.1', '-ext', 'san=ip:127.0.0.1']
  execFileSync('keytool', ['-genkeypair', '-keyalg', 'RSA', '-keysize', '2048', ...name, ...store], { stdio: 'pipe' })
  return execFileSync('keytool', ['-exportcert', '-rfc', '-alias', 'broker', ...store], {
    encoding: 'utf8',
    stdio: 'pipe',
  })
}

function formatNode(node: Node): void {
  const user = ['--add-scram', 'SCRAM-SHA-256=[name=alice,password=alice-secret]']
  const args = ['format', `--cluster-id=${node.clusterId}`, '-c', node.file, ...(node.secure ? user : [])]
  const main = ['-XX:TieredStopAtLevel=1', '-cp', kafkaClassPath(), 'kafka.tools.StorageTool']
  execFileSync('java', [...main, ...args], { stdio: 'pipe' })
}

function startNode(node: Node): void {
  const memory = ['-Xmx384m', '-XX:TieredStopAtLevel=1', '-XX:+UseSerialGC']
  const child = spawn('java', [...memory, '-cp', kafkaClassPath(), 'kafka.Kafka', node.file], {
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  node.output = ''
  const keep = (bytes: Buffer) => {
    node.output = (node.output + bytes.toString()).slice(-4000)
  }
  child.stdout.on('data', keep)
  child.stderr.on('data', keep)
  child.once('exit', guard(child.pid!))
  node.process = child
}

async function killNode(node: Node): Promise<void> {
  const child = node.process
  if (child === undefined || child.exitCode !== null || child.signalCode !== null) return
  const gone = new Promise((resolve) => child.once('exit', resolve))
  child.kill('SIGKILL')
  await gone
}

/** Until a broker takes connections: some 4 s, and a minute on a machine that is busy with something else. */
async function firstUp(admin: Admin, nodes: readonly Node[]): Promise<void> {
  for (let attempt = 0; attempt < 3; attempt++) {
    if (nodes.some(({ process }) => process!.exitCode !== null)) return
    const isUp = await admin.connect().then(
      () => true,
      () => false,
    )
    if (isUp) return
  }
}

/** Until each partition of a new topic has a leader. */
async function hasLeaders(admin: Admin, topic: string): Promise<void> {
  for (let attempt = 0; attempt < 300; attempt++) {
    if ((await leadersOf(admin, topic)).every((leader) => leader >= 0)) return
    await sleep(100)
  }
  throw new Error(`topic ${topic} has no leaders after 30 s`)
}

/** kafkajs asks one broker once, and that may be the one that has just died or has not heard of the topic yet. */
async function leadersOf(admin: Admin, topic: string): Promise<number[]> {
  for (let attempt = 1; ; attempt++) {
    try {
      const { topics } = await admin.fetchTopicMetadata({ topics: [topic] })
      return topics[0]!.partitions.sort((a, b) => a.partitionId - b.partitionId).map(({ leader }) => leader)
    } catch (error) {
      if (attempt === 300) throw error
      await sleep(100)
    }
  }
}

/** Until every broker is registered and answers. */
async function allUp(admin: Admin, nodes: readonly Node[]): Promise<void> {
  const running = nodes.filter(({ process }) => process?.exitCode === null && process.signalCode === null)
  for (let attempt = 0; ; attempt++) {
    const dead = running.find(({ process }) => process!.exitCode !== null)
    if (dead !== undefined) throw new Error(`broker ${dead.id} has ended: ${dead.output}`)
    const described = await admin.describeCluster().catch(() => undefined)
    if (described?.brokers.length === running.length) return
    if (attempt === 300) throw new Error(`the brokers did not come up in 60 s: ${running[0]!.output}`)
    await sleep(200)
  }
}
