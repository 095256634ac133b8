/*
 * Fold yardstick: events (entity id, time, value) into five-minute tiles of {count, sum, min, max, last}, in the layout
 * that won among those tried: panes.
 *
 *   pane      one per open tile: u32 index[entity] -> slot number, 0 = no tile yet; cleared when the pane opens
 *   slot      64 bytes (96 with squares), append-only, so a tile is one cache line (one and a half)
 *
 *     0        8       12           16    24    32     40         56      64 ------------- 96
 *     | tag u64 | count | last offset | min | max | last | sum (16) | unused | squares (32) |
 *
 * The loop is staged twice ahead: touch the index entry, then touch the slot, then fold. Sums are a plain double, or exact
 * in 128-bit fixed point (Q64.64, 2^-12 <= |v| < 2^52; the workload has no other values), squares likewise in 256 bits.
 *
 * usage: fold FILE; columns: 0 entity u32, 1 time i64 ms, 2 value f64
 * variants: plain, exact, plain-squares, exact-squares
 */
#include "yardstick.h"

#define TILES_MAX 64
/* Events between touching an index entry and touching its slot, and again until the fold; 4 to 32 differ by less than 5 %. */
#define AHEAD 16

typedef unsigned __int128 u128;

typedef struct {
  uint64_t tag;
  uint32_t count, last_offset;
  double min, max, last;
  union {
    double plain;
    uint64_t limbs[2];
  } sum;
  uint64_t unused;
} Slot;

typedef struct {
  Slot base;
  union {
    double plain;
    uint64_t limbs[4];
  } squares;
} WideSlot;

_Static_assert(sizeof(Slot) == 64 && sizeof(WideSlot) == 96, "slot sizes");

static Dataset set;
static const uint32_t *entities;
static const int64_t *times;
static const double *values;
static uint32_t *panes[TILES_MAX];
static uint8_t open_panes[TILES_MAX];
static uint8_t *slots;

static __attribute__((noinline)) void open_pane(uint32_t tile) {
  memset(panes[tile], 0, (size_t)set.entities * 4);
  open_panes[tile] = 1;
}

/* offset / step for any 32-bit offset, `reciprocal` being 2^64 / step rounded up. */
static inline uint32_t tile_of(uint32_t offset, uint64_t reciprocal) {
  return (uint32_t)(((u128)offset * reciprocal) >> 64);
}

static inline void fold_sum(uint64_t *limbs, uint64_t mantissa, uint32_t shift, uint64_t sign) {
  u128 term = ((u128)((mantissa >> 1) >> (63 - shift)) << 64) | (mantissa << shift);
  u128 mask = ((u128)sign << 64) | sign;
  u128 sum = ((u128)limbs[1] << 64) | limbs[0];
  sum += (term ^ mask) - mask;
  limbs[0] = (uint64_t)sum;
  limbs[1] = (uint64_t)(sum >> 64);
}

static inline void fold_square(uint64_t *limbs, uint64_t mantissa, uint32_t shift) {
  u128 product = (u128)mantissa * mantissa;
  uint32_t bits = (2 * shift) & 63;
  uint64_t low = (uint64_t)product, high = (uint64_t)(product >> 64);
  uint64_t a = low << bits;
  uint64_t b = (high << bits) | ((low >> 1) >> (63 - bits));
  uint64_t c = (high >> 1) >> (63 - bits);
  /* 2 * shift is below 128: the product starts in limb 0 or limb 1. */
  uint64_t up = (uint64_t)0 - (uint64_t)(shift >> 5);
  uint64_t w0 = a & ~up, w1 = (b & ~up) | (a & up), w2 = (c & ~up) | (b & up), w3 = c & up;
  unsigned long long carry = 0, sum;
  sum = (unsigned long long)limbs[0] + w0;
  carry = sum < w0;
  limbs[0] = sum;
  u128 wide = (u128)limbs[1] + w1 + carry;
  limbs[1] = (uint64_t)wide;
  wide = (u128)limbs[2] + w2 + (uint64_t)(wide >> 64);
  limbs[2] = (uint64_t)wide;
  limbs[3] += w3 + (uint64_t)(wide >> 64);
}

