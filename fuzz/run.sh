#!/usr/bin/env bash
# Fuzzes each target for some seconds, one after the other: fuzz/run.sh SECONDS [TARGET...]
#
# Needs cargo-fuzz. Nightly Rust is not needed, as no sanitizer is on: the code under test has next
# to no `unsafe`, and what it has is exercised under valgrind (docs/unsafe.md). Memory is bounded by
# an allocator of our own.
set -euo pipefail
cd "$(dirname "$0")"

seconds=$1
shift
targets=("$@")
if [ ${#targets[@]} -eq 0 ]; then
	mapfile -t targets < <(ls fuzz_targets | sed 's/\.rs$//')
fi

# What is fuzzed is what is shipped: the same versions of all crates.
cp ../Cargo.lock Cargo.lock
FUZZ_SEEDS=$PWD/seeds cargo test --quiet --manifest-path ../Cargo.toml --lib \
	fuzzing::tests::every_target_has_a_program_and_seeds

for target in "${targets[@]}"; do
	mkdir -p "corpus/$target"
	cargo fuzz run --sanitizer none "$target" "corpus/$target" "seeds/$target" -- \
		-max_total_time="$seconds" -max_len=32768 -timeout=5 \
		-rss_limit_mb=4096 -print_final_stats=1
done
