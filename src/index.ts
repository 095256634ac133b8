/** tilefold: fresh, correct, windowed features. Everything an embedding program needs, in one screen. */

// Definitions: what is kept and served.
export * from './define/dsl.ts'
export { compileView } from './define/compile.ts'
export { parseDefinitions } from './define/yaml.ts'
export type { ViewDefinition } from './define/view.ts'
export type { FeaturePlan, FeatureStatus, FeatureValue, Plan, WindowPlan } from './model/plan.ts'

// The embedded engine: push events, ask for features.
export { createEngine, Engine, type EngineOptions, type PushedBatch, type PushOptions } from './embed/engine.ts'
export type { Counters } from './engine/core.ts'
export type { SideReason, SideRecord } from './ingest/side.ts'

// Sources and stores.
export { createParquetSource } from './source/parquet.ts'
export { createNdjsonSource } from './source/ndjson.ts'
export { createArrowSource } from './source/arrow.ts'
export type { Source, SourceBatch } from './source/port.ts'
export type { Column, ColumnBatch } from './model/columns.ts'
export { createLmdbStore } from './store/lmdb.ts'
export { createMemoryStore } from './store/memory.ts'
export type { Store } from './store/port.ts'

// History.
export { backfill, type BackfillOptions, type BackfillProgress, type BackfillReport } from './offline/backfill.ts'
export { IngestPool } from './ingest/pool.ts'

// Serving.
export { createFeatureReader, type FeatureReader } from './serve/reader.ts'
export { startServer } from './serve/server.ts'

export { ERRORS, type ErrorCode, TilefoldError } from './model/errors.ts'
