import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { SETTING_NAMES } from '../../src/cli/setting-kinds.ts'
import { cli, makeFolder, writeIn } from './harness.ts'

const folder = makeFolder()

interface Shown {
  readonly config_file: string | null
  readonly settings: readonly {
    readonly name: string
    readonly value: string | null
    readonly from: string | null
    readonly rank: string | null
    readonly problem?: string
  }[]
}

async function configOf(args: readonly string[], env: Readonly<Record<string, string>> = {}) {
  const outcome = await cli(['config', '-o', 'json', ...args], { env })
  const shown = JSON.parse(outcome.stdout) as Shown
  return { ...outcome, shown, setting: (name: string) => shown.settings.find((each) => each.name === name)! }
}

describe('tilefold config', () => {
  it('shows every setting once, its value and where it comes from', async () => {
    const config = writeIn(folder, 'config.json', '{ "kafka_brokers": ["a:9092", "b:9092"], "store": "data" }')
    const { code, stderr, shown, setting } = await configOf(['--config', config, '--namespace', 'n'], {
      TILEFOLD_PORT: '7000',
    })
    expect(code).toBe(0)
    expect(stderr).toBe('')
    expect(shown.config_file).toBe(config)
    expect(shown.settings.map((each) => each.name)).toEqual(SETTING_NAMES)
    expect(setting('namespace')).toMatchObject({ value: 'n', from: '--namespace', rank: 'flag' })
    expect(setting('port')).toMatchObject({ value: '7000', from: 'TILEFOLD_PORT', rank: 'env' })
    expect(setting('kafka_brokers')).toMatchObject({ value: 'a:9092,b:9092', from: `${config}: kafka_brokers` })
    expect(setting('store')).toMatchObject({ value: join(folder, 'data'), rank: 'config' })
    expect(setting('host')).toMatchObject({ value: '127.0.0.1', from: 'default', rank: 'default' })
    expect(setting('redis_url')).toMatchObject({ value: null, from: null, rank: null })
  })

  it('shows no secret, whichever way it came', async () => {
    const secret = 'hunter2-hunter2-hunter2'
    const file = writeIn(folder, 'password', secret)
    const env = {
      TILEFOLD_TOKEN: secret,
      TILEFOLD_REDIS_URL: `redis://ada:${secret}@r.example:6379`,
      TILEFOLD_REDIS_PASSWORD_FILE: file,
      TILEFOLD_KAFKA_PASSWORD: secret,
    }
    const json = await configOf([], env)
    const table = await cli(['config'], { env })
    const yaml = await cli(['config', '-o', 'yaml'], { env })
    for (const { code, stdout, stderr } of [json, table, yaml]) {
      expect(code).toBe(0)
      expect(stdout + stderr).not.toContain('hunter2')
    }
    expect(json.setting('redis_url').value).toBe('redis://ada:[redacted]@r.example:6379')
    expect(json.setting('token')).toMatchObject({ value: '[redacted]', from: 'TILEFOLD_TOKEN' })
    expect(json.setting('redis_password')).toMatchObject({ value: '[redacted]', from: 'TILEFOLD_REDIS_PASSWORD_FILE' })
    expect(json.setting('redis_password_file').value).toBe(file)
    expect(table.stdout).toMatch(/^SETTING +VALUE +FROM +ABOUT$/m)
    expect(table.stdout).toMatch(/^redis_password +\[redacted\] +TILEFOLD_REDIS_PASSWORD_FILE +password/m)
    expect(table.stdout).toMatch(/^kafka_group +- +- +consumer group/m)
  })

  it('tells every setting that cannot be used, and ends with 1', async () => {
    const { code, stderr, setting } = await configOf([], {
      TILEFOLD_PORT: '70000',
      TILEFOLD_REDIS_TLS: 'yes',
      TILEFOLD_TOKEN_FILE: '/nowhere/token',
    })
    expect(code).toBe(1)
    expect(setting('port').problem).toContain('cannot use TILEFOLD_PORT: got "70000"')
    expect(stderr).toContain(
      'warning: cannot use TILEFOLD_PORT: got "70000", expected a whole number from 0 to 65535\n',
    )
    expect(stderr).toContain('warning: cannot use TILEFOLD_REDIS_TLS: got "yes", expected true or false\n')
    expect(stderr).toContain('warning: cannot read the token that TILEFOLD_TOKEN_FILE names: ENOENT')
    expect(setting('token')).toMatchObject({ value: null })
  })

  it('tells a variable that names no setting', async () => {
    const { code, stderr } = await configOf([], { TILEFOLD_REDIS_ULR: 'redis://r.example', TILEFOLD_DEBUG: '0' })
    expect(code).toBe(0)
    expect(stderr).toBe('warning: TILEFOLD_REDIS_ULR is no setting; did you mean "TILEFOLD_REDIS_URL"?\n')
  })
})
