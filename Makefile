# make help says what there is.
.PHONY: help demo check sbom test rust-tests web-build mutants firefox bench tutorial model card web site native soak setup clean
.DEFAULT_GOAL := help
export RUSTUP_AUTO_INSTALL ?= 0
export CHROMIUM ?= /usr/bin/chromium
PORT ?= 9696
FRAMES ?= 20000
MINUTES ?= 20
DATA ?= synthetic
FACES ?= ../shared/data
FEATURES = wasm,bench-candle
# The tests that other browsers than Chromium run: what every engine must do, with a reason for each thing that one lacks.
IN_FIREFOX = $(addprefix tests/browser/,$(addsuffix .test.js,engine package faults tracking element))
IN_WEBKIT = $(addprefix tests/browser/,$(addsuffix .test.js,tracking))
# Tests that measure time run by themselves; all others two at a time.
TIMED = $(addprefix tests/browser/,$(addsuffix .test.js,element long-run page-speed tracking))
UNTIMED = $(filter-out $(TIMED),$(wildcard tests/browser/*.test.js tests/package/*.test.js))
CHECKED = --profile checked --locked --features $(FEATURES)

help:
	@echo 'make demo    install what is missing, build everything, open the page (PORT=$(PORT))'
	@echo 'make test    install what is missing, build everything, run every test'
	@echo 'make firefox  every browser test that Firefox can take, those of the page too (make test leaves these out for its time)'
	@echo 'make check   format, lints, spelling, licences of libraries, workflows'
	@echo 'make sbom    the libraries in the program and in the wasm, with versions and licences, as CycloneDX (target/sbom)'
	@echo 'make mutants small changes to the code, and which of them the tests notice (WHERE=src/geometry.rs for one file)'
	@echo 'make soak    a long run in Chromium: memory and frame times (FRAMES=$(FRAMES))'
	@echo 'make bench   compare speed with onnxruntime-web, tfjs, candle and PyTorch (BENCH=--quick for a minute instead of ten)'
	@echo 'make tutorial train net1 to net6 and write docs/tutorial.md (DATA=$(DATA) MINUTES=$(MINUTES) a net)'
	@echo 'make model   train and export what pkg/weights and www/weights hold, from FACES=$(FACES) (six hours on 2 cores; resumes where it stopped)'
	@echo 'make card    print the figures of MODEL_CARD.md, from FACES=$(FACES)'
	@echo 'make web     build the npm package (pkg/dist)'
	@echo 'make site    write the page as a folder for any static host (target/site)'
	@echo 'make native  build the command line program (target/release/face96)'
	@echo 'make clean   delete what was built, but not the tools'

setup:
	@tools/setup.sh

demo: web
	cargo build --release --locked --no-default-features --features serve --bin face96-serve
	target/release/face96-serve --port $(PORT) --open

web: setup
	@tools/build-web.sh

site: web
	@node tools/site.js

native:
	cargo build --release --locked

tutorial: native
	target/release/face96 tutorial --data '$(DATA)' --minutes $(MINUTES)

# $(call run,FOLDER,ARGUMENTS): a training run, or the rest of an interrupted one.
run = if [ -e $(1)/config.toml ]; then target/release/face96 resume --run $(1); else target/release/face96 train --out $(1) $(2); fi

# How often an epoch shows a face, by source: hand-set labels count for more than a teacher's, frames of one video for less.
WEIGHTS = --set weights='{helen_afw=4,utk=0.8,ytf_p1=0.7}'

model: native
	$(call run,runs/compact,--data '$(FACES)' --preset compact $(WEIGHTS))
	target/release/face96 export --run runs/compact --precision int6 --calibrate '$(FACES)' --out pkg/weights/compact.safetensors
	$(call run,runs/compact68,--data '$(FACES)' --all-68 --preset compact $(WEIGHTS) --epochs 34 --init pkg/weights/compact.safetensors)
	target/release/face96 export --run runs/compact68 --precision int6 --calibrate '$(FACES)' --out pkg/weights/compact68.safetensors
	$(call run,runs/finder,--data '$(FACES)' --preset finder)
	target/release/face96 export --run runs/finder --precision int8 --out pkg/weights/finder.safetensors
	# The tutorial's net2 for the page, by its own recipe with mirror images (net3), as many samples as its 1,000 epochs of 1,096 faces.
	$(call run,runs/net2,--data '$(FACES)' --preset net3 $(WEIGHTS) --epochs 51)
	target/release/face96 export --run runs/net2 --precision int8 --out www/weights/net2.safetensors

card: native
	@for source in helen_afw lfw ytf_p1; do \
	  echo "== $$source"; \
	  target/release/face96 eval --weights pkg/weights/compact.safetensors --data "$(FACES)/$$source" --boxes-off --shifted; \
	done
	@echo '== all validation people, and pictures without a face'
	@target/release/face96 eval --weights pkg/weights/compact.safetensors --data '$(FACES)' --shifted --reliability docs/reliability.svg
	@for source in helen_afw lfw ytf_p1; do \
	  echo "== 68 points, $$source"; \
	  target/release/face96 eval --weights pkg/weights/compact68.safetensors --data "$(FACES)/$$source" --shifted; \
	done
	@for source in helen_afw lfw ytf_p1; do \
	  echo "== net2 of the page, $$source"; \
	  target/release/face96 eval --weights www/weights/net2.safetensors --data "$(FACES)/$$source"; \
	done
	@echo '== groups: utk, all of it trained on'
	@target/release/face96 eval --weights pkg/weights/compact.safetensors --data '$(FACES)/utk' --split train
	@echo '== whole pictures'
	@target/release/face96 eval --weights pkg/weights/finder.safetensors --keypoints pkg/weights/compact.safetensors \
	  --data '$(FACES)'
	@echo '== where it fails, on drawn faces'
	@target/release/face96 plot --augmented --count 32 --weights pkg/weights/compact.safetensors --data synthetic:32 \
	  --set augment.roll=30 --set augment.occlusion=1 --set augment.edge=0.5 --set augment.spoil=0 --out docs/failures.jpg

check: setup
	@tools/check.sh

# The npm package has no dependency; its wasm's are crates.
sbom:
	@cargo install --quiet --locked --root target/tools cargo-cyclonedx --version 0.5.9
	@mkdir -p target/sbom
	@target/tools/bin/cargo-cyclonedx cyclonedx --quiet --format json --no-build-deps --override-filename face96-program.cdx
	@target/tools/bin/cargo-cyclonedx cyclonedx --quiet --format json --no-build-deps --no-default-features --features wasm \
	  --target wasm32-unknown-unknown --override-filename face96-wasm.cdx
	@mv face96-program.cdx.json face96-wasm.cdx.json target/sbom/
	@ls -l target/sbom

test:
	@tools/setup.sh test
	# Side by side: each leaves a core idle now and then.
	@$(MAKE) --no-print-directory -j2 rust-tests web-build
	npm run --silent types
	FACE96=$(CURDIR)/target/checked/face96 node --test --test-concurrency=2 $(UNTIMED)
	FACE96=$(CURDIR)/target/checked/face96 node --test $(TIMED)
	FACE96=$(CURDIR)/target/checked/face96 ENGINE=firefox node --test --test-concurrency=2 $(IN_FIREFOX)
	FACE96=$(CURDIR)/target/checked/face96 ENGINE=webkit node --test $(IN_WEBKIT)

# make hands its job server only to other makes; cargo would look for it and warn.
ALONE = env -u MAKEFLAGS -u MFLAGS
# Clippy is the compiler with lints: tests, examples and the server alone are linted while they are built, and no library is compiled for
# lints alone. `make check` lints without building.
LINTED = $(ALONE) RUSTC_WORKSPACE_WRAPPER=clippy-driver CLIPPY_ARGS='-D__CLIPPY_HACKERY__warnings__CLIPPY_HACKERY__'
rust-tests:
	@$(ALONE) tools/check.sh --but-clippy
	# One build of everything, with every debug assertion and overflow check of our own code.
	$(LINTED) cargo test $(CHECKED) --tests
	# The examples in the documentation, and each warning of the documentation itself.
	$(LINTED) RUSTDOC=$(CURDIR)/tools/rustdoc.sh cargo test $(CHECKED) --doc
	# Each exits with an error if its figure is not the expected one.
	$(LINTED) cargo run $(CHECKED) --example detect_picture
	$(LINTED) cargo run $(CHECKED) --example train_synthetic
	# The server alone, as make demo builds it.
	$(LINTED) cargo build --profile checked --locked --no-default-features --features serve --bin face96-serve

web-build:
	@$(ALONE) tools/build-web.sh

# What tests notice of small changes to the code. Two hours on two cores; WHERE=src/geometry.rs is a few minutes. Both print what was not
# noticed. typescript is there because Stryker wants it.
MUTATED = $(or $(WHERE),src/geometry.rs src/schema.rs src/weights.rs src/infer.rs src/track/*.rs src/train/loss.rs src/ops/heatmap.rs)
mutants: web
	@if [ -z '$(WHERE)' ]; then npx --yes --package @stryker-mutator/core@9.4.0 --package typescript@5.9 stryker run tools/stryker.json; fi
	@cargo install --quiet --locked --root target/tools cargo-mutants --version 27.1.0
	target/tools/bin/cargo-mutants mutants --in-place --output target $(addprefix --file ,$(MUTATED)) \
	  --cargo-arg=--profile=checked --cargo-test-arg=--lib

firefox: web native
	@tools/setup.sh test
	ENGINE=firefox node --test $(IN_FIREFOX) tests/browser/page.test.js

soak: web
	@tools/setup.sh test
	cargo build --release --locked --no-default-features --features serve --bin face96-serve
	FACE96=target/release/face96-serve node tests/browser/long-run.js --frames $(FRAMES)

bench: web native
	@tools/setup.sh test
	@tools/bench/setup.sh
	node tools/bench/bench.js $(BENCH)

clean:
	rm -rf pkg/dist pkg/inline/embedded* www/offline-files.js www/net-list.js target/wasm target/wasm-relaxed target/wasm-candle target/bench target/release target/debug
