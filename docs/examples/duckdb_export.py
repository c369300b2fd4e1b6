"""Reads a Parquet export with DuckDB: is it whole, and what is in it?

    cinelog export --format parquet --out facts
    python duckdb_export.py facts
"""

import json
import sys
from pathlib import Path

import duckdb

folder = Path(sys.argv[1])
manifest = json.loads((folder / "manifest.json").read_text())
if not manifest["complete"]:
    sys.exit("this export is not complete: run the same cinelog export again")

facts = duckdb.read_parquet(str(folder / "facts-*.parquet"))
((first, last, rows, positions),) = duckdb.sql(
    "SELECT min(position), max(position), count(*), count(DISTINCT position) FROM facts"
).fetchall()

# Positions are dense: as many facts as positions, each position once, and as many as the manifest says.
missing = (last - first + 1) - positions
if rows != manifest["rows"] or rows != positions or missing:
    sys.exit(f"{rows} facts, {positions} positions, {missing} missing, {manifest['rows']} promised")
print(f"{rows} facts, positions {first} to {last}, none missing")

# DuckDB reads the columns it needs, and skips row groups by their statistics.
for fact_type, count in duckdb.sql("SELECT type, count(*) FROM facts GROUP BY type ORDER BY type").fetchall():
    print(fact_type, count)

# The payload is JSON.
((likes,),) = duckdb.sql(
    """
    SELECT count(*)
    FROM facts
    WHERE type = 'reaction.added' AND (payload ->> 'kind') = 'like'
    """
).fetchall()
print("reactions of kind like", likes)
