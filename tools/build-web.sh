#!/bin/bash
# Builds what the browser needs into pkg/dist: the wasm, its JavaScript glue and the type declarations.
# cargo decides whether the wasm is stale; the later steps are skipped while their inputs have not changed.
#   tools/build-web.sh
set -euo pipefail
cd "$(dirname "$0")/.."
say() { printf '[web] %s\n' "$*" >&2; }
start=$SECONDS
took() { say "$1: $((SECONDS - step)) s"; }

toolchain=$(tools/wasm-toolchain.sh)
# The program that makes the glue is built beside the wasm. Its version must equal that of the wasm-bindgen crate in Cargo.lock. Not
# --locked: the lock file shipped with the tool names a crate version that has been withdrawn. Hardly optimised: it is built more slowly
# than it runs.
bindgen() {
  version=$(sed -n '/^name = "wasm-bindgen"$/{n;s/version = "\(.*\)"/\1/p}' Cargo.lock)
  if [ "$(target/tools/bin/wasm-bindgen --version 2>/dev/null)" = "wasm-bindgen $version" ]; then return; fi
  say "building wasm-bindgen $version, once (about 3 minutes, beside the wasm)"
  CARGO_PROFILE_RELEASE_OPT_LEVEL=1 cargo install wasm-bindgen-cli --version "$version" --no-default-features --root target/tools --quiet
}
bindgen &
bindgen=$!
# Two builds of the same sources: `face96` for every browser, `face96_relaxed` with fused multiply-add for browsers with
# relaxed-simd. pkg/simd.js chooses. The second differs only in our own crate, so it starts from a copy of the first one's
# folder, which holds all dependencies.
# compile TARGET_FOLDER [WRAPPER], in a subshell: RUSTC is for this one build and must not leak to the host's cargo.
compile() (
  eval "$toolchain"
  export RUSTFLAGS='-C target-feature=+simd128'
  if [ -n "${2:-}" ]; then export RUSTC_WORKSPACE_WRAPPER=$2; fi
  $WASM_CARGO build --profile wasm --lib --locked --no-default-features --features wasm \
    --target wasm32-unknown-unknown --target-dir "$1"
)
step=$SECONDS
relaxed=target/wasm-relaxed
if [ ! -e $relaxed ] || [ Cargo.lock -nt $relaxed ]; then
  compile target/wasm
  rm -rf $relaxed $relaxed.tmp
  cp -a target/wasm $relaxed.tmp
  rm -rf $relaxed.tmp/wasm32-unknown-unknown/wasm/{.fingerprint/face96-*,deps/*face96*,*face96*}
  touch $relaxed.tmp
  mv $relaxed.tmp $relaxed
fi
compile target/wasm &
plain=$!
compile $relaxed "$PWD/tools/rustc-relaxed.sh"
wait $plain
wait $bindgen
took 'cargo build of two wasm files, and of wasm-bindgen (about 6 minutes the first time)'

raw() { echo "$1/wasm32-unknown-unknown/wasm/face96.wasm"; }
stamp=target/wasm/bindgen.sha256
sum=$(sha256sum "$(raw target/wasm)" "$(raw $relaxed)" tools/build-web.sh package-lock.json)
if [ -e pkg/dist/face96_relaxed_bg.wasm ] && [ "$(cat $stamp 2>/dev/null)" = "$sum" ]; then
  say 'wasm unchanged'
else
  # Built aside and moved at the end, so that an open page never sees half a package.
  rm -f $stamp
  # finish TARGET_FOLDER: writes to TARGET_FOLDER/dist. Not optimised further: wasm-opt -O3 makes the files 6 % smaller, 1 % with
  # brotli, and the nets 3 % slower.
  finish() (
    out=$1/dist
    rm -rf "$out"
    # Without a worker to replace, a trap requests another instance: pkg/wasm.js.
    target/tools/bin/wasm-bindgen "$(raw "$1")" --target web --out-dir "$out" --out-name face96 --experimental-reset-state-function
    # The glue asks for text coders when it is imported, where a DOM for tests does not have them, but needs them only later. The package
    # always says where the wasm is; bundlers would look for the default.
    sed -i -E -e 's/^(let cachedTextDecoder = new )(TextDecoder)/\1(globalThis.\2 ?? Object)/; s/^(const cachedTextEncoder = new )(TextEncoder)/\1(globalThis.\2 ?? Object)/' \
      -e 's/^cachedTextDecoder\.decode\(\)/cachedTextDecoder.decode?.()/' \
      -e "s/new URL\('face96_bg\.wasm', import\.meta\.url\)/''/" "$out/face96.js"
    # Node 20 supports relaxed-simd behind a flag, later versions without one.
    node $(node --v8-options | grep -o -- '--experimental-wasm-relaxed-simd' | head -1) \
      -e 'if (!WebAssembly.validate(require("fs").readFileSync(process.argv[1]))) throw Error("invalid wasm")' \
      "$out/face96_bg.wasm"
  )
  step=$SECONDS
  finish target/wasm &
  plain=$!
  finish $relaxed
  wait $plain
  took 'wasm-bindgen'
  for file in face96.js face96.d.ts face96_bg.wasm.d.ts; do
    cmp target/wasm/dist/$file $relaxed/dist/$file || { say "the two wasm files cannot share $file"; exit 1; }
  done
  mkdir -p pkg/dist
  mv $relaxed/dist/face96_bg.wasm pkg/dist/face96_relaxed_bg.wasm
  mv target/wasm/dist/face96.js target/wasm/dist/face96.d.ts target/wasm/dist/face96_bg.wasm{,.d.ts} pkg/dist/
  echo "$sum" >$stamp
fi

node tools/inline.js

types=target/wasm/types.sha256
sum=$(cat pkg/*.js pkg/dist/face96.d.ts pkg/package.json tsconfig.json tools/element-data.js package-lock.json | sha256sum)
if [ ! -e pkg/dist/types/index.d.ts ] || [ "$(cat $types 2>/dev/null)" != "$sum" ]; then
  step=$SECONDS
  rm -rf pkg/dist/types
  node_modules/.bin/tsc -p tsconfig.json
  node tools/element-data.js
  echo "$sum" >$types
  took 'type check, declarations and data for editors'
fi

node tools/offline-files.js

node - pkg/dist/*.wasm pkg/weights/*.safetensors <<'JS' >&2
const { readFileSync } = require('fs');
const { brotliCompressSync, gzipSync } = require('zlib');
const kb = (bytes) => `${Math.round(bytes.length / 1000)} kB`;
for (const path of process.argv.slice(2)) {
  const bytes = readFileSync(path);
  console.log(`[web] ${path}: ${kb(bytes)}, gzip ${kb(gzipSync(bytes))}, brotli ${kb(brotliCompressSync(bytes))}`);
}
JS
say "pkg/ is ready ($((SECONDS - start)) s)"
