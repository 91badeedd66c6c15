#!/usr/bin/env bash
# Checks the layout of native/ (clang-format) and looks for mistakes in its sources (clang-tidy); `native/lint.sh --fix` lays it out.
# Needs cmake and a C++20 compiler, no Python. A tool that is not installed is named and left out.
set -euo pipefail
cd "$(dirname "$0")/.."
mapfile -t files < <(find native -name third_party -prune -o -name '*.[ch]pp' -print | sort)

if ! command -v clang-format >/dev/null; then
    echo "native/lint.sh: there is no clang-format, so layout is not checked" >&2
elif [ "${1:-}" = --fix ]; then
    clang-format -i "${files[@]}"
    exit
else
    clang-format --dry-run --Werror "${files[@]}"
fi

if ! command -v clang-tidy >/dev/null; then
    echo "native/lint.sh: there is no clang-tidy, so sources are not checked" >&2
else
    build=build/native-lint
    cmake -S native -B "$build" -DCIMROBUST_TESTS=ON >/dev/null
    # The sources that this processor's build has; the tests are left to the compiler's warnings and the sanitizers.
    sed -n 's|.*"file": "\(.*/native/src/.*\)".*|\1|p' "$build/compile_commands.json" |
        xargs -d '\n' -n 1 -P "$(nproc)" clang-tidy -p "$build" --quiet --extra-arg=-Wno-unknown-warning-option 2> >(grep -v 'warnings generated' >&2)
fi
