/**
 * The oracle: quadratic, obviously right, and sharing nothing with the engine but the plan. Everything clever is compared
 * with it.
 *
 *   events --naiveAccept--> applied --naiveFeatures--> what a request must answer
 *                                   --naiveTiles-----> what a row must hold
 */
export type { Acceptance, AcceptOptions, Verdict } from './accept.ts'
export { countVerdicts, naiveAccept } from './accept.ts'
export type { Cell, NaiveEvent, Value } from './event.ts'
export { compareBytes, compareEvents, compareValues, eventsOf, sameKey, timeOf, valueIn } from './event.ts'
export type { NaiveFeature } from './features.ts'
export { naiveFeatures, windowOf } from './features.ts'
export type { Frontiers, NaivePartial, NaiveTiles } from './tiles.ts'
export { naivePartial, naiveTiles } from './tiles.ts'
