/*
 * Key interning yardstick: entity keys of 8 to 24 bytes, as offsets and bytes, to dense ids in order of first appearance.
 *
 *   index     u64 entries {tag: high 32 bits of the hash, ref: record offset / 8 + 1}, open addressing, at most half full;
 *             doubled when it would be fuller, from the tags alone
 *   record    {u32 length, u32 id, bytes padded with zeros to 8}, append-only
 *
 * Keys are compared in full. Small tables are probed key by key. Large ones in groups of 128: hash all and touch the index
 * entries, then touch the records, then probe, so that the cache misses of a group overlap.
 *
 * A round interns the whole column into an empty table (growth included) and leaves the id of each row.
 *
 * usage: keys FILE; columns: 0 offsets u32 (rows + 1), 1 bytes
 * variants: plain (key by key), staged (groups), switched (by table size)
 */
#include "yardstick.h"

#define GROUP 128
/* Entries from which the table is probed in groups: the size at which it leaves the L2 cache. */
#define STAGED_ENTRIES (1u << 17)
#define SEED 0x9e6c63d0876a9a35ull

typedef unsigned __int128 u128;

static Dataset set;
static const uint32_t *offsets;
static const uint8_t *bytes;
static uint32_t *ids;
static uint64_t *table, *spare;
static uint8_t *records;
static uint32_t mask, used;
static size_t records_end;

static inline uint64_t word_at(const uint8_t *at) {
  uint64_t word;
  memcpy(&word, at, 8);
  return word;
}

/* The first `length` bytes of the 8 at `at`, the rest zero; the input may be read 8 bytes beyond its end. */
static inline uint64_t tail_at(const uint8_t *at, uint32_t length) {
  return word_at(at) & (UINT64_MAX >> (64 - 8 * length));
}

static inline uint64_t fold_product(uint64_t a, uint64_t b) {
  u128 product = (u128)a * b;
  return (uint64_t)product ^ (uint64_t)(product >> 64);
}

static inline uint64_t hash_key(const uint8_t *key, uint32_t length) {
  uint64_t hash = SEED ^ length;
  while (length > 8) {
    hash = fold_product(hash ^ word_at(key), 0xa0761d6478bd642full);
    key += 8;
    length -= 8;
  }
  if (length > 0) hash = fold_product(hash ^ tail_at(key, length), 0xe7037ed1a0b428dbull);
  return fold_product(hash, 0x8ebc6af09c88c6e3ull);
}

static inline int same_key(const uint8_t *record, const uint8_t *key, uint32_t length) {
  uint32_t stored;
  memcpy(&stored, record, 4);
  if (stored != length) return 0;
  record += 8;
  while (length > 8) {
    if (word_at(record) != word_at(key)) return 0;
    record += 8;
    key += 8;
    length -= 8;
  }
  return length == 0 || word_at(record) == tail_at(key, length);
}

static __attribute__((noinline)) void grow(void) {
  uint32_t wide = 2 * mask + 1;
  memset(spare, 0, ((size_t)wide + 1) * 8);
  for (uint32_t i = 0; i <= mask; i++) {
    if (table[i] == 0) continue;
    uint32_t at = (uint32_t)(table[i] >> 32) & wide;
    while (spare[at] != 0) at = (at + 1) & wide;
    spare[at] = table[i];
  }
  uint64_t *old = table;
  table = spare;
  spare = old;
  mask = wide;
}

static __attribute__((noinline)) uint32_t append(uint32_t tag, const uint8_t *key, uint32_t length) {
  if (2 * (used + 1) > mask) grow();
  uint32_t at = tag & mask;
  while (table[at] != 0) at = (at + 1) & mask;
  table[at] = ((uint64_t)tag << 32) | (uint32_t)(records_end / 8 + 1);
  uint8_t *record = records + records_end;
  uint32_t padded = (length + 7) & ~7u;
  if (padded > 0) memset(record + padded, 0, 8);
  memcpy(record, &length, 4);
  memcpy(record + 4, &used, 4);
  memcpy(record + 8, key, length);
  records_end += 8 + padded;
  return used++;
}

static inline uint32_t intern(uint32_t tag, const uint8_t *key, uint32_t length) {
  for (uint32_t at = tag & mask;; at = (at + 1) & mask) {
    uint64_t entry = table[at];
    if (entry == 0) return append(tag, key, length);
    if ((uint32_t)(entry >> 32) != tag) continue;
    const uint8_t *record = records + ((size_t)(uint32_t)entry - 1) * 8;
    if (likely(same_key(record, key, length))) {
      uint32_t id;
      memcpy(&id, record + 4, 4);
      return id;
    }
  }
}

static uint32_t intern_plain(uint32_t from, uint32_t to) {
  for (uint32_t row = from; row < to; row++) {
    const uint8_t *key = bytes + offsets[row];
    uint32_t length = offsets[row + 1] - offsets[row];
    ids[row] = intern((uint32_t)(hash_key(key, length) >> 32), key, length);
  }
  return to;
}

static uint32_t intern_group(uint32_t from, uint32_t to) {
  uint32_t tags[GROUP];
  if (to - from > GROUP) to = from + GROUP;
  for (uint32_t row = from; row < to; row++) {
    uint32_t tag = (uint32_t)(hash_key(bytes + offsets[row], offsets[row + 1] - offsets[row]) >> 32);
    tags[row - from] = tag;
    __builtin_prefetch(&table[tag & mask], 0, 3);
  }
  for (uint32_t i = 0; i < to - from; i++) {
    uint32_t at = tags[i] & mask;
    while (table[at] != 0 && (uint32_t)(table[at] >> 32) != tags[i]) at = (at + 1) & mask;
    if (table[at] != 0) __builtin_prefetch(records + ((size_t)(uint32_t)table[at] - 1) * 8, 0, 3);
  }
  for (uint32_t row = from; row < to; row++) {
    ids[row] = intern(tags[row - from], bytes + offsets[row], offsets[row + 1] - offsets[row]);
  }
  return to;
}

static uint64_t round_of(const char *variant, uint64_t *ops, Checksum *sum) {
  int plain = strcmp(variant, "plain") == 0, staged = strcmp(variant, "staged") == 0;
  uint64_t start = now_ns();
  mask = 1023;
  used = 0;
  records_end = 0;
  memset(table, 0, ((size_t)mask + 1) * 8);
  for (uint32_t row = 0; row < set.rows;) {
    uint32_t to = set.rows - row > GROUP ? row + GROUP : set.rows;
    row = plain || (!staged && mask < STAGED_ENTRIES) ? intern_plain(row, to) : intern_group(row, to);
  }
  uint64_t ns = now_ns() - start;

  for (uint32_t row = 0; row < set.rows; row++) {
    uint32_t words[2] = {row, ids[row]};
    add_record(sum, words, 2);
  }
  *ops = set.rows;
  return ns;
}

int main(int count, char **arguments) {
  check_machine();
  if (count != 2) fail("usage: keys FILE");
  set = open_dataset(arguments[1]);
  offsets = column_of(&set, 0);
  bytes = column_of(&set, 1);
  ids = pages((size_t)set.rows * 4);
  size_t entries = 1024;
  while (entries < 4 * ((size_t)set.entities + 1)) entries *= 2;
  table = pages(entries * 8);
  spare = pages(entries * 8);
  records = pages((size_t)set.entities * 40 + 64);
  return serve(round_of);
}
