/** Brokers that ask for a client's certificate: shown from the settings' files, or refused in one line. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { kafkaOptionsOf } from '../../src/cli/kafka-settings.ts'
import { Settings } from '../../src/cli/settings.ts'
import { createKafkaConsumer } from '../../src/source/kafka-consumer.ts'
import { isForeignKafka, type KafkaCluster, startKafka, whyNoKafka } from '../support/kafka.ts'
import { Recorder, until } from '../support/kafka-recorder.ts'
import { thrown } from './support.ts'

const missing = whyNoKafka() ?? (isForeignKafka ? 'a Kafka of our own' : undefined)

describe.skipIf(missing !== undefined)('Kafka that asks for certificates', { timeout: 120_000 }, () => {
  const folder = mkdtempSync(join(tmpdir(), 'tilefold-kafka-tls-'))
  let kafka: KafkaCluster
  let topic: string

  beforeAll(async () => {
    kafka = await startKafka({ secure: 'mutual' })
    topic = await kafka.createTopic('mutual')
    const producer = kafka.client.producer()
    await producer.connect()
    await producer.send({ topic, messages: [{ value: 'one' }, { value: 'two' }] })
    await producer.disconnect()
  }, 120_000)

  afterAll(async () => {
    await kafka?.stop()
    rmSync(folder, { recursive: true, force: true })
  }, 60_000)

  async function consumer(groupId: string, more: Readonly<Record<string, string>>) {
    const env = {
      TILEFOLD_KAFKA_BROKERS: kafka.secureBrokers.join(','),
      TILEFOLD_KAFKA_USERNAME: 'alice',
      TILEFOLD_KAFKA_PASSWORD: 'alice-secret',
      TILEFOLD_KAFKA_TLS_CA: file('ca.pem', kafka.certificate),
      ...more,
    }
    return createKafkaConsumer({ ...kafkaOptionsOf(await Settings.open({}, env)), groupId, topics: [topic] })
  }

  function file(name: string, text: string): string {
    const path = join(folder, name)
    writeFileSync(path, text)
    return path
  }

  it('is read with ours, and not without', async () => {
    const { cert, key } = kafka.clientKeys!
    const recorder = new Recorder()
    const known = await consumer('known', {
      TILEFOLD_KAFKA_TLS_CERT: file('client.pem', cert),
      TILEFOLD_KAFKA_TLS_KEY: file('client-key.pem', key),
    })
    await known.start(recorder)
    await until(() => recorder.taken.length === 2)
    await known.stop()
    const unknown = await consumer('unknown', {})
    const error = await thrown(() => unknown.start(new Recorder()))
    await unknown.stop()
    expect(error.code).toBe('LOG_UNAVAILABLE')
    expect(error.message).toMatch(/^cannot join group "unknown" \(Kafka at 127\.0\.0\.1:\d+\): .*certificate/i)
    expect(error.message).not.toMatch(/alice-secret|\n/)
  })
})
