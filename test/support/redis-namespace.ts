/** A store whose namespaces are its own: tests that name their lanes alike then share one server without flushing it. */
import type { LaneName, Store } from '../../src/store/port.ts'

export function inNamespace(store: Store, prefix: string): Store {
  // Equal lanes stay one object, as stores remember what they made of a name.
  const renamed = new WeakMap<LaneName, LaneName>()
  const own = (lane: LaneName): LaneName => {
    let name = renamed.get(lane)
    if (name === undefined) {
      name = { ...lane, namespace: `${prefix}-${lane.namespace}` }
      renamed.set(lane, name)
    }
    return name
  }
  return {
    writeBytesMax: store.writeBytesMax,
    takeLane: (lane, nonce) => store.takeLane(own(lane), nonce),
    readLane: (lane) => store.readLane(own(lane)),
    write: (lane, token, sequence, change) => store.write(own(lane), token, sequence, change),
    readCheckpoint: (lane, position) => store.readCheckpoint(own(lane), position),
    readRows: (reads, sink, options) =>
      store.readRows(
        reads.map(({ lane, key }) => ({ lane: own(lane), key })),
        sink,
        options,
      ),
    readOwnRows: (lane, token, sequence, keys, sink) => store.readOwnRows(own(lane), token, sequence, keys, sink),
    readLedger: (lane) => store.readLedger(own(lane)),
    sampleRows: (lanes, count) => store.sampleRows(lanes.map(own), count),
    scanRows: (lane) => store.scanRows(own(lane)),
    readLayout: (namespace, view) => store.readLayout(`${prefix}-${namespace}`, view),
    writeLayout: (namespace, view, expected, layout) =>
      store.writeLayout(`${prefix}-${namespace}`, view, expected, layout),
    close: () => store.close(),
  }
}
