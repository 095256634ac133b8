/** What the checkpoint of a routed lane says of the logs that are routed into it. */
export interface RouteNote {
  /** Logs that the topic is routed from; 0 before one was heard of. */
  readonly logs: number
  readonly sources: readonly (readonly [log: string, state: SourceState])[]
}

export interface SourceState {
  /** The lane holds everything of the log before it. */
  readonly to: number
  readonly clockMs: number
  readonly isIdle: boolean
}

/** '' is the note of a lane that begins. */
export function readNote(text: string): RouteNote {
  return text === '' ? { logs: 0, sources: [] } : (JSON.parse(text) as RouteNote)
}
