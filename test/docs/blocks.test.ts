import { describe, expect, it } from 'vitest'
import { firstMissing, runBlocks, shellBlocks } from './blocks.ts'

const page = (...lines: string[]) => lines.join('\n')

describe('the blocks of a page', () => {
  it('are its shell blocks, each with what is said to come out of it', () => {
    const blocks = shellBlocks(
      page(
        '# A',
        '```sh',
        'one',
        '```',
        '',
        '```text',
        'x  …',
        '```',
        '```sh not-run',
        'two',
        '```',
        '```text',
        'y',
        '```',
        '```ts',
        'z',
        '```',
      ),
    )
    expect(blocks).toEqual([{ line: 2, text: 'one', shows: ['x  …'] }])
    expect(() => shellBlocks(page('```sh', 'one'))).toThrow(/line 1/)
  })

  it('show what they should where each line is there, in this order', () => {
    expect(firstMissing(['a 1', 'c …'], 'x\na   1\nb\n  c 2.5 d\n')).toBeUndefined()
    expect(firstMissing(['b', 'a'], 'a\nb\n')).toBe('a')
    expect(firstMissing(['a.'], 'ab')).toBe('a.')
  })

  it('share one shell, whose first failure is told with its line', async () => {
    const shared = shellBlocks(
      page(
        '```sh',
        'x=7; f() { echo "$x"; }',
        '```',
        '```sh',
        'sleep 60 &',
        'f; npx tilefold --version',
        '```',
        '```text',
        '7',
        '…',
        '```',
      ),
    )
    const [, second] = await runBlocks(shared, {})
    expect(second!.output).toMatch(/^7\n.*\d+\.\d+\.\d+/)
    await expect(
      runBlocks(shellBlocks(page('```sh', 'true', '```', '```sh', 'echo a; false; echo b', '```')), {}),
    ).rejects.toThrow(/line 4 ended with 1[\s\S]*\na\n$/)
    await expect(runBlocks(shellBlocks(page('```sh', 'echo a', '```', '```text', 'b', '```')), {})).rejects.toThrow(
      /"b"/,
    )
  })
})
