"""Reads files as notebooks do, and prints what is in them: a list of tasks on standard input, a list of tables back.

A cell is null, true or false, text, a double, hex of bytes, or text of a whole number, a decimal or an instant's
microseconds; see `duckTable` in test/offline/python.test.ts for the same from DuckDB.
"""

import json
import sys

import polars as pl
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.feather as feather
import pyarrow.parquet as pq


def cells(column):
    type = column.type
    if pa.types.is_dictionary(type):
        return cells(column.cast(type.value_type))
    if pa.types.is_timestamp(type):
        return cells(column.cast(pa.timestamp("us", type.tz), safe=False).cast(pa.int64()))
    if pa.types.is_date(type):
        return cells(column.cast(pa.date32()).cast(pa.int32()))
    values = column.to_pylist()
    if pa.types.is_integer(type):
        return [None if value is None else str(value) for value in values]
    if pa.types.is_decimal(type):
        return [None if value is None else format(value, "f") for value in values]
    if pa.types.is_floating(type):
        return [None if value is None else value if value == value and abs(value) != float("inf") else str(value) for value in values]
    if pa.types.is_binary(type) or pa.types.is_large_binary(type):
        return [None if value is None else value.hex().upper() for value in values]
    return values


def read(reader, path, where):
    if reader == "pyarrow":
        if path.endswith((".arrow", ".feather")):
            return feather.read_table(path)
        filters = None if where is None else ds.field(where[0]) == where[1]
        return pq.read_table(path, filters=filters)
    if path.endswith((".arrow", ".feather")):
        return pl.read_ipc(path).to_arrow()
    hive = not path.endswith(".parquet")
    frame = pl.scan_parquet(f"{path}/**/*.parquet" if hive else path, hive_partitioning=hive)
    return (frame if where is None else frame.filter(pl.col(where[0]) == where[1])).collect().to_arrow()


def write(reader, table, path):
    """The table once more, by their own writers."""
    if reader == "pyarrow":
        pq.write_table(table, path, compression="zstd", data_page_version="2.0", row_group_size=100)
    else:
        pl.from_arrow(table).write_parquet(path, compression="lz4", row_group_size=100)


results = []
for task in json.load(sys.stdin):
    table = read(task["reader"], task["path"], task.get("where"))
    if task.get("sort"):
        table = table.sort_by([(name, "ascending") for name in task["sort"]])
    if task.get("copy"):
        write(task["reader"], table, task["copy"])
    types = {field.name: str(field.type) for field in table.schema}
    results.append({"types": types, "cells": {name: cells(table[name]) for name in table.column_names}})
json.dump(results, sys.stdout)
