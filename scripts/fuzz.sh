#!/bin/bash
# Fuzzes one target for so many seconds (600 unless told): fuzz.sh [SECONDS [review|datagrams|frames|message|open|update|session]].
# The stable compiler instruments; libFuzzer is built from its crate.
set -euo pipefail
cd "$(dirname "$0")/.."
seconds=${1:-600}
name=${2:-review}
case $name in
  # The webhook's review path; a body may be as long as the server lets in.
  review) home=webhook/fuzz options=(-dict=webhook/fuzz/dictionary.txt -max_len=65536) ;;
  # What arrives at the membership socket: some datagrams in a row.
  datagrams) home=lib/membership/fuzz options=(-max_len=4096) ;;
  # What is read from packet sockets: some frames in a row, while addresses come and go.
  frames) home=lib/neighbor/fuzz options=(-max_len=4096) ;;
  # BGP: what a peer sends, message by message; and the session machine with what is advertised, by a script of inputs.
  message | update) home=lib/bgp/fuzz options=(-max_len=65536) ;;
  open) home=lib/bgp/fuzz options=(-max_len=4096) ;;
  session) home=lib/bgp/fuzz options=(-max_len=8192) ;;
  *) echo "no such target: $name" >&2; exit 2 ;;
esac
# A home of several targets has seeds for each.
seeds=$home/seeds
[ ! -d "$seeds/$name" ] || seeds=$seeds/$name
target=${CARGO_TARGET_DIR:-$PWD/target}/fuzz
coverage="-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 -Cllvm-args=-sanitizer-coverage-inline-8bit-counters \
-Cllvm-args=-sanitizer-coverage-pc-table -Cllvm-args=-sanitizer-coverage-trace-compares -Clink-dead-code -Ccodegen-units=1"
# A target triple keeps the flags from build scripts.
RUSTFLAGS="$coverage" CARGO_TARGET_DIR=$target cargo build --locked --release --target x86_64-unknown-linux-gnu \
  --manifest-path "$home/Cargo.toml"
mkdir -p "$target/corpus/$name"
# -malloc_limit_mb and -timeout turn growth and hanging into findings.
exec "$target/x86_64-unknown-linux-gnu/release/$name" "$target/corpus/$name" "$seeds" "${options[@]}" \
  -max_total_time="$seconds" -timeout=5 -rss_limit_mb=1024 -malloc_limit_mb=256 \
  -print_final_stats=1 -artifact_prefix="$target/"
