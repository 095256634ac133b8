// The numbers that the core and its hosts must agree on: plain constants, valid in both compilers. No types, no
// decorators, no imports. A change of meaning here is a change of ABI_VERSION; a change of stored bytes is a new
// ROW_VERSION beside the old one.

export const ABI_VERSION = 1

// Register types: what a cell is inside the core (columns.ts).
export const TYPE_F64 = 1 // 8 bytes, finite, never -0
export const TYPE_I64 = 2 // 8 bytes
export const TYPE_BOOL = 3 // 1 byte, 0 or 1
export const TYPE_DEC = 4 // 16 bytes, two's complement integer; the scale is static and lives in the plan
export const TYPE_UTF8 = 5 // n + 1 offsets (u32, relative to the register's data pointer) and bytes

// Physical types of input columns: what a cell is in the host's buffers (src/model/columns.ts).
export const PHYS_BOOL = 1
export const PHYS_INT8 = 2
export const PHYS_INT16 = 3
export const PHYS_INT32 = 4
export const PHYS_INT64 = 5
export const PHYS_UINT8 = 6
export const PHYS_UINT16 = 7
export const PHYS_UINT32 = 8
export const PHYS_UINT64 = 9
export const PHYS_FLOAT32 = 10
export const PHYS_FLOAT64 = 11
export const PHYS_DECIMAL128 = 12
export const PHYS_UTF8 = 13

// An input column's descriptor in the input region, COLUMN_BYTES each (all u32 addresses are absolute).
export const COLUMN_PHYS = 0 // u32
export const COLUMN_VALUES = 4 // u32 address of cell 0 (bool: of the byte that holds BIT_OFFSET; utf8: see OFFSET_BASE)
export const COLUMN_VALID = 8 // u32 address of the validity bitmap, 0 = nothing is null
export const COLUMN_BIT_OFFSET = 12 // u32 0..7, for the bitmap and for bool values
export const COLUMN_OFFSETS = 16 // u32 address of n + 1 i32 offsets; utf8 only
export const COLUMN_OFFSET_BASE = 20 // u32: text byte of offset o lies at VALUES + (o - OFFSET_BASE)
export const COLUMN_VALUES_BYTES = 24 // u32 bytes at VALUES that may be read
export const COLUMN_UNIT = 28 // u32 UNIT_ code of a column that states its own time unit, 0 = as the program says
export const COLUMN_BYTES = 32

// ---- column programs (assembly/expr.ts runs them, src/define/program.ts writes them) --------------------------------
// A header, then instructions of five words (operation, operands a, b, c, d), then the bytes of constants. Instruction i
// writes register i and reads registers below i.

export const PROGRAM_VERSION = 1
export const PROGRAM_VERSION_AT = 0 // u32
export const PROGRAM_INSTRUCTIONS_AT = 4 // u32
export const PROGRAM_INPUTS_AT = 8 // u32 descriptors that the program's loads may name
export const PROGRAM_HEADER_BYTES = 16
export const INSTRUCTION_BYTES = 20
export const PROGRAM_REGISTERS_MAX = 256

// Units of time of a LOAD: 0 is no instant at all.
export const UNIT_MS = 1
export const UNIT_S = 2
export const UNIT_US = 3
export const UNIT_NS = 4
export const UNIT_DAY = 5

// r[x] is a register; an operand without r[] is a number.
export const EXPR_LOAD = 1 // input a as type b, instants of unit c as milliseconds
export const EXPR_CONST = 2 // type a from byte b of the constants, c bytes
export const EXPR_NULL = 3 // nulls of type a
export const EXPR_FILL = 4 // r[a] with a cell for each row, where r[a] may be one cell for all
export const EXPR_ADD = 8 // r[a] + r[b]: float64, int64, decimals of one scale
export const EXPR_SUB = 9
export const EXPR_MUL = 10
export const EXPR_DIV = 11 // decimals: r[a] * 10^c / r[b], rounded half away from zero
export const EXPR_REM = 12
export const EXPR_EQ = 16 // r[a] = r[b] -> bool: float64, int64, decimals of one scale, text by bytes
export const EXPR_NE = 17
export const EXPR_LT = 18
export const EXPR_LE = 19
export const EXPR_AND = 24
export const EXPR_OR = 25
export const EXPR_NOT = 26
export const EXPR_IS_NULL = 27
export const EXPR_IS_TRUE = 28
export const EXPR_SELECT = 32 // r[a] is true ? r[b] : r[c]
export const EXPR_CAST = 40 // r[a] to type b; c is the scale of the decimal side, d the digits of a decimal result
export const EXPR_RESCALE = 41 // decimal r[a] * 10^c (c may be negative); d digits at most, or 0: beyond them saturates

