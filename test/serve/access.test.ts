import { describe, expect, it } from 'vitest'
import { Access, isLoopback } from '../../src/serve/access.ts'

const TOKEN = 'correct horse battery'.replaceAll(' ', '-')

describe('access', () => {
  it.each(['127.0.0.1', '127.1.2.3', '::1', 'localhost'])('without a token is for this machine: %s', (host) => {
    expect(isLoopback(host)).toBe(true)
    expect(() => new Access(host, undefined)).not.toThrow()
  })

  it.each(['0.0.0.0', '::', '10.0.0.7', 'features.example', '127.0.0.1.example', '', '::ffff:10.0.0.7', '1270.0.0.1'])(
    'from other machines needs a token: %s',
    (host) => {
      expect(() => new Access(host, undefined)).toThrow(expect.objectContaining({ code: 'CONFIG_INVALID' }))
      expect(() => new Access(host, TOKEN)).not.toThrow()
    },
  )

  it('refuses a token that can be guessed', () => {
    expect(() => new Access('0.0.0.0', 'secret')).toThrow(expect.objectContaining({ code: 'CONFIG_INVALID' }))
  })

  it('takes the token and nothing else', () => {
    const access = new Access('127.0.0.1', TOKEN)
    expect(() => access.check(`Bearer ${TOKEN}`, 'features.example')).not.toThrow()
    expect(() => access.check(`bearer  ${TOKEN} `, undefined)).not.toThrow()
    for (const wrong of [
      undefined,
      '',
      TOKEN,
      `Basic ${TOKEN}`,
      `Bearer ${TOKEN}x`,
      `Bearer ${TOKEN.slice(1)}`,
      'Bearer ',
      `Bearer ${TOKEN} ${TOKEN}`,
    ]) {
      expect(() => access.check(wrong, 'localhost'), String(wrong)).toThrow(
        expect.objectContaining({ code: 'UNAUTHORIZED' }),
      )
    }
  })

  it('without a token refuses names that a web page made up for this machine', () => {
    const access = new Access('127.0.0.1', undefined)
    for (const host of ['localhost', 'LOCALHOST:6567', '127.0.0.1:80', '[::1]:6567', '[::1]', undefined]) {
      expect(() => access.check(undefined, host), String(host)).not.toThrow()
    }
    for (const host of [
      'evil.example',
      'evil.example:6567',
      'localhost.evil.example',
      '127.0.0.1.evil.example:80',
      '',
      '[::2]',
      '10.0.0.1',
    ]) {
      expect(() => access.check(undefined, host), host).toThrow(expect.objectContaining({ code: 'HOST_REFUSED' }))
    }
  })
})
