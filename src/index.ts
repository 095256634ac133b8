/** tilefold: fresh, correct, windowed features. Everything an embedding program needs, in one screen. */

export { compileView } from './define/compile.ts'
// Definitions: what is kept and served.
export * from './define/dsl.ts'
export type { ViewDefinition } from './define/view.ts'
export { parseDefinitions } from './define/yaml.ts'
// The embedded engine: push events, ask for features.
export { createEngine, Engine, type EngineOptions, type PushedBatch, type PushOptions } from './embed/engine.ts'
export type { ForgetReport } from './ingest/erase-request.ts'
export { IngestPool } from './ingest/pool.ts'
export type { SideReason, SideRecord } from './ingest/side.ts'
export type { Column, ColumnBatch } from './model/columns.ts'
export type { Counters } from './model/counters.ts'
export type { TimeRange } from './model/covers.ts'
export { ERRORS, type ErrorCode, TilefoldError } from './model/errors.ts'
export type { FeaturePlan, FeatureStatus, FeatureValue, Plan, WindowPlan } from './model/plan.ts'
// History.
export { type AsServedAnswer, type AsServedOptions, answersAsServed, type ServedVector } from './offline/as-served.ts'
export { type BackfillOptions, type BackfillProgress, type BackfillReport, backfill } from './offline/backfill.ts'
// Serving.
export { compareWithMirror, type ParityOptions, type ParityReport, type RowDifference } from './offline/parity.ts'
export { type RebuildOptions, type RebuildReport, rebuild } from './offline/rebuild.ts'
export { type ServedLogOptions, ServedLogWriter } from './offline/served-log.ts'
// Training sets: batches of columns; `arrowBatches` makes Arrow's record batches of them, `writeTrainingSet` a file.
export { openSpine, type Spine, spineOfTable } from './offline/spine.ts'
export {
  type AskedView,
  type TrainingOptions,
  type TrainingReport,
  type TrainingSet,
  trainingSet,
} from './offline/training.ts'
export { checkLeakage, type LeakageOptions, type LeakageReport } from './offline/training-leakage.ts'
export { arrowBatches, writeTrainingSet } from './offline/training-output.ts'
export {
  type ServedTrainingOptions,
  type ServedTrainingReport,
  type ServedTrainingSet,
  type ServedViewReport,
  servedTrainingSet,
} from './offline/training-served.ts'
export { createFeatureReader, type FeatureReader } from './serve/reader.ts'
export type { ServedLog, ServedRow } from './serve/served.ts'
export { startServer } from './serve/server.ts'
export { createArrowSource } from './source/arrow.ts'
export { createNdjsonSource } from './source/ndjson.ts'
// Sources and stores.
export { createParquetSource } from './source/parquet.ts'
export type { Source, SourceBatch } from './source/port.ts'
export { createLmdbStore } from './store/lmdb.ts'
export { createMemoryStore } from './store/memory.ts'
export type { Store } from './store/port.ts'
export { createRedisStore } from './store/redis.ts'
export type { RedisStoreOptions } from './store/redis-options.ts'
