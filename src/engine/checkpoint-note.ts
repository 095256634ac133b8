/** A checkpoint of the core with a text of the host's behind it: what a routed lane knows of the logs that feed it. */

/** The note in the checkpoint of a lane that is routed. */
export function noteOf(checkpoint: Uint8Array): string {
  return splitNote(checkpoint).note
}

/** A checkpoint, the note, and how long the note is (u32). */
export function withNote(checkpoint: Uint8Array, note: string): Uint8Array {
  const text = Buffer.from(note)
  const length = Buffer.alloc(4)
  length.writeUInt32LE(text.length)
  return Buffer.concat([checkpoint, text, length])
}

/** What is damaged comes out damaged: the core looks at it. */
export function splitNote(all: Uint8Array): { readonly bytes: Uint8Array; readonly note: string } {
  const bytes = Buffer.from(all.buffer, all.byteOffset, all.length)
  const end = bytes.length - 4
  const length = end < 0 ? 0 : Math.min(bytes.readUInt32LE(end), end)
  return {
    bytes: bytes.subarray(0, Math.max(end - length, 0)),
    note: bytes.toString('utf8', Math.max(end - length, 0), Math.max(end, 0)),
  }
}
