# make help says what there is.
.PHONY: help demo test bench tutorial web native soak setup clean
.DEFAULT_GOAL := help
export RUSTUP_AUTO_INSTALL ?= 0
export CHROMIUM ?= /usr/bin/chromium
PORT ?= 9696
FRAMES ?= 20000
MINUTES ?= 20
DATA ?= synthetic
CHECKED = --config 'profile.release.package.face96.debug-assertions=true' \
  --config 'profile.release.package.face96.overflow-checks=true'

help:
	@echo 'make demo    install what is missing, build everything, open the page (PORT=$(PORT))'
	@echo 'make test    install what is missing, build everything, run every test'
	@echo 'make soak    a long run in Chromium: memory and frame times (FRAMES=$(FRAMES))'
	@echo 'make bench   compare speed with onnxruntime-web, tfjs, candle and PyTorch (BENCH=--quick for a minute instead of ten)'
	@echo 'make tutorial train net1 to net6 and write docs/tutorial.md (DATA=$(DATA) MINUTES=$(MINUTES) a net)'
	@echo 'make web     build the npm package (pkg/dist)'
	@echo 'make native  build the command line program (target/release/face96)'
	@echo 'make clean   delete what was built, but not the tools'

setup:
	@tools/setup.sh

demo: web
	cargo build --release --locked --no-default-features --features serve --bin face96-serve
	target/release/face96-serve --port $(PORT) --open

web: setup
	@tools/build-web.sh

native:
	cargo build --release --locked

tutorial: native
	target/release/face96 tutorial --data '$(DATA)' --minutes $(MINUTES)

test:
	@tools/setup.sh test
	# The kernels' unit tests with every debug assertion and overflow check of our own code: their index arithmetic.
	cargo test --release --locked --all-features --lib $(CHECKED)
	cargo test --release --locked --all-features --bins --test '*'
	cargo test --release --locked --all-features --doc
	@tools/build-web.sh
	npm run --silent types
	node --test tests/browser/*.test.js tests/package/*.test.js

soak: web
	@tools/setup.sh test
	cargo build --release --locked --no-default-features --features serve --bin face96-serve
	FACE96=target/release/face96-serve node tests/browser/long-run.js --frames $(FRAMES)

bench: web native
	@tools/setup.sh test
	@tools/bench/setup.sh
	node tools/bench/bench.js $(BENCH)

clean:
	rm -rf pkg/dist www/offline-files.js target/wasm target/wasm-relaxed target/wasm-candle target/bench target/release target/debug
