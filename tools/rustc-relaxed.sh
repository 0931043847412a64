#!/bin/bash
# rustc for the second wasm file: our own crate with relaxed-simd. See tools/build-web.sh.
exec "$@" -C target-feature=+simd128,+relaxed-simd
