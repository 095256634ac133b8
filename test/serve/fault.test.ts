import { describe, expect, it } from 'vitest'
import { TilefoldError } from '../../src/model/errors.ts'
import { faultOf } from '../../src/serve/fault.ts'

function told(cause: unknown) {
  const fault = faultOf(cause)
  return { ...fault, body: JSON.parse(fault.body) as { error: { code: string; message: string; details: unknown } } }
}

describe('a fault', () => {
  it('tells a coded error with its facts, wide integers as text', () => {
    const error = new TilefoldError('VIEW_UNKNOWN', 'cannot find view "a"', { view: 'a', id: 9007199254740993n })
    expect(told(error)).toEqual({
      status: 404,
      unexpected: false,
      body: {
        error: {
          code: 'VIEW_UNKNOWN',
          message: 'cannot find view "a"',
          details: { view: 'a', id: '9007199254740993' },
        },
      },
    })
  })

  it('tells nothing of what nobody foresaw', () => {
    for (const cause of [
      new TypeError('secret /etc/path'),
      'secret',
      undefined,
      { statusCode: 500, message: 'secret' },
    ]) {
      const fault = told(cause)
      expect(fault).toMatchObject({ status: 500, unexpected: true, body: { error: { code: 'INTERNAL' } } })
      expect(JSON.stringify(fault.body)).not.toMatch(/secret|stack/)
    }
  })

  it.each([
    [{ statusCode: 413, code: 'FST_ERR_CTP_BODY_TOO_LARGE', message: 'x' }, 413, 'REQUEST_TOO_LARGE'],
    [{ statusCode: 415, message: 'x' }, 415, 'MEDIA_TYPE'],
    [{ statusCode: 400, message: 'Bad URL' }, 400, 'REQUEST_INVALID'],
    [{ code: 'ERR_HTTP_REQUEST_TIMEOUT' }, 408, 'REQUEST_TIMEOUT'],
    [{ code: 'HPE_INVALID_METHOD' }, 400, 'REQUEST_INVALID'],
  ])("gives the HTTP layer's refusals a code: %j", (cause, status, code) => {
    expect(told(cause)).toMatchObject({ status, unexpected: false, body: { error: { code } } })
  })
})
