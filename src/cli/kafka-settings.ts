/** From settings to the options of every Kafka client. */
import { TilefoldError } from '../model/errors.ts'
import type { KafkaOptions } from '../source/kafka.ts'
import { SASL_MECHANISMS } from './setting-kinds.ts'
import type { Settings } from './settings.ts'

/** Throws CONFIG_INVALID where no broker is named. */
export function kafkaOptionsOf(settings: Settings, log?: KafkaOptions['log']): KafkaOptions {
  const brokers = settings.list('kafka_brokers')
  if (brokers.length === 0) {
    throw new TilefoldError(
      'CONFIG_INVALID',
      'cannot reach Kafka: no broker is named; got nothing for kafka_brokers, expected host:port (--kafka-brokers, TILEFOLD_KAFKA_BROKERS)',
    )
  }
  const username = settings.text('kafka_username')
  return {
    brokers,
    clientId: settings.text('kafka_client_id'),
    tls: settings.certificates('kafka') ?? settings.isOn('kafka_tls'),
    ...(log === undefined ? {} : { log }),
    ...(username === undefined
      ? {}
      : {
          sasl: {
            mechanism:
              settings.text('kafka_sasl_mechanism') === undefined
                ? 'plain'
                : settings.choice('kafka_sasl_mechanism', SASL_MECHANISMS),
            username,
            password: settings.text('kafka_password') ?? '',
          },
        }),
  }
}
