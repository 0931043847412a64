#!/bin/bash
# Finds or makes a compiler with std for wasm32-unknown-unknown and prints how to call it, as shell assignments:
#   eval "$(tools/wasm-toolchain.sh)"  ->  WASM_CARGO, RUSTC, CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_LINKER
# Order: the active toolchain if it has that std; Debian's rustc-web with a std built once, offline, from its own
# sources (about 2 minutes); otherwise one sentence that names the command to run. Safe to run again.
set -euo pipefail
export RUSTUP_AUTO_INSTALL=0 DEBIAN_FRONTEND=noninteractive
say() { printf '[setup] %s\n' "$*" >&2; }

has_std() { ls "$1"/libstd-*.rlib >/dev/null 2>&1; }

if has_std "$(rustc --print target-libdir --target wasm32-unknown-unknown 2>/dev/null)"; then
  echo "export WASM_CARGO=cargo"
  exit
fi

debian=/usr/lib/rustlib-none
if [ -x /usr/bin/rustc ]; then debian=$(/usr/bin/rustc --print sysroot)/lib/rustlib; fi
if ! has_std "$debian/wasm32-unknown-unknown/lib" || ! command -v wasm-ld-22 >/dev/null; then
  as_root=
  if [ "$(id -u)" != 0 ]; then as_root='sudo -n'; fi
  if ! command -v apt-get >/dev/null || ! $as_root true 2>/dev/null; then
    say "no std for wasm32-unknown-unknown: run 'rustup target add wasm32-unknown-unknown' and try again."
    exit 1
  fi
  start=$SECONDS
  say "installing Debian's rustc-web, cargo-web, rust-web-src and lld-22 (about 1 minute)"
  $as_root apt-get update -o DPkg::Lock::Timeout=300 -q >&2
  $as_root apt-get install -o DPkg::Lock::Timeout=300 -y -q --no-install-recommends rustc-web cargo-web rust-web-src lld-22 >&2 || {
    say "apt has no rustc-web here: run 'rustup target add wasm32-unknown-unknown' and try again."
    exit 1
  }
  debian=$(/usr/bin/rustc --print sysroot)/lib/rustlib
  if ! has_std "$debian/wasm32-unknown-unknown/lib"; then
    say "building std for wasm32 from Debian's sources, once (about 2 minutes)"
    seed=$(mktemp -d)
    trap 'rm -rf "$seed"' EXIT
    mkdir "$seed/src"
    echo 'pub fn seed() {}' >"$seed/src/lib.rs"
    printf '[package]\nname="stdseed"\nversion="0.0.0"\nedition="2021"\n[profile.release]\nopt-level=3\npanic="abort"\n' >"$seed/Cargo.toml"
    (
      cd "$seed"
      # RUSTC_BOOTSTRAP lets a stable compiler build its own std (-Zbuild-std); nothing else uses it.
      RUSTC=/usr/bin/rustc RUSTC_BOOTSTRAP=1 RUSTFLAGS=-Cembed-bitcode=yes /usr/bin/cargo build --release --offline \
        -Zbuild-std=std,panic_abort --target wasm32-unknown-unknown \
        --config 'source.crates-io.replace-with="vendored"' \
        --config "source.vendored.directory=\"$debian/src/rust/library/vendor\"" >&2
    )
    rm -f "$seed"/target/wasm32-unknown-unknown/release/deps/libstdseed*
    $as_root mkdir -p "$debian/wasm32-unknown-unknown/lib"
    $as_root cp "$seed"/target/wasm32-unknown-unknown/release/deps/lib*.rlib "$debian/wasm32-unknown-unknown/lib/"
  fi
  say "wasm toolchain ready after $((SECONDS - start)) s"
fi
echo "export WASM_CARGO=/usr/bin/cargo RUSTC=/usr/bin/rustc CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_LINKER=wasm-ld-22"
