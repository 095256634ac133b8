/**
 * From arguments to an exit code: the parser (the only file that knows commander), settings, the command, and how every
 * failure is told.
 *
 *   0 done   1 failed   2 called wrongly   130, 143 stopped by a signal
 */
import { CommanderError, Command as Parser } from 'commander'
import { TilefoldError } from '../model/errors.ts'
import { type Call, type Command, EXIT_FAILURE, EXIT_OK, EXIT_USAGE, type Flags } from './command.ts'
import { COMMANDS, type CommandEntry } from './commands.ts'
import { FORMATS, type Format, Printer, printError } from './printer.ts'
import { Settings } from './settings.ts'
import { stylist, type Terminal } from './terminal.ts'
import { packageVersion } from './version.ts'

/** Runs the command that `args` name (without the program's own); resolves to the exit code and never rejects. */
export async function runCli(args: readonly string[], terminal: Terminal): Promise<number> {
  let exitCode = EXIT_OK
  // A command line that cannot be understood is told as far as it can be.
  let format = errorFormat(args, terminal)
  const program = createProgram(terminal, async (command, call) => {
    format = call.printer.format
    exitCode = (await command.run(call)) ?? EXIT_OK
  })
  try {
    await program.parseAsync(plainHelp(args), { from: 'user' })
    return exitCode
  } catch (error) {
    if (error instanceof CommanderError && error.exitCode === 0) return EXIT_OK
    const cause = error instanceof CommanderError ? usageError(error) : error
    printError(cause, terminal, format)
    return cause instanceof TilefoldError && cause.code === 'USAGE' ? EXIT_USAGE : EXIT_FAILURE
  }
}

type Run = (command: Command, call: Call) => Promise<void>

function createProgram(terminal: Terminal, run: Run): Parser {
  const program = new Parser('tilefold')
  const style = stylist(terminal.stdout, terminal.env)
  program
    .description('Windowed features for machine learning: events in, canonical tiles, fresh and exact answers out.')
    .version(packageVersion(), '-V, --version', 'print the version')
    .option('-f, --file <file>', 'definitions: YAML, or a module that exports views (tilefold.yaml)')
    .option('--store <dir>', 'directory of the store (.tilefold)')
    .option(
      '--redis-url <url>',
      'Redis in the place of a directory; several nodes of a cluster, or Sentinels, by comma',
    )
    .option('--namespace <name>', "first part of every stored name (the definitions')")
    .option('-o, --output <format>', `form of results and errors: ${FORMATS.join(', ')} (table)`)
    .option('--config <file>', 'settings of this machine (tilefold.config.json, where there is one)')
    .helpOption('-h, --help', 'print help')
    .helpCommand(false)
    .showSuggestionAfterError()
    .exitOverride()
    .configureHelp({ showGlobalOptions: true, styleTitle: (text) => style('bold', text) })
    .configureOutput({
      writeOut: (text) => terminal.stdout.write(text),
      getOutHelpWidth: () => Math.min(terminal.stdout.columns ?? 100, 120),
      getOutHasColors: () => terminal.stdout.isTTY === true,
      // Errors are told once, by runCli.
      writeErr: () => {},
    })
    .addHelpText(
      'after',
      `
Every setting comes from its flag, else from the environment (TILEFOLD_STORE, TILEFOLD_FILE,
TILEFOLD_NAMESPACE, TILEFOLD_OUTPUT, ...), else from tilefold.config.json, else from its default.

Start here, in an empty folder:
  tilefold init
  tilefold backfill events.ndjson
  tilefold get orders_by_customer --entity customer=ada --as-of 2025-01-02T12:00:00Z`,
    )
  for (const entry of COMMANDS) addCommand(program, entry, terminal, run)
  return program
}

function addCommand(program: Parser, entry: CommandEntry, terminal: Terminal, run: Run): void {
  const parser = program.command(entry.name).summary(entry.summary).description(entry.summary)
  program.hook('preSubcommand', async (_program, chosen) => {
    if (chosen !== parser) return
    const command = await entry.load()
    describe(parser, command)
    parser.action(async () => {
      const flags = parser.optsWithGlobals() as Flags
      const settings = await Settings.open(flags, terminal.env)
      const printer = new Printer(terminal, settings.choice('output', FORMATS))
      await run(command, { args: parser.args, flags, settings, terminal, printer })
    })
  })
}

function describe(parser: Parser, command: Command): void {
  // The parser breaks lines by the width of the terminal; paragraphs stay.
  parser.description(command.description.replaceAll(/(\S)\n(?=\S)/g, '$1 '))
  for (const { name, about } of command.arguments) parser.argument(name, about)
  for (const { flags, about, isList } of command.options) {
    if (isList) parser.option(flags, about, (value: string, before: string[] = []) => [...before, value])
    else parser.option(flags, about)
  }
  const examples = command.examples.map(([line, about]) => `  ${line}\n      ${about}\n`)
  parser.addHelpText('after', `\nExamples:\n${examples.join('')}`)
}

/** `help get` is `get --help`, and nothing at all is `--help`. */
function plainHelp(args: readonly string[]): string[] {
  if (args.length === 0) return ['--help']
  if (args[0] === 'help') return [...args.slice(1), '--help']
  return [...args]
}

function usageError(error: CommanderError): TilefoldError {
  const text = error.message.replace(/^error: /, '').replaceAll(/\s*\n\s*/g, ' ')
  return new TilefoldError('USAGE', `cannot understand the command line: ${text}; see --help`)
}

/** How errors are told before the settings are known: the arguments are looked through by hand. */
function errorFormat(args: readonly string[], terminal: Terminal): Format {
  const at = args.findIndex((each) => each === '-o' || each === '--output')
  const given =
    at >= 0 ? args[at + 1] : (args.find((each) => /^(--output=|-o\w)/.test(each)) ?? terminal.env.TILEFOLD_OUTPUT)
  return given?.endsWith('json') ? 'json' : 'table'
}
