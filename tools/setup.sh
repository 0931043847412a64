#!/bin/bash
# Installs what is missing to build and run the page; with `test`, also a browser for its tests. Everything stays in
# target/ and node_modules/ except Debian packages. Quick if nothing is missing, so every make target runs it.
#   tools/setup.sh [test]
set -euo pipefail
cd "$(dirname "$0")/.."
export RUSTUP_AUTO_INSTALL=0 DEBIAN_FRONTEND=noninteractive
say() { printf '[setup] %s\n' "$*" >&2; }
start=$SECONDS

for tool in cargo node npm; do
  command -v $tool >/dev/null || { say "$tool is missing: install rustup's stable toolchain and Node 20, then try again."; exit 1; }
done

tools/wasm-toolchain.sh >/dev/null

# Chromium is required; Firefox and WebKit are tested if they are installed, or can be. This runs while npm installs.
browsers() {
  needed=()
  wanted=()
  if [ ! -x "${CHROMIUM:-/usr/bin/chromium}" ]; then needed+=(chromium); fi
  if [ ! -x "${FIREFOX:-/usr/bin/firefox-esr}" ]; then wanted+=(firefox-esr); fi
  if [ ! -x "${WEBKIT:-/usr/bin/WebKitWebDriver}" ]; then wanted+=(webkit2gtk-driver); fi
  if ! command -v Xvfb >/dev/null; then wanted+=(xvfb); fi
  as_root=
  if [ "$(id -u)" != 0 ]; then as_root='sudo -n'; fi
  install() { $as_root apt-get install -o DPkg::Lock::Timeout=300 -y -q --no-install-recommends "$@" >&2; }
  if [ ${#needed[@]} != 0 ] || [ ${#wanted[@]} != 0 ]; then
    if ! command -v apt-get >/dev/null || ! $as_root true 2>/dev/null; then
      if [ ${#needed[@]} != 0 ]; then
        say "no Chromium: install one and run 'make test CHROMIUM=/path/to/chromium'."
        exit 1
      fi
      say "without ${wanted[*]} the tests in these browsers are skipped"
    else
      say "installing Debian's ${needed[*]} ${wanted[*]} (about 1 minute each)"
      $as_root apt-get update -o DPkg::Lock::Timeout=300 -q >&2
      if [ ${#needed[@]} != 0 ]; then install "${needed[@]}"; fi
      for package in "${wanted[@]}"; do
        install "$package" || say "without $package the tests in that browser are skipped"
      done
    fi
  fi
}
if [ "${1:-}" = test ]; then
  browsers &
  browsers=$!
fi

if [ ! -e node_modules/.package-lock.json ] || [ package-lock.json -nt node_modules/.package-lock.json ]; then
  say "installing the npm development tools (about 10 s)"
  npm ci --silent
  touch node_modules/.package-lock.json
fi

# onnxruntime, which tests the ONNX export.
if [ "${1:-}" = test ]; then tools/bench/setup.sh npm; fi

if [ "${1:-}" = test ]; then wait $browsers; fi
say "tools are in place ($((SECONDS - start)) s)"
