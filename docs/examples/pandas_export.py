"""Reads a Parquet export with pandas: is it whole, and what is in it?

    cinelog export --format parquet --out facts
    python pandas_export.py facts
"""

import hashlib
import json
import sys
from pathlib import Path

import pandas as pd

folder = Path(sys.argv[1])
manifest = json.loads((folder / "manifest.json").read_text())
if not manifest["complete"]:
    sys.exit("this export is not complete: run the same cinelog export again")

# A file that was damaged on its way does not have the hash that the manifest says.
for segment in manifest["segments"]:
    if hashlib.sha256((folder / segment["name"]).read_bytes()).hexdigest() != segment["sha256"]:
        sys.exit(f"{segment['name']} is damaged")

# Only the columns that are needed, segment by segment.
columns = ["position", "type", "payload", "recorded_at"]
facts = pd.concat(
    pd.read_parquet(folder / segment["name"], columns=columns) for segment in manifest["segments"]
)

first, last = facts["position"].min(), facts["position"].max()
if len(facts) != last - first + 1 or not facts["position"].is_unique:
    sys.exit("positions are missing or doubled")
print(f"{len(facts)} facts, positions {first} to {last}, none missing")

for fact_type, count in facts["type"].value_counts().sort_index().items():
    print(fact_type, count)

reactions = facts[facts["type"] == "reaction.added"]
kinds = reactions["payload"].map(json.loads).map(lambda payload: payload["kind"])
print("reactions of kind like", (kinds == "like").sum())
