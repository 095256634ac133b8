import { describe, expect, it } from 'vitest'
import { compileView } from '../../src/define/compile.ts'
import { estimateEntity } from '../../src/define/estimate.ts'
import { parseDefinitions } from '../../src/define/yaml.ts'
import { ordersFolder } from '../support/cli-orders.ts'
import { cli, errorOf, makeOrders, ORDERS_YAML, toLines, writeIn } from './harness.ts'

const { folder, definitions } = ordersFolder()
const plan = await compileView(parseDefinitions(ORDERS_YAML, 'tilefold.yaml').views[0]!)

describe('tilefold validate', () => {
  it('prints hashes, ladder, features and the cost of an entity', async () => {
    const { code, stdout, stderr } = await cli(['validate', definitions, '--rate', '30/m', '-o', 'json'])
    expect(code, stderr).toBe(0)
    const result = JSON.parse(stdout)
    expect(result).toMatchObject({ file: definitions, namespace: 'shop' })
    expect(result.views).toEqual([
      expect.objectContaining({
        view: 'orders_by_customer',
        state_hash: plan.stateHash,
        definition_hash: plan.definitionHash,
        windows: [
          { length: '1h', start_step: '5m' },
          { length: '1d', start_step: '1h' },
        ],
        features: plan.features.map(({ name, op, type, window }) => ({ name, op, type, window: ['1h', '1d'][window] })),
      }),
    ])
    expect(result.views[0].ladder).toEqual(
      plan.state.ladder.map(({ keepMs }, i) => ({
        step: ['5m', '1h', '1d'][i],
        keep: expect.stringMatching(/^(\d+[dhm])+$/),
        ...(keepMs > 0 ? {} : { wrong: true }),
      })),
    )
    expect(result.views[0].estimate).toMatchObject({
      events_per_second: 0.5,
      total_bytes: estimateEntity(plan, 0.5).totalBytes,
    })
  })

  it('prints a table for people', async () => {
    const { stdout } = await cli(['validate', '-f', definitions])
    expect(stdout).toContain(`${definitions}: 1 view, namespace shop`)
    expect(stdout).toMatch(/features +4: count_\{1h,24h\}, amount_sum_24h, items_last_24h/)
    expect(stdout).toMatch(/TILE +KEPT +TILES +BYTES EACH +START OF WINDOWS\n +5m .* 1h\n/)
    expect(stdout).toMatch(/at most at 1 event\/m/)
  })

  it('tells every mistake with its line and column, and what was meant', async () => {
    const wrong = ORDERS_YAML.replace('time: at', 'time: att')
      .replace('op: sum', 'op: summ')
      .replace('windows: [24h]', 'windows: [24x]')
    const file = writeIn(folder, 'wrong.yaml', wrong)
    const { code, stderr } = await cli(['validate', file])
    expect(code).toBe(1)
    expect(stderr).toMatch(/^error DEFINITION_INVALID: cannot use definition: 3 problems\n/)
    expect(stderr).toContain(`${file}:6:11: `)
    expect(stderr).toContain('did you mean "at"?')
    expect(stderr).toContain(`${file}:9:15: `)
    expect(stderr).toContain('did you mean "sum"?')
    expect(stderr).toContain('"24x"')
  })

  it('tells the mistakes of several views at once', async () => {
    const second = ORDERS_YAML.split('views:\n')[1]!.replace('orders_by_customer', 'second')
    const file = writeIn(
      folder,
      'two.yaml',
      `${ORDERS_YAML}${second}`.replaceAll('time: at', 'time: at\n    filter: amount +'),
    )
    const outcome = await cli(['validate', file, '-o', 'json'])
    expect(errorOf(outcome)).toMatchObject({
      code: 'EXPRESSION_INVALID',
      details: { problems: [{ line: 7 }, { line: 16 }] },
    })
  })

  it('reads views from a module, too', async () => {
    const library = JSON.stringify(new URL('../../dist/src/index.js', import.meta.url).href)
    const text = `import { count, defineView, timestamp, utf8 } from ${library}
const source = { name: 's', columns: { at: timestamp(), k: utf8() } }
const make = (name) => defineView({ name, source, entity: 'k', time: 'at', aggregations: [count({ windows: ['1h'] })] })
export const namespace = 'made'
export const one = make('one')
export const others = [make('two'), make('three')]
`
    const { code, stdout, stderr } = await cli(['validate', writeIn(folder, 'views.mjs', text), '-o', 'json'])
    expect(code, stderr).toBe(0)
    const { namespace, views } = JSON.parse(stdout) as { namespace: string; views: { view: string }[] }
    expect(namespace).toBe('made')
    expect(views.map((each) => each.view).sort()).toEqual(['one', 'three', 'two'])

    const empty = await cli([
      'validate',
      writeIn(folder, 'empty.mjs', 'export const view = { name: "v" }\n'),
      '-o',
      'json',
    ])
    expect(errorOf(empty).message).toContain('it exports no view; got view')
  })

  it.each(['1', '0/s', '-1/s', '1/y', 'x/s', '1e9/s'])('refuses a rate of %s', async (rate) => {
    const outcome = await cli(['validate', definitions, `--rate=${rate}`, '-o', 'json'])
    expect(outcome.code).toBe(2)
    expect(errorOf(outcome).message).toContain('cannot use --rate')
  })
})

