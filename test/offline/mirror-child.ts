/**
 * A mirror as a process, which kills itself in the middle of a step on the disk: `mirror-child <brokers> <topic> <dir> <group>
 * <step>`; the step counts from 1, before and behind each.
 */
import { Mirror } from '../../src/offline/mirror.ts'
import { createKafkaConsumer } from '../../src/source/kafka-consumer.ts'
import { paymentsView } from '../stream/payments.ts'

const [brokers = '', topic = '', dir = '', groupId = '', step = '0'] = process.argv.slice(2)
let left = Number(step)
const consumer = createKafkaConsumer({ brokers: brokers.split(','), groupId, topics: [topic] })
const mirror = new Mirror({
  dir,
  plans: [await paymentsView(topic)],
  consumer,
  limits: { rowGroupRows: 60, fileRows: 150, fileAgeMs: 500 },
  onStep: () => {
    if (--left === 0) process.kill(process.pid, 'SIGKILL')
  },
})
await mirror.start()
console.log('started')
