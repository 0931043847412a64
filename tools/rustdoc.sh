#!/bin/bash
# A rustdoc for `RUSTDOC=tools/rustdoc.sh cargo test --doc`: runs the examples of the documentation, and then writes it to target/doc, an
# error for each warning. `cargo doc` would have every library checked once more for that; here it takes those that were built.
set -euo pipefail
rustdoc "$@"
[[ " $* " == *' --test '* ]] || exit 0
pages=()
while [ $# -gt 0 ]; do
  case $1 in
    --test) ;;
    --test-run-directory | --test-args) shift ;;
    *) pages+=("$1") ;;
  esac
  shift
done
exec rustdoc "${pages[@]}" -D warnings --out-dir target/doc
