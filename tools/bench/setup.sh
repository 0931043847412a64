#!/bin/bash
# Installs and builds everything that make bench compares with, after `make web` and `make native`: the npm packages of
# tools/bench/package.json, Debian's PyTorch, and candle's own ops as wasm. Quick if nothing is missing.
set -euo pipefail
cd "$(dirname "$0")/../.."
export RUSTUP_AUTO_INSTALL=0 DEBIAN_FRONTEND=noninteractive
say() { printf '[bench] %s\n' "$*" >&2; }

npm_stamp=tools/bench/node_modules/.package-lock.json
if [ ! -e $npm_stamp ] || [ tools/bench/package-lock.json -nt $npm_stamp ]; then
  say 'installing onnxruntime-web and tfjs (about 10 s)'
  npm ci --silent --prefix tools/bench
  touch $npm_stamp
fi
if [ "${1:-}" = npm ]; then exit; fi

if ! "${PYTHON:-/usr/bin/python3}" -c 'import torch, numpy' 2>/dev/null; then
  as_root=
  if [ "$(id -u)" != 0 ]; then as_root='sudo -n'; fi
  if ! command -v apt-get >/dev/null || ! $as_root true 2>/dev/null; then
    say "no PyTorch: install it and run 'make bench PYTHON=/path/to/python3'."
    exit 1
  fi
  say "installing Debian's python3-torch and libopenblas0-pthread (about 1 minute)"
  $as_root apt-get update -q >&2
  $as_root apt-get install -y -q --no-install-recommends python3-torch python3-numpy libopenblas0-pthread >&2
fi

# A profile between the two with which the package's wasm is built: fat link-time optimisation of candle takes minutes and
# makes it no faster.
(
  eval "$(tools/wasm-toolchain.sh)"
  export RUSTFLAGS='-C target-feature=+simd128'
  $WASM_CARGO build --profile wasm --lib --locked --no-default-features --features bench-candle \
    --config 'profile.wasm.lto="thin"' --target wasm32-unknown-unknown --target-dir target/wasm-candle
)
raw=target/wasm-candle/wasm32-unknown-unknown/wasm/face96.wasm
if [ ! -e target/bench/candle/candle_bg.wasm ] || [ $raw -nt target/bench/candle/candle_bg.wasm ]; then
  target/tools/bin/wasm-bindgen $raw --target web --out-dir target/bench/candle --out-name candle
fi
