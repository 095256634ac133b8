/** Apache Kafka's own jars: fetched once by Maven, kept beside what `npm ci` installed. */
import { execFileSync } from 'node:child_process'
import { existsSync, mkdirSync, mkdtempSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import path from 'node:path'

const VERSION = '4.2.1'
/** Compiled, for the bench, this file is a folder further down. */
const ROOT = path.resolve(import.meta.dirname, import.meta.filename.endsWith('.ts') ? '../..' : '../../..')
const CACHE = path.join(ROOT, 'node_modules/.cache/tilefold')
const JARS = path.join(CACHE, `kafka-${VERSION}`)

const POM = `<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion>
  <groupId>tilefold</groupId><artifactId>kafka-jars</artifactId><version>1</version><packaging>pom</packaging>
  <dependencies>
    <dependency><groupId>org.apache.kafka</groupId><artifactId>kafka_2.13</artifactId><version>${VERSION}</version></dependency>
    <dependency><groupId>org.slf4j</groupId><artifactId>slf4j-nop</artifactId><version>1.7.36</version></dependency>
  </dependencies>
</project>
`

/** The class path of the jars. Throws where there is no Java, or neither jars nor a way to get them. */
export function kafkaClassPath(): string {
  run('java', ['-version'], 'it needs a JDK 17 or newer')
  if (!existsSync(JARS)) fetchJars()
  return path.join(JARS, '*')
}

/** Into a folder of its own first: a half-filled one never has the name, and two processes may fetch at a time. */
function fetchJars(): void {
  mkdirSync(CACHE, { recursive: true })
  const own = mkdtempSync(path.join(CACHE, 'fetch-'))
  try {
    const pom = path.join(own, 'pom.xml')
    const libs = path.join(own, 'libs')
    writeFileSync(pom, POM)
    const goal = ['dependency:copy-dependencies', `-DoutputDirectory=${libs}`]
    run('mvn', ['-q', '-B', '-f', pom, ...goal], 'it fetches the jars of the broker')
    try {
      renameSync(libs, JARS)
    } catch (error) {
      // Another process was faster: its jars are as good.
      if (!existsSync(JARS)) throw error
    }
  } finally {
    rmSync(own, { recursive: true, force: true })
  }
}

function run(command: string, args: readonly string[], why: string): void {
  try {
    execFileSync(command, args, { stdio: ['ignore', 'pipe', 'pipe'] })
  } catch (error) {
    const { code, stdout, message } = error as NodeJS.ErrnoException & { readonly stdout?: Buffer }
    const cause = code === 'ENOENT' ? 'it is not installed' : (stdout?.toString().trim().split('\n')[0] ?? message)
    throw new Error(`cannot run ${command}: ${cause}; ${why}`, { cause: error })
  }
}
