import { spawnSync } from 'node:child_process'
import { join, resolve } from 'node:path'
import { describe, expect, it } from 'vitest'
import { TilefoldError } from '../../src/model/errors.ts'
import { createLog } from '../../src/observe/log.ts'
import type { LogFields, LogFormat, LogLevel } from '../../src/observe/log-port.ts'
import { redactText } from '../../src/observe/redact.ts'

const root = resolve(import.meta.dirname, '../..')

function logged(level: LogLevel = 'debug', format: LogFormat = 'json', isTTY = false) {
  let text = ''
  const stream = {
    isTTY,
    write: (more: string) => {
      text += more
    },
  }
  const log = createLog({ level, format, stream })
  return { log, text: () => text, lines: () => text.split('\n').slice(0, -1) }
}

/** The one line that is written for these fields. */
function lineOf(fields: LogFields): Record<string, unknown> {
  const { log, text } = logged()
  log.info('told', fields)
  return JSON.parse(text()) as Record<string, unknown>
}

describe('a line', () => {
  it('is JSON: ts, level, msg and the fields, one line whatever they hold', () => {
    const { log, lines } = logged()
    log.with({ view: 'orders' }).warn('lane\nlost', { partition: 3, position: 12345678901234567890n })
    expect(lines()).toHaveLength(1)
    const line = JSON.parse(lines()[0]!) as Record<string, string>
    expect(Object.keys(line)).toEqual(['level', 'ts', 'view', 'partition', 'position', 'msg'])
    expect(line.ts).toMatch(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/)
    expect(line).toMatchObject({ level: 'warn', msg: 'lane\nlost', view: 'orders', position: '12345678901234567890' })
  })

  it('is written from its level on', () => {
    const { log, lines } = logged('warn')
    log.debug('a')
    log.info('b')
    log.warn('c')
    log.error('d')
    expect(lines().map((line) => (JSON.parse(line) as { msg: string }).msg)).toEqual(['c', 'd'])
    const silent = logged('silent')
    silent.log.error('e')
    expect(silent.text()).toBe('')
  })

  it('keeps its own members where fields have their names', () => {
    expect(lineOf({ level: 'x', msg: 'y', ts: 'z' })).toMatchObject({
      level: 'info',
      msg: 'told',
      level_: 'x',
      msg_: 'y',
    })
  })

  it('is text for whoever watches, and cannot steer the terminal', () => {
    for (const { log, text } of [logged('info', 'auto', true), logged('info', 'text')]) {
      log.info('taken \u001b[31m\u009b2J', { view: 'orders', why: 'it is\nmine', rows: 3 })
      const [, rest] = /^\S+Z (.*)\n$/.exec(text())!
      expect(rest).toBe('info  taken \\u001b[31m?2J  view=orders why="it is\\nmine" rows=3')
    }
    const piped = logged('info', 'auto', false)
    piped.log.info('x')
    expect(piped.text()).toMatch(/^\{/)
  })
})

describe('a field', () => {
  it.each([
    ['key', 42],
    ['keys', ['ada']],
    ['entity', { customer: 'ada' }],
    ['values', [1]],
    ['payload', new Uint8Array(3)],
    ['headers', { a: 1 }],
    ['token', 'ada'],
    ['redisPassword', 'ada'],
    ['kafka_password', 'ada'],
    ['client_secret', 'ada'],
    ['authorization', 'Bearer ada'],
  ])('that is a key, a payload or a secret is not told: %s', (name, value) => {
    expect(lineOf({ [name]: value })[name]).toBe('[redacted]')
    expect(lineOf({ deep: { list: [{ [name]: value }] } })).toMatchObject({
      deep: { list: [{ [name]: '[redacted]' }] },
    })
  })

  it('may be bytes or deep: neither is told', () => {
    expect(lineOf({ bytes: Buffer.from('ada'), a: { b: { c: { d: { e: 'ada' } } } } })).toMatchObject({
      bytes: '[redacted]',
      a: { b: { c: { d: '[redacted]' } } },
    })
  })

  it('holds no password of an address, nor does the message', () => {
    const { log, text } = logged()
    log.error('cannot reach redis://ada:hunter2@r.example:6379/0, nor "rediss://:hunter2@h"', {
      url: 'redis://ada:hunter2@r.example',
      why: 'Authorization: Bearer hunter2',
    })
    expect(text()).not.toContain('hunter2')
    expect(text()).toContain('redis://ada:[redacted]@r.example:6379/0')
  })

  it('may be an error: its code, message, details and causes', () => {
    const cause = new Error('connect ECONNREFUSED redis://u:hunter2@h:1')
    const error = new TilefoldError('STORE_UNAVAILABLE', 'cannot read rows', { lane: 'l', key: 'ada' }, { cause })
    const line = lineOf({ error }).error as Record<string, Record<string, unknown>>
    expect(line).toMatchObject({
      code: 'STORE_UNAVAILABLE',
      message: 'cannot read rows',
      details: { lane: 'l', key: '[redacted]' },
      cause: { message: 'connect ECONNREFUSED redis://u:[redacted]@h:1' },
    })
    expect(line).not.toHaveProperty('stack')
    expect(line.cause!.stack).toMatch(/^Error: connect/)
    expect(JSON.stringify(line)).not.toContain('hunter2')
  })
})

describe('text without an address', () => {
  it.each(['', 'plain', 'a@b', 'view:feature', 'http://127.0.0.1:6567/v1'])('stays: %s', (text) => {
    expect(redactText(text)).toBe(text)
  })
})

describe('the process', () => {
  const module = join(root, 'dist/src/observe/log.js')

  it('writes every line before it ends, also when it is told to end at once', () => {
    const script = `
      const { createLog } = await import(${JSON.stringify(`file://${module}`)})
      const log = createLog({ level: 'info', format: 'auto' })
      for (let i = 0; i < 500; i++) log.info('line', { i })
      ENDING`
    for (const [ending, code] of [
      ['process.exit(3)', 3],
      ['setTimeout(() => { throw new Error("late") }, 5)', 1],
      ['', 0],
    ] as const) {
      const run = spawnSync(process.execPath, ['--input-type=module', '-e', script.replace('ENDING', ending)], {
        encoding: 'utf8',
      })
      expect(run.status).toBe(code)
      const lines = run.stderr.split('\n').filter((line) => line.startsWith('{'))
      expect(lines.map((line) => (JSON.parse(line) as { i: number }).i)).toEqual(
        Array.from({ length: 500 }, (_, i) => i),
      )
    }
  })
})
