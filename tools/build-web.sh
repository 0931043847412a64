#!/bin/bash
# Builds what the browser needs into pkg/dist: the wasm, its JavaScript glue and the type declarations.
# cargo decides whether the wasm is stale; what follows is skipped while its inputs have not changed.
#   tools/build-web.sh
set -euo pipefail
cd "$(dirname "$0")/.."
say() { printf '[web] %s\n' "$*" >&2; }
start=$SECONDS
took() { say "$1: $((SECONDS - step)) s"; }

toolchain=$(tools/wasm-toolchain.sh)
# In a subshell: RUSTC is for this one build and must not leak to the host's cargo.
step=$SECONDS
(
  eval "$toolchain"
  export RUSTFLAGS='-C target-feature=+simd128'
  $WASM_CARGO build --profile wasm --lib --locked --no-default-features --features wasm \
    --target wasm32-unknown-unknown --target-dir target/wasm
)
took 'cargo build (about 3 minutes the first time)'

raw=target/wasm/wasm32-unknown-unknown/wasm/face96.wasm
stamp=target/wasm/bindgen.sha256
sum=$(sha256sum "$raw" tools/build-web.sh package-lock.json)
if [ -e pkg/dist/face96_bg.wasm ] && [ "$(cat $stamp 2>/dev/null)" = "$sum" ]; then
  say 'wasm unchanged'
else
  # Built aside and moved at the end, so that an open page never sees half a package.
  out=target/wasm/dist
  rm -rf $out $stamp
  step=$SECONDS
  target/tools/bin/wasm-bindgen "$raw" --target web --out-dir $out --out-name face96
  took wasm-bindgen
  step=$SECONDS
  # The features are those rustc used; wasm-bindgen drops the section that would tell wasm-opt.
  node_modules/.bin/wasm-opt -O3 --enable-simd --enable-bulk-memory --enable-nontrapping-float-to-int --enable-sign-ext \
    --enable-mutable-globals --enable-reference-types --enable-multivalue \
    $out/face96_bg.wasm -o $out/opt.wasm
  mv $out/opt.wasm $out/face96_bg.wasm
  node -e 'if (!WebAssembly.validate(require("fs").readFileSync(process.argv[1]))) throw Error("wasm-opt gave invalid wasm")' \
    $out/face96_bg.wasm
  took wasm-opt
  mkdir -p pkg/dist
  mv $out/face96.js $out/face96.d.ts $out/face96_bg.wasm $out/face96_bg.wasm.d.ts pkg/dist/
  echo "$sum" >$stamp
fi

types=target/wasm/types.sha256
sum=$(cat pkg/*.js pkg/dist/face96.d.ts tsconfig.json package-lock.json | sha256sum)
if [ ! -e pkg/dist/types/index.d.ts ] || [ "$(cat $types 2>/dev/null)" != "$sum" ]; then
  step=$SECONDS
  rm -rf pkg/dist/types
  node_modules/.bin/tsc -p tsconfig.json
  echo "$sum" >$types
  took 'type check and declarations'
fi

node tools/offline-files.js

node - pkg/dist/face96_bg.wasm pkg/weights/*.safetensors <<'JS' >&2
const { readFileSync } = require('fs');
const { brotliCompressSync, gzipSync } = require('zlib');
const kb = (bytes) => `${Math.round(bytes.length / 1000)} kB`;
for (const path of process.argv.slice(2)) {
  const bytes = readFileSync(path);
  console.log(`[web] ${path}: ${kb(bytes)}, gzip ${kb(gzipSync(bytes))}, brotli ${kb(brotliCompressSync(bytes))}`);
}
JS
say "pkg/ is ready ($((SECONDS - start)) s)"
