/*
 * What the C yardsticks share: the input file, 4 KB pages, the clock, the checksum and the line protocol.
 *
 *   child  -> "ready"
 *   parent -> "<variant>\n"          one round, from empty state, memory already touched by an earlier round
 *   child  -> "<ns in all> <ops> <checksum>\n"
 *
 * The parent starts one round at a time, so rounds of all contenders alternate and share whatever the machine does.
 */
#ifndef YARDSTICK_H
#define YARDSTICK_H

#define _GNU_SOURCE
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define likely(x) __builtin_expect(!!(x), 1)
#define unlikely(x) __builtin_expect(!!(x), 0)

static inline void fail(const char *what) {
  fprintf(stderr, "yardstick: %s\n", what);
  exit(2);
}

/* A compiler may be asked for instructions that this machine lacks; 3 tells the harness to try other flags. */
static inline void check_machine(void) {
#ifdef __AVX2__
  if (!__builtin_cpu_supports("avx2") || !__builtin_cpu_supports("bmi2")) exit(3);
#endif
}

static inline uint64_t now_ns(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (uint64_t)t.tv_sec * 1000000000ull + (uint64_t)t.tv_nsec;
}

/* Zeroed memory in 4 KB pages, whatever the machine's setting for huge ones: WebAssembly memory has 4 KB pages too. */
static void *pages(size_t bytes) {
  bytes = (bytes + 4095) & ~(size_t)4095;
  void *at = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (at == MAP_FAILED) fail("cannot allocate memory");
#ifdef MADV_NOHUGEPAGE
  madvise(at, bytes, MADV_NOHUGEPAGE);
#endif
  return at;
}

/*
 * The input file: 64 bytes of header, then columns, each starting at a multiple of 64 (bench/dataset.ts writes it).
 *   0 magic "TFBENCH1" | 8 u32 columns | 12 u32 rows | 16 u32 entities | 20 u32 step ms | 24 f64 first tile's start ms
 *   then, from 64: per column u64 offset, u64 bytes
 */
typedef struct {
  uint8_t *bytes;
  uint32_t columns, rows, entities, step_ms;
  int64_t start_ms;
} Dataset;

static Dataset open_dataset(const char *path) {
  int file = open(path, O_RDONLY);
  struct stat about;
  if (file < 0 || fstat(file, &about) != 0) fail("cannot open the input file");
  size_t size = (size_t)about.st_size;
  uint8_t *bytes = pages(size + 64);
  for (size_t done = 0; done < size;) {
    ssize_t got = read(file, bytes + done, size - done);
    if (got <= 0) fail("cannot read the input file");
    done += (size_t)got;
  }
  close(file);
  if (size < 64 || memcmp(bytes, "TFBENCH1", 8) != 0) fail("the input file is not one of ours");
  Dataset set = {.bytes = bytes};
  memcpy(&set.columns, bytes + 8, 4);
  memcpy(&set.rows, bytes + 12, 4);
  memcpy(&set.entities, bytes + 16, 4);
  memcpy(&set.step_ms, bytes + 20, 4);
  double start;
  memcpy(&start, bytes + 24, 8);
  set.start_ms = (int64_t)start;
  return set;
}

static const void *column_of(const Dataset *set, uint32_t index) {
  if (index >= set->columns) fail("the input file lacks a column");
  uint64_t offset;
  memcpy(&offset, set->bytes + 64 + 16 * (size_t)index, 8);
  return set->bytes + offset;
}

/*
 * An order-free checksum over records of 32-bit words: per record two 32-bit hashes, added up (bench/checksum.ts has the
 * same function; contenders are compared by it).
 */
typedef struct {
  uint32_t first, second, records;
} Checksum;

static inline uint32_t hash_words(uint32_t hash, const uint32_t *words, int count) {
  for (int i = 0; i < count; i++) {
    hash = (hash ^ words[i]) * 0x9e3779b1u;
    hash ^= hash >> 15;
  }
  hash *= 0x85ebca6bu;
  return hash ^ (hash >> 13);
}

static inline void add_record(Checksum *sum, const uint32_t *words, int count) {
  sum->first += hash_words(0x2545f491u, words, count);
  sum->second += hash_words(0x8bb84b93u, words, count);
  sum->records++;
}

/* A double as two words; -0 never occurs in the workloads. */
static inline void put_double(uint32_t *words, double value) {
  memcpy(words, &value, 8);
}

/* Answers one line per line of input until it closes. `round` returns nanoseconds and sets ops and checksum. */
static int serve(uint64_t (*round)(const char *variant, uint64_t *ops, Checksum *sum)) {
  char line[128];
  printf("ready\n");
  fflush(stdout);
  while (fgets(line, sizeof line, stdin) != NULL) {
    line[strcspn(line, "\r\n")] = 0;
    uint64_t ops = 0;
    Checksum sum = {0, 0, 0};
    uint64_t ns = round(line, &ops, &sum);
    printf("%llu %llu %08x%08x:%u\n", (unsigned long long)ns, (unsigned long long)ops, sum.first, sum.second, sum.records);
    fflush(stdout);
  }
  return 0;
}

#endif
