# make help says what there is.
.PHONY: help demo test web native soak setup clean
.DEFAULT_GOAL := help
export RUSTUP_AUTO_INSTALL ?= 0
export CHROMIUM ?= /usr/bin/chromium
PORT ?= 9696
FRAMES ?= 20000

help:
	@echo 'make demo    install what is missing, build everything, open the page (PORT=$(PORT))'
	@echo 'make test    install what is missing, build everything, run every test'
	@echo 'make soak    a long run in Chromium: memory and frame times (FRAMES=$(FRAMES))'
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

test:
	@tools/setup.sh test
	cargo test --release --locked --all-features
	@tools/build-web.sh
	npm run --silent types
	node --test tests/browser/*.test.js tests/package/*.test.js

soak: web
	@tools/setup.sh test
	cargo build --release --locked --no-default-features --features serve --bin face96-serve
	FACE96=target/release/face96-serve node tests/browser/long-run.js --frames $(FRAMES)

clean:
	rm -rf pkg/dist www/offline-files.js target/wasm target/release target/debug