// ---- configuration (assembly/plan.ts reads it, src/engine/program.ts writes it) -------------------------------------
// A sequence of 8-byte cells, little-endian i64, in the order that plan.ts documents.

export const LEVELS_MAX = 8
export const PARTIALS_MAX = 128
export const COLUMNS_MAX = 31 // null bits of a raw event are one u32, bit 0 is the event id's
export const WINDOWS_MAX = 64
export const KEY_PARTS_MAX = 16
export const KEY_BYTES_LIMIT = 1024
export const TEXT_BYTES_LIMIT = 4096 // a longer text cell is a null cell
export const TIME_LIMIT = 4294967296000 // ms; tile numbers are u32 and steps at least 1 s

export const HEAD_RAW = 0
export const HEAD_STEP = 1

export const PARTIAL_NUMERIC = 1
export const PARTIAL_EDGE = 2
export const PARTIAL_BITS = 3

export const NUMERIC_SUM = 1
export const NUMERIC_SQUARES = 2
export const NUMERIC_MIN = 4
export const NUMERIC_MAX = 8
export const EDGE_LAST = 1
export const BITS_AND = 1

export const POLICY_ACCEPT = 0
export const POLICY_SIDE_OUTPUT = 1
export const POLICY_DROP = 2

// ---- verdicts (one byte per row after `prepare`; counters in the same order) ----------------------------------------

export const VERDICT_APPLIED = 0
export const VERDICT_DUPLICATE = 1
export const VERDICT_LATE = 2
export const VERDICT_EXPIRED = 3 // late: older than retention, always to the side output
export const VERDICT_FILTERED = 4
export const VERDICT_REJECTED_KEY = 5
export const VERDICT_REJECTED_TIME = 6
export const VERDICT_REJECTED_FUTURE = 7
export const VERDICT_REDELIVERED = 8 // at or before a position already seen: skipped, not counted as consumed
export const VERDICT_ELSEWHERE = 9 // late: lanes of the other kind answer for its time (assembly/times.ts)
export const VERDICTS = 10

// ---- feature operations ---------------------------------------------------------------------------------------------

export const OP_COUNT = 1
export const OP_SUM = 2
export const OP_MEAN = 3
export const OP_MIN = 4
export const OP_MAX = 5
export const OP_VAR_POP = 6
export const OP_VAR_SAMP = 7
export const OP_STDDEV_POP = 8
export const OP_STDDEV_SAMP = 9
export const OP_EDGE = 10
export const OP_BITS = 11

export const STATUS_OK = 0
export const STATUS_EMPTY = 1
export const STATUS_UNKNOWN = 2
export const STATUS_TOO_OLD = 3
export const STATUS_OVERFLOW = 4
export const STATUS_ERROR = 5

// One entity's summary in the merge output, ENTITY_INFO_BYTES each.
export const INFO_ROWS = 0 // u32 rows merged
export const INFO_ERROR = 4 // u32 0, or an ERROR_ code: the first row that was refused
export const INFO_COMPLETE_THROUGH = 8 // f64 ms: lowest head frontier of the rows; -1 without rows
export const INFO_OLDEST_AS_OF = 16 // f64 ms: highest head frontier of the rows
export const INFO_LAYOUT_VERSION = 24 // u32 highest layout version of the rows
export const INFO_TILES = 28 // u32 tiles read
export const INFO_EVENTS = 32 // u32 raw events read
export const INFO_COMPLETE_SINCE = 40 // f64 ms: highest complete-since of the rows
export const ENTITY_INFO_BYTES = 48

