#!/usr/bin/env bash
# A gate before deployment: certify a network, hold it against a policy, keep the evidence.
#
#     samples/pipeline_gate.sh MODEL DATA POLICY OUT
#
# Ends with the gate's exit code: 0 passed, 1 failed (the witness is in OUT/witness), 3 inconclusive, 6 evidence missing or refuted; anything else is an error of the run itself.
set -euo pipefail
model=$1 data=$2 policy=$3 out=$4

mkdir -p "$out"
cimrobust analyze "$model" --data "$data" --policy "$policy" --out "$out" --resume --json >"$out/summary.json"
status=0
cimrobust gate "$out" --policy "$policy" --model "$model" --data "$data" --junit "$out/gate.xml" || status=$?
exit "$status"