describe('validate --sample', () => {
  const orders = makeOrders(400)

  async function sample(rows: readonly object[], ...args: string[]) {
    const file = writeIn(folder, 'sample.ndjson', toLines(rows))
    return cli(['validate', definitions, '--sample', file, '-o', 'json', ...args])
  }

  it('reports nulls, span, and the hottest entities with what their rows take', async () => {
    const rows = orders.map((order, i) => ({ ...order, amount: i % 4 === 0 ? null : order.amount }))
    const { code, stdout, stderr } = await sample(rows)
    expect(code, stderr).toBe(0)
    const { sample: report } = JSON.parse(stdout)
    expect(report).toMatchObject({ rows: 400, cut: false, warnings: [] })
    const nulls = Object.fromEntries(
      report.columns.map((column: { name: string; nulls: number }) => [column.name, column.nulls]),
    )
    expect(nulls).toEqual({ at: 0, amount: 0.25, customer: 0, items: 0 })
    const [view] = report.views
    expect(view).toMatchObject({ first: '2025-01-01T00:00:00Z', last: '2025-01-03T18:30:00Z', entities: 3 })
    // ada has every other row.
    const seconds = (Date.parse(view.last) - Date.parse(view.first)) / 1000
    expect(view.hottest[0]).toEqual({
      key: 'ada',
      rows: 200,
      share: 0.5,
      events_per_second: 200 / seconds,
      bytes: estimateEntity(plan, 200 / seconds).totalBytes,
    })
  })

  it('looks at no more rows than it is told', async () => {
    const { stdout } = await sample(orders, '--sample-rows', '50')
    expect(JSON.parse(stdout).sample).toMatchObject({ rows: 50, cut: true })
  })

  it('warns of times in another unit, of columns of nulls, of rows that grow too large', async () => {
    const seconds = await sample(orders.map((order) => ({ ...order, at: Date.parse(order.at) / 1000 })))
    expect(seconds.code).toBe(0)
    expect(seconds.stderr).toContain('warning: column "at": ')
    expect(seconds.stderr).toContain('is the unit s?')

    const empty = await sample(orders.map(({ amount: _amount, ...order }) => order))
    expect(empty.stderr).toContain('column "amount" is null in every row')

    const burst = Array.from({ length: 20_000 }, (_, i) => ({
      ...orders[0],
      at: Date.UTC(2025, 0, 1) + Math.floor(i / 100),
    }))
    const hot = await sample(burst)
    expect(hot.stderr).toMatch(/at its rate in the sample the row of entity ada takes [\d.]+ [MG]iB; "head_step" keeps/)
  })

  it('tells every column that does not fit', async () => {
    const { parquetWriteBuffer } = await import('hyparquet-writer')
    const columnData = [
      { name: 'at', data: orders.map((order) => order.at), type: 'STRING' as const },
      { name: 'customer', data: orders.map((order) => order.customer), type: 'STRING' as const },
      { name: 'amounts', data: orders.map((order) => order.amount), type: 'DOUBLE' as const },
      { name: 'items', data: orders.map((order) => BigInt(order.items)), type: 'INT64' as const },
    ]
    const file = writeIn(folder, 'sample.parquet', new Uint8Array(parquetWriteBuffer({ columnData })))
    const outcome = await cli(['validate', definitions, '--sample', file, '-o', 'json'])
    expect(outcome.code).toBe(1)
    expect(errorOf(outcome).message).toContain('2 columns do not fit')
    expect(errorOf(outcome).details.columns).toMatchObject([
      { code: 'COLUMN_MISSING', column: 'amount', suggestion: 'amounts' },
      { code: 'COLUMN_TYPE', column: 'at' },
    ])
  })
})
