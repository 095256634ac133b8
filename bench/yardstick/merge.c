/*
 * Merge yardstick: the tiles of one entity, in three runs (five minutes, an hour, a day; each newest first, at most one
 * tile per step), into the aggregates of nested windows that end at one instant.
 *
 *   tile, 48 bytes    | number u32 | count u32 | min | max | sum | last | last offset u32 | unused u32 |
 *
 * Two ways over the same bytes:
 *   segments    cut each run at the window starts, add up the tiles between two cuts with no test inside the loop, copy
 *               the running total out at each start: every tile is added once
 *   checks      test each tile against each window: what a straightforward loop does
 *
 * Tiles come newest first and don't overlap, so the last value is that of the first tile met.
 *
 * usage: merge FILE; rows are tiles, sorted by entity and then newest first, finest level first:
 *   0 entity u32, 1 level u32, 2 tile number u32, 3 count u32, 4 sum, 5 min, 6 max, 7 last f64, 8 last offset u32,
 *   9 window starts i64 (shortest window first), 10 level steps i64 ms, 11 requests u32: entity of each request
 * variants: segments, checks
 */
#include "yardstick.h"

#define LEVELS 3
#define WINDOWS_MAX 8

typedef struct {
  uint32_t number, count;
  double min, max, sum, last;
  uint32_t last_offset, unused;
} Tile;

typedef struct {
  uint64_t count;
  double sum, min, max, last;
} Answer;

/* One entity: a header of runs, its tiles right behind. */
typedef struct {
  uint32_t first[LEVELS], tiles[LEVELS];
} Row;

static Dataset set;
static Row *rows;
static Tile *tiles;
static const int64_t *starts, *steps;
static const uint32_t *requests;
static uint32_t window_count, request_count;
/* First tile number of each window, by level: the starts lie on tile edges of the level they cut. */
static uint32_t bounds[LEVELS][WINDOWS_MAX];

/* How many of a run's tiles, newest first, are numbered `bound` or higher. Right at once where no step is missing. */
static inline uint32_t tiles_from(const Tile *run, uint32_t count, uint32_t bound) {
  if (count == 0 || run[0].number < bound) return 0;
  uint32_t high = run[0].number - bound + 1, low = 0;
  if (high > count) high = count;
  if (run[high - 1].number >= bound) return high;
  while (low < high) {
    uint32_t middle = (low + high) / 2;
    if (run[middle].number >= bound) low = middle + 1;
    else high = middle;
  }
  return low;
}

static __attribute__((noinline)) void merge_segments(const Row *row, Answer *answers) {
  const Tile *run[LEVELS];
  uint32_t done[LEVELS];
  Answer total = {0, 0, __builtin_inf(), -__builtin_inf(), 0};
  for (int level = 0; level < LEVELS; level++) {
    run[level] = tiles + row->first[level];
    done[level] = 0;
  }
  for (uint32_t window = 0; window < window_count; window++) {
    for (int level = 0; level < LEVELS; level++) {
      uint32_t end = tiles_from(run[level], row->tiles[level], bounds[level][window]);
      if (total.count == 0 && done[level] < end) total.last = run[level][done[level]].last;
      uint64_t count = total.count;
      double sum = total.sum, min = total.min, max = total.max;
      for (const Tile *tile = run[level] + done[level], *stop = run[level] + end; tile < stop; tile++) {
        count += tile->count;
        sum += tile->sum;
        min = tile->min < min ? tile->min : min;
        max = tile->max > max ? tile->max : max;
      }
      total = (Answer){count, sum, min, max, total.last};
      done[level] = end;
    }
    answers[window] = total;
  }
}

static __attribute__((noinline)) void merge_checks(const Row *row, Answer *answers) {
  Answer totals[WINDOWS_MAX];
  uint32_t windows = window_count;
  for (uint32_t window = 0; window < windows; window++) {
    totals[window] = (Answer){0, 0, __builtin_inf(), -__builtin_inf(), 0};
  }
  for (int level = 0; level < LEVELS; level++) {
    const Tile *tile = tiles + row->first[level], *stop = tile + row->tiles[level];
    int64_t step = steps[level];
    for (; tile < stop; tile++) {
      int64_t start = (int64_t)tile->number * step;
      for (uint32_t window = 0; window < windows; window++) {
        if (start < starts[window]) continue;
        Answer *total = &totals[window];
        if (total->count == 0) total->last = tile->last;
        total->count += tile->count;
        total->sum += tile->sum;
        total->min = tile->min < total->min ? tile->min : total->min;
        total->max = tile->max > total->max ? tile->max : total->max;
      }
    }
  }
  memcpy(answers, totals, windows * sizeof(Answer));
}

static uint64_t round_of(const char *variant, uint64_t *ops, Checksum *sum) {
  void (*merge)(const Row *, Answer *) = strcmp(variant, "checks") == 0 ? merge_checks : merge_segments;
  Answer answers[WINDOWS_MAX];
  uint64_t start = now_ns();
  for (uint32_t i = 0; i < request_count; i++) merge(&rows[requests[i]], answers);
  uint64_t ns = now_ns() - start;

  for (uint32_t entity = 0; entity < set.entities; entity++) {
    merge(&rows[entity], answers);
    for (uint32_t window = 0; window < window_count; window++) {
      uint32_t words[11] = {window, entity, (uint32_t)answers[window].count};
      put_double(words + 3, answers[window].sum);
      put_double(words + 5, answers[window].min);
      put_double(words + 7, answers[window].max);
      put_double(words + 9, answers[window].last);
      add_record(sum, words, 11);
    }
  }
  *ops = request_count;
  return ns;
}

static uint32_t cells_of(uint32_t column, uint32_t cell_bytes) {
  uint64_t size;
  memcpy(&size, set.bytes + 64 + 16 * (size_t)column + 8, 8);
  return (uint32_t)(size / cell_bytes);
}

int main(int count, char **arguments) {
  check_machine();
  if (count != 2) fail("usage: merge FILE");
  set = open_dataset(arguments[1]);
  const uint32_t *entities = column_of(&set, 0), *levels = column_of(&set, 1), *numbers = column_of(&set, 2);
  const uint32_t *counts = column_of(&set, 3), *last_offsets = column_of(&set, 8);
  const double *sums = column_of(&set, 4), *mins = column_of(&set, 5), *maxs = column_of(&set, 6);
  const double *lasts = column_of(&set, 7);
  starts = column_of(&set, 9);
  steps = column_of(&set, 10);
  requests = column_of(&set, 11);
  window_count = cells_of(9, 8);
  request_count = cells_of(11, 4);
  if (window_count > WINDOWS_MAX || cells_of(10, 8) != LEVELS) fail("too many windows or levels");
  for (int level = 0; level < LEVELS; level++) {
    for (uint32_t window = 0; window < window_count; window++) {
      bounds[level][window] = (uint32_t)((starts[window] + steps[level] - 1) / steps[level]);
    }
  }

  rows = pages((size_t)set.entities * sizeof(Row));
  tiles = pages((size_t)set.rows * sizeof(Tile));
  for (uint32_t i = 0; i < set.rows; i++) {
    Row *row = &rows[entities[i]];
    if (row->tiles[levels[i]]++ == 0) row->first[levels[i]] = i;
    tiles[i] = (Tile){numbers[i], counts[i], mins[i], maxs[i], sums[i], lasts[i], last_offsets[i], 0};
  }
  return serve(round_of);
}
