/** compose.yaml and Dockerfile against what they speak of: settings, commands, files. Neither is run here. */
import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { parse } from 'yaml'
import { COMMANDS } from '../../src/cli/commands.ts'
import { SETTING_NAMES } from '../../src/cli/setting-kinds.ts'
import { Settings, variableOf } from '../../src/cli/settings.ts'
import { cli, makeFolder, root } from './harness.ts'

interface Service {
  readonly image?: string
  readonly build?: string
  readonly command?: readonly string[]
  readonly environment?: Readonly<Record<string, string>>
  readonly depends_on?: Readonly<Record<string, { readonly condition: string }>>
  readonly secrets?: readonly string[]
  readonly volumes?: readonly (string | { readonly source: string; readonly target: string })[]
  readonly ports?: readonly string[]
  readonly healthcheck?: { readonly test: readonly string[] }
}

const compose = parse(readFileSync(join(root, 'compose.yaml'), 'utf8'), { merge: true }) as {
  readonly services: Readonly<Record<string, Service>>
  readonly volumes: object
  readonly secrets: object
}
const services = Object.entries(compose.services)
const ours = services.filter(([, service]) => service.build !== undefined)
const dockerfile = readFileSync(join(root, 'Dockerfile'), 'utf8')

describe('compose.yaml', () => {
  it('has a broker, Redis, two workers and a server', () => {
    expect(Object.keys(compose.services)).toEqual(['kafka', 'topics', 'redis', 'worker-1', 'worker-2', 'server'])
    expect(compose.services.kafka!.image).toBe('apache/kafka:4.2.1')
    const command = compose.services.redis!.command!
    expect(command[command.indexOf('--maxmemory-policy') + 1]).toBe('noeviction')
    expect(command[command.indexOf('--appendonly') + 1]).toBe('yes')
  })

  it('waits for services, and mounts volumes and secrets, that are there', () => {
    for (const [name, service] of services) {
      for (const [other, { condition }] of Object.entries(service.depends_on ?? {})) {
        expect(compose.services[other], `${name} waits for ${other}`).toBeDefined()
        if (condition === 'service_healthy') expect(compose.services[other]!.healthcheck, other).toBeDefined()
      }
      for (const secret of service.secrets ?? []) expect(compose.secrets).toHaveProperty(secret)
      for (const volume of service.volumes ?? []) {
        if (typeof volume === 'string') expect(compose.volumes).toHaveProperty(volume.split(':')[0]!)
      }
    }
  })

  it.each(ours)('gives %s a command there is and settings that can be used', async (_name, service) => {
    expect(COMMANDS.map(({ name }) => name)).toContain(service.command![0])
    const environment = service.environment!
    for (const [variable, value] of Object.entries(environment)) {
      expect(SETTING_NAMES.map(variableOf), variable).toContain(variable)
      expect(typeof value, variable).toBe('string')
    }
    const settings = await Settings.open({}, { ...environment, TILEFOLD_TOKEN_FILE: undefined })
    for (const name of SETTING_NAMES) settings.check(name)
    const secret = environment.TILEFOLD_TOKEN_FILE!.replace('/run/secrets/', '')
    expect(service.secrets).toContain(secret)
  })

  it.each(ours)('asks the health of %s where it listens', (_name, service) => {
    const { TILEFOLD_PORT, TILEFOLD_METRICS_PORT } = service.environment!
    expect(service.healthcheck!.test.at(-1)).toContain(`http://127.0.0.1:${TILEFOLD_PORT ?? TILEFOLD_METRICS_PORT}/`)
    for (const port of service.ports ?? []) expect(port).toBe(`127.0.0.1:${TILEFOLD_PORT}:${TILEFOLD_PORT}`)
  })

  it('reads the topic that the definitions of "tilefold init" take their events from', async () => {
    const folder = makeFolder()
    await cli(['init', folder])
    const { views } = parse(readFileSync(join(folder, 'tilefold.yaml'), 'utf8')) as {
      views: readonly { source: { name: string } }[]
    }
    const script = compose.services.topics!.command!.join('\n')
    for (const { source } of views) expect(script).toMatch(new RegExp(`^for topic in .*\\b${source.name}\\b`, 'm'))
    expect(script).toContain(compose.services['worker-1']!.environment!.TILEFOLD_DEAD_LETTER_TOPIC)
  })
})

describe('Dockerfile', () => {
  it('copies what is there and is not ignored, builds with scripts there are, and runs as nobody special', () => {
    const ignored = readFileSync(join(root, '.dockerignore'), 'utf8').split('\n')
    const [, build] = /^COPY (package\.json .*) \.\/$/m.exec(dockerfile)!
    for (const file of build!.split(' ')) {
      expect(existsSync(join(root, file)), file).toBe(true)
      expect(ignored).not.toContain(file)
    }
    for (const needed of ['src', 'assembly', '.ci', 'tsconfig.json', 'asconfig.json']) {
      expect(ignored).not.toContain(needed)
    }
    const { scripts, bin } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')) as {
      scripts: object
      bin: { tilefold: string }
    }
    for (const [, script] of dockerfile.matchAll(/npm run ([\w:]+)/g)) expect(scripts).toHaveProperty(script!)
    expect(dockerfile).toContain(`ln -s /app/${bin.tilefold} /usr/local/bin/tilefold`)
    expect(dockerfile).toMatch(/^USER node\n(?:.*\n)*ENTRYPOINT \["tilefold"\]$/m)
    expect(dockerfile.match(/^FROM node:24-slim/gm)).toHaveLength(2)
  })
})
