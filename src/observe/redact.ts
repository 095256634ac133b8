/** What nobody may read in a log or a list of settings: passwords in addresses, secrets, and whom the data are about. */

export const REDACTED = '[redacted]'

/**
 * `redis://user:[redacted]@host:6379`. What stands between the first user's name and the last `@` goes, whatever it is: a
 * password that was not escaped as it should be must not show either. A name alone may be a password, and goes as well.
 */
export function redactAddress(text: string): string {
  const [, scheme = '', rest] = /^(\s*[a-z][a-z0-9+.-]*:\/\/)?(.*)$/is.exec(text)!
  const [address, query] = rest!.split(/\?(?=[^@]*$)/, 2)
  const at = address!.lastIndexOf('@')
  const [user = ''] = /^[^:@,]*:(?=.*@)/s.exec(address!) ?? []
  const shown = at < 0 ? address! : `${user}${REDACTED}${address!.slice(at)}`
  return `${scheme}${shown}${query === undefined ? '' : `?${REDACTED}`}`
}

/** Addresses anywhere in a text, and what follows `Bearer`. */
export function redactText(text: string): string {
  if (!text.includes('://') && !/bearer/i.test(text)) return text
  return text
    .replaceAll(/[a-z][a-z0-9+.-]*:\/\/[^\s"'<>]+/gi, redactAddress)
    .replaceAll(/(bearer)\s+\S+/gi, `$1 ${REDACTED}`)
}

/** Entities, what events hold, and secrets, by the names such things have here. */
const SECRET_NAMES =
  /^(keys?|entity|entities|values?|payload|body|row|headers|authorization|cookie)$|token|password|passwd|secret/i

/** Deeper than this nothing is told: logs are lines. */
const DEPTH_MAX = 4

/** The same data, without what nobody may read; errors become what can be told of them. */
export function redactFields(value: unknown, depth = 0): unknown {
  if (typeof value === 'string') return redactText(value)
  if (typeof value === 'bigint') return value.toString()
  if (typeof value !== 'object' || value === null) return value
  if (depth >= DEPTH_MAX || ArrayBuffer.isView(value)) return REDACTED
  if (value instanceof Error) return redactError(value, depth)
  if (value instanceof Date) return value
  if (Array.isArray(value)) return value.map((each) => redactFields(each, depth + 1))
  const told: Record<string, unknown> = {}
  for (const [name, each] of Object.entries(value)) {
    told[name] = SECRET_NAMES.test(name) ? REDACTED : redactFields(each, depth + 1)
  }
  return told
}

function redactError(error: Error, depth: number): object {
  const { code, details } = error as { code?: unknown; details?: unknown }
  return {
    name: error.name,
    ...(typeof code === 'string' ? { code } : {}),
    message: redactText(error.message),
    ...(details === undefined ? {} : { details: redactFields(details, depth + 1) }),
    ...(error.cause === undefined ? {} : { cause: redactFields(error.cause, depth + 1) }),
    // Whoever names the error knows where it comes from; of any other, only the stack tells.
    ...(typeof code === 'string' || error.stack === undefined ? {} : { stack: redactText(error.stack) }),
  }
}