#define FOLD(NAME, SLOT_BYTES, EXACT, SQUARES)                                                                         \
  static uint32_t NAME(void) {                                                                                         \
    uint32_t rows = set.rows, step = set.step_ms, used = 0;                                                            \
    int64_t start = set.start_ms;                                                                                      \
    uint64_t reciprocal = UINT64_MAX / step + 1;                                                                       \
    memset(open_panes, 0, sizeof open_panes);                                                                          \
    for (uint32_t i = 0; i < rows; i++) {                                                                              \
      if (likely(i + 2 * AHEAD < rows)) {                                                                              \
        uint32_t j = i + 2 * AHEAD;                                                                                    \
        __builtin_prefetch(&panes[tile_of((uint32_t)(times[j] - start), reciprocal)][entities[j]], 1, 3);                            \
      }                                                                                                                \
      if (likely(i + AHEAD < rows)) {                                                                                  \
        uint32_t j = i + AHEAD;                                                                                        \
        uint32_t number = panes[tile_of((uint32_t)(times[j] - start), reciprocal)][entities[j]];                                     \
        __builtin_prefetch(slots + (size_t)number * SLOT_BYTES, 1, 3);                                                 \
        if (SLOT_BYTES > 64) __builtin_prefetch(slots + (size_t)number * SLOT_BYTES + 64, 1, 3);                       \
      }                                                                                                                \
      uint32_t offset = (uint32_t)(times[i] - start);                                                                  \
      uint32_t tile = tile_of(offset, reciprocal);                                                                                   \
      offset -= tile * step;                                                                                           \
      if (unlikely(!open_panes[tile])) open_pane(tile);                                                                \
      uint32_t *entry = &panes[tile][entities[i]];                                                                     \
      double value = values[i];                                                                                        \
      uint64_t bits, sign;                                                                                             \
      memcpy(&bits, &value, 8);                                                                                        \
      uint32_t shift = ((uint32_t)(bits >> 52) & 0x7ff) - 1011;                                                        \
      uint64_t mantissa = (bits & 0xfffffffffffffull) | 0x10000000000000ull;                                           \
      sign = (uint64_t)((int64_t)bits >> 63);                                                                          \
      if (EXACT && unlikely(shift > 63)) fail("a value outside 2^-12 .. 2^52");                                        \
      if (unlikely(*entry == 0)) {                                                                                     \
        *entry = ++used;                                                                                               \
        WideSlot *fresh = (WideSlot *)(slots + (size_t)used * SLOT_BYTES);                                             \
        fresh->base = (Slot){.tag = ((uint64_t)tile << 32) | entities[i], .count = 0, .last_offset = offset,           \
                             .min = value, .max = value, .last = value};                                               \
        if (SQUARES) memset(&fresh->squares, 0, sizeof fresh->squares);                                                \
      }                                                                                                                \
      WideSlot *slot = (WideSlot *)(slots + (size_t)*entry * SLOT_BYTES);                                              \
      slot->base.count++;                                                                                              \
      slot->base.min = value < slot->base.min ? value : slot->base.min;                                                \
      slot->base.max = value > slot->base.max ? value : slot->base.max;                                                \
      if (offset >= slot->base.last_offset) {                                                                          \
        slot->base.last_offset = offset;                                                                               \
        slot->base.last = value;                                                                                       \
      }                                                                                                                \
      if (EXACT) fold_sum(slot->base.sum.limbs, mantissa, shift, sign);                                                \
      else slot->base.sum.plain += value;                                                                              \
      if (SQUARES && EXACT) fold_square(slot->squares.limbs, mantissa, shift);                                         \
      else if (SQUARES) slot->squares.plain += value * value;                                                          \
    }                                                                                                                  \
    return used;                                                                                                       \
  }

FOLD(fold_plain, 64, 0, 0)
FOLD(fold_exact, 64, 1, 0)
FOLD(fold_plain_squares, 96, 0, 1)
FOLD(fold_exact_squares, 96, 1, 1)

static double fixed_to_double(uint64_t low, uint64_t high) {
  return (double)(__int128)(((u128)high << 64) | low) * 0x1p-64;
}

static uint64_t round_of(const char *variant, uint64_t *ops, Checksum *sum) {
  int exact = strncmp(variant, "exact", 5) == 0, squares = strstr(variant, "squares") != NULL;
  size_t slot_bytes = squares ? 96 : 64;
  uint64_t start = now_ns();
  uint32_t used = exact ? (squares ? fold_exact_squares() : fold_exact())
                        : (squares ? fold_plain_squares() : fold_plain());
  uint64_t ns = now_ns() - start;

  for (uint32_t number = 1; number <= used; number++) {
    WideSlot *slot = (WideSlot *)(slots + number * slot_bytes);
    uint32_t words[13] = {(uint32_t)(slot->base.tag >> 32), (uint32_t)slot->base.tag, slot->base.count};
    uint64_t *limbs = slot->base.sum.limbs;
    put_double(words + 3, exact ? fixed_to_double(limbs[0], limbs[1]) : slot->base.sum.plain);
    put_double(words + 5, slot->base.min);
    put_double(words + 7, slot->base.max);
    put_double(words + 9, slot->base.last);
    limbs = slot->squares.limbs;
    if (squares) put_double(words + 11, exact ? fixed_to_double(limbs[1], limbs[2]) : slot->squares.plain);
    add_record(sum, words, squares ? 13 : 11);
  }
  *ops = set.rows;
  return ns;
}

int main(int count, char **arguments) {
  check_machine();
  if (count != 2) fail("usage: fold FILE");
  set = open_dataset(arguments[1]);
  entities = column_of(&set, 0);
  times = column_of(&set, 1);
  values = column_of(&set, 2);

  uint32_t tiles = 0;
  for (uint32_t i = 0; i < set.rows; i++) {
    uint32_t tile = (uint32_t)(times[i] - set.start_ms) / set.step_ms;
    if (tile >= TILES_MAX || entities[i] >= set.entities) fail("an event outside the declared range");
    if (tile + 1 > tiles) tiles = tile + 1;
  }
  for (uint32_t tile = 0; tile < tiles; tile++) panes[tile] = pages((size_t)set.entities * 4);
  size_t slots_max = (size_t)set.entities * tiles;
  if (slots_max > set.rows) slots_max = set.rows;
  slots = pages((slots_max + 1) * 96);
  return serve(round_of);
}
