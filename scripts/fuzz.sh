#!/bin/bash
# Fuzzes the webhook's review path for so many seconds (600 unless told). The stable compiler instruments; libFuzzer is built from its crate.
set -euo pipefail
cd "$(dirname "$0")/.."
seconds=${1:-600}
target=${CARGO_TARGET_DIR:-$PWD/target}/fuzz
coverage="-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 -Cllvm-args=-sanitizer-coverage-inline-8bit-counters \
-Cllvm-args=-sanitizer-coverage-pc-table -Cllvm-args=-sanitizer-coverage-trace-compares -Clink-dead-code -Ccodegen-units=1"
# A target triple keeps the flags from build scripts.
RUSTFLAGS="$coverage" CARGO_TARGET_DIR=$target cargo build --locked --release --target x86_64-unknown-linux-gnu \
  --manifest-path webhook/fuzz/Cargo.toml
mkdir -p "$target/corpus"
# -malloc_limit_mb and -timeout turn growth and hanging into findings; a body may be as long as the server lets in.
exec "$target/x86_64-unknown-linux-gnu/release/review" "$target/corpus" webhook/fuzz/seeds \
  -dict=webhook/fuzz/dictionary.txt -max_total_time="$seconds" -timeout=5 -rss_limit_mb=1024 -malloc_limit_mb=256 \
  -max_len=65536 -print_final_stats=1 -artifact_prefix="$target/"
