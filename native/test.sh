#!/usr/bin/env bash
# Builds the kernel and its tests under the address and undefined-behaviour sanitizers and runs them. Needs cmake and a C++20 compiler, no Python.
set -euo pipefail
cd "$(dirname "$0")/.."
build=build/native-tests
cmake -S native -B "$build" -DCMAKE_BUILD_TYPE=RelWithDebInfo -DCIMROBUST_TESTS=ON -DCIMROBUST_SANITIZE=ON >/dev/null
cmake --build "$build" --parallel "$(nproc)" >/dev/null
ctest --test-dir "$build" --output-on-failure
