/** What a history without a cut means, where a stream goes on behind it. */
export const UNCUT =
  'its history has no cut: events that the files and the topic both hold count twice. Where they may, build a generation whose history ends where the stream is to begin (tilefold generation begin, then tilefold backfill --until <instant> --generation n)'
