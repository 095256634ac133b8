/** What can be asked, for `GET /v1/views`. */
import { formatDuration } from '../model/time.ts'
import type { Catalog, ServedView } from './catalog.ts'

export function viewsJson(catalog: Catalog): string {
  return JSON.stringify({ views: catalog.views.map(viewListing) })
}

function viewListing(view: ServedView): object {
  const { plan } = view
  return {
    view: plan.view,
    source: plan.state.source,
    entity: plan.state.entity.map(({ name, type }) => ({ name, type })),
    tiles: plan.state.ladder.map((level) => formatDuration(level.stepMs)),
    ttl: plan.ttlMs === undefined ? undefined : formatDuration(plan.ttlMs),
    definition_hash: plan.definitionHash,
    state_hash: plan.stateHash,
    features: view.features.map((feature) => ({
      ...feature.info,
      view: undefined,
      default: plan.features[feature.index]!.default,
    })),
  }
}
