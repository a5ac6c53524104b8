#!/bin/bash
# Runs every stage of `make test`, whatever fails before, and ends with one line: how many tests passed and failed in all.
# A stage that is one check counts as one; cargo's and the lab's tests are counted by their own summaries.
set -uo pipefail
cd "$(dirname "$0")/.."

logs=target/test
mkdir -p "$logs"
passed=0
failed=0
summary=()
began=$SECONDS
declare -A processes starts

# count LOG: adds up "N passed" and "M failed" of cargo's summaries and of the lab's last line.
count() {
  awk '
    /^test result:/ { for (i = 1; i < NF; i++) { if ($(i + 1) ~ /^passed/) p += $i; if ($(i + 1) ~ /^failed/) f += $i } }
    /^[0-9]+ passed, [0-9]+ failed$/ { p += $1; f += $3 }
    END { print p + 0, f + 0 }' "$1"
}

# result NAME START CODE: counts what a stage that has ended wrote into its log.
result() {
  local name=$1 start=$2 code=$3 p f
  read -r p f < <(count "$logs/$name.log")
  # A stage that fails without a failed test (it did not build, say) is a failure of its own; one without tests is one test.
  if ((p + f == 0)) || { ((code != 0)) && ((f == 0)); }; then
    if ((code == 0)); then p=$((p + 1)); else f=$((f + 1)); fi
  fi
  passed=$((passed + p))
  failed=$((failed + f))
  summary+=("$(printf '%-16s %5d passed %4d failed %6d s' "$name" "$p" "$f" $((SECONDS - start)))")
  if ((code == 130)); then interrupted; fi
}

# stage NAME COMMAND...: runs it, shows its output, and counts.
stage() {
  local name=$1 start=$SECONDS
  shift
  echo "=== $name: $*"
  "$@" 2>&1 | tee "$logs/$name.log"
  result "$name" "$start" "${PIPESTATUS[0]}"
}

# ahead NAME COMMAND...: starts it beside the stages that follow, up to `joined NAME`, which shows its output and counts.
ahead() {
  local name=$1
  shift
  echo "=== $name, beside what follows: $*"
  starts[$name]=$SECONDS
  "$@" >"$logs/$name.log" 2>&1 &
  processes[$name]=$!
}

joined() {
  local name=$1 code=0
  wait "${processes[$name]}" || code=$?
  unset "processes[$name]"
  echo "=== $name, which ran beside the others:"
  cat "$logs/$name.log"
  result "$name" "${starts[$name]}" "$code"
}

interrupted() {
  echo "interrupted"
  if ((${#processes[@]})); then
    kill -TERM "${processes[@]}" 2>/dev/null
    wait
  fi
  exit 130
}
trap interrupted INT TERM

# linted COMMAND...: runs it with clippy as the compiler of this workspace, so that nothing is compiled once to be linted and
# again to be run. What `make lint` denies are warnings here: one in a crate shall not keep the tests of all others from running.
linted() {
  RUSTC_WORKSPACE_WRAPPER=clippy-driver "$@"
}

lint() {
  linted cargo build --locked --workspace --all-targets 2>&1 | tee "$logs/warnings.log" && ! grep -q '^warning' "$logs/warnings.log"
}

stage fmt make --no-print-directory fmt-check
# The last crates of each leave a processor idle.
ahead build make --no-print-directory build
stage lint lint
joined build
stage unit linted cargo test --locked --workspace --no-fail-fast
# From here on the programs that are not shipped are those of the stage lint.
export BUILT=1
stage generated make --no-print-directory generate-check
stage deny make --no-print-directory deny
stage bundle make --no-print-directory bundle-verify
stage kubernetes make --no-print-directory kubernetes
# It is over before those begin that look at the clock.
ahead e2e-no-webhook make --no-print-directory e2e WEBHOOK=no GROUP=allocation
stage e2e make --no-print-directory e2e
joined e2e-no-webhook

echo
printf '%s\n' "${summary[@]}"
echo "logs: $logs, $((SECONDS - began)) s in all"
echo "$passed passed, $failed failed"
((failed == 0))