// ---- the row (assembly/row.ts draws it) -----------------------------------------------------------------------------

export const ROW_MAGIC = 0x4654 // "TF"
export const ROW_VERSION = 1
export const ROW_MAGIC_AT = 0 // u16
export const ROW_VERSION_AT = 2 // u8
export const ROW_LEVELS_AT = 3 // u8
export const ROW_CHECKSUM_AT = 4 // u32 over bytes [ROW_CHECKED_FROM, end)
export const ROW_APPLIED_AT = 8 // i64 position; outside the checksum, because a store may only raise it
export const ROW_CHECKED_FROM = 16
export const ROW_LAYOUT_VERSION_AT = 16 // u32
export const ROW_BYTES_AT = 20 // u32
export const ROW_HEAD_FRONTIER_AT = 24 // i64 ms
export const ROW_COMPLETE_SINCE_AT = 32 // i64 ms
export const ROW_RUNS_AT = 40 // u16
export const ROW_HEAD_KIND_AT = 42 // u16
export const ROW_RESERVED_AT = 44 // u32, zero
export const ROW_HEADER_BYTES = 48
export const FRONTIER_COMPACTED_AT = 0 // i64 tile number, per level behind the header: every tile below it is written
export const FRONTIER_EVICTED_AT = 8 // i64 tile number: no tile below it is kept
export const FRONTIER_BYTES = 16

export const RUN_TILES = 1
export const RUN_RAW = 2 // level RUN_HEAD_LEVEL: the head; a ladder level is reserved for raw blocks inside levels
export const RUN_HEAD_LEVEL = 255
export const RUN_KIND_AT = 0 // u8
export const RUN_LEVEL_AT = 1 // u8
export const RUN_ROWS_WIDTH_AT = 2 // u8: bytes of a tile's row count, 4 or 8; 0 in a raw run
export const RUN_RESERVED_AT = 3 // u8, zero
export const RUN_COUNT_AT = 4 // u32 tiles or events
export const RUN_STRIDE_AT = 8 // u32 bytes of each
export const RUN_HEAP_BYTES_AT = 12 // u32 bytes of text behind them, a multiple of 4
export const RUN_HEADER_BYTES = 16

export const TILE_INDEX_AT = 0 // u32: the tile spans [index * step, (index + 1) * step)
export const TILE_ROWS_AT = 4 // i32 or i64

export const NUMERIC_PARAM_N_WIDTH = 0 // u8: 0 = same as the tile's rows, 4 or 8
export const NUMERIC_PARAM_SUM_BASE = 1 // i8: limb i weighs 2^(32 * (base + i))
export const NUMERIC_PARAM_SUM_LIMBS = 2 // u8
export const NUMERIC_PARAM_SQUARES_BASE = 3 // i8
export const NUMERIC_PARAM_SQUARES_LIMBS = 4 // u8
export const NUMERIC_PARAM_BYTES = 8

export const RAW_TIME_AT = 0 // i64 ms
export const RAW_OP_AT = 8 // u8, then three zero bytes (in the core's own memory: the entity, u32)
export const RAW_NULLS_AT = 12 // u32: bit 0 the event id, bit 1 + i column i
export const RAW_CELLS_AT = 16
export const RAW_OP_INSERT = 1

export const EDGE_NONE = 0xffffffff // an edge's offset in a tile that has no such cell

// Why a row is refused (model/errors.ts: ROW_CORRUPT).
export const ERROR_ROW_SHORT = 1
export const ERROR_ROW_MAGIC = 2
export const ERROR_ROW_VERSION = 3
export const ERROR_ROW_CHECKSUM = 4
export const ERROR_ROW_SHAPE = 5 // levels, frontiers or runs do not fit the plan or the row's length
export const ERROR_ROW_TEXT = 6 // a text cell lies outside its heap
export const ERROR_ROW_REGRESSED = 7 // applied position beyond flushing_to, or at or past the delta's first event
