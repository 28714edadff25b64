# The commands for developers. `make serve` and `make test` work from a clean clone on a machine that
# has Rust, Python 3 with pip and venv, and make. They download everything else once into folders that
# git ignores (target/, .onnxruntime/, .venv/).

# Each of these can be set on the command line: `make serve PORT=9000`.
PORT ?= 8500
REST_PORT ?= 8501
CARGO ?= cargo
PYTHON ?= python3
SERVE_FLAGS ?=
# The backend that runs the models: onnxruntime or tract (docs/backends.md).
BACKEND ?= onnxruntime
PYTEST_FLAGS ?=
SOAK_SECONDS ?= 1800
IMAGE ?= onnx-model-server:latest
IMAGE_FLAGS ?=

ROOT := $(CURDIR)
ONNXRUNTIME := $(ROOT)/.onnxruntime/lib/libonnxruntime.so
VENV := $(ROOT)/.venv
REQUIREMENTS := tests/python/requirements.txt
IMPORT_VENV := $(ROOT)/.venv-import
IMPORT_REQUIREMENTS := tools/import_requirements.txt
TARGET := $(or $(CARGO_TARGET_DIR),$(ROOT)/target)
MODELS_CONFIG := $(TARGET)/models.config

# The Rust tests open the library by this name.
export ORT_DYLIB_PATH := $(ONNXRUNTIME)

.DELETE_ON_ERROR:
.PHONY: help serve test test-full soak lint test-rust test-tract test-python test-import test-ops \
	onnxruntime venv import-venv bench bench-import image test-image clean

help:
	@echo "make serve        serves models/ on $(PORT) (gRPC) and $(REST_PORT) (REST)"
	@echo "                  BACKEND=tract: in pure Rust, without ONNX Runtime"
	@echo "make test         everything that has to pass before a change lands"
	@echo "make test-full    make test, and the tests that take long"
	@echo "make soak         everything at once on a release build for SOAK_SECONDS, half an hour"
	@echo "make lint         format, clippy, documentation and dependencies only"
	@echo "make test-rust    Rust tests only"
	@echo "make test-python  Python client tests only"
	@echo "make test-tract   Rust tests of the backend tract"
	@echo "make test-ops     with the proxies, clients and tools of others, where they are installed"
	@echo "make test-import  tools/import_model.py with TensorFlow and PyTorch, some GB of them"
	@echo "make bench        measures: a table, and target/bench/report.json; 10 minutes"
	@echo "make bench-import imported models next to tf2onnx's files of them; needs TensorFlow, some GB"
	@echo "make image        the container image $(IMAGE), by docker, podman or buildah"
	@echo "make test-image   builds the image with buildah and tests it; needs root"
	@echo "make onnxruntime  fetches ONNX Runtime's library"
	@echo "make clean        removes all that was built or fetched"

ifeq ($(BACKEND),onnxruntime)
serve: onnxruntime
BACKEND_FLAGS := --onnxruntime_library=$(ONNXRUNTIME)
else
BACKEND_FEATURES := --features $(BACKEND)
endif

serve: $(MODELS_CONFIG)
	$(CARGO) build --profile quick --locked $(BACKEND_FEATURES)
	exec $(TARGET)/quick/onnx_model_server --port=$(PORT) --rest_api_port=$(REST_PORT) \
		--model_config_file=$(MODELS_CONFIG) --backend=$(BACKEND) $(BACKEND_FLAGS) $(SERVE_FLAGS)

# Base paths have to be absolute. Written every time, because the clone can have been moved.
.PHONY: $(MODELS_CONFIG)
$(MODELS_CONFIG):
	@mkdir -p $(@D)
	@sed 's|$${MODELS}|$(ROOT)/models|' models/models.config > $@

# All stages run even after one has failed, so that one run shows all failures.
test:
	@failed=; \
	for stage in lint test-rust test-python; do \
		echo "== $$stage"; \
		start=$$(date +%s); \
		$(MAKE) --no-print-directory $$stage || failed="$$failed $$stage"; \
		echo "== $$stage took $$(($$(date +%s) - start)) s"; \
	done; \
	if [ -n "$$failed" ]; then echo "== failed:$$failed"; exit 1; fi

lint:
	$(CARGO) fmt --all --check
	$(CARGO) clippy --locked --workspace --all-targets -- -D warnings
	RUSTDOCFLAGS=-Dwarnings $(CARGO) doc --locked --workspace --no-deps
	$(PYTHON) tools/check_dependencies.py
	$(PYTHON) tools/check_circles.py
	$(PYTHON) tools/check_sizes.py
	$(PYTHON) tools/check_prose.py

# nextest does not run the examples in doc comments, plain `cargo test` does.
test-rust: onnxruntime
	@if $(CARGO) nextest --version > /dev/null 2>&1; then \
		set -ex; \
		$(CARGO) nextest run --locked --workspace --no-tests=pass --no-fail-fast; \
		$(CARGO) test --locked --workspace --doc; \
	else \
		set -ex; \
		$(CARGO) test --locked --workspace --no-fail-fast; \
	fi

# Not part of `make test`, because compiling tract alone takes minutes. CI runs it. First the tests that
# name tract: its own and the contract's, the choice of a backend, the zoo; then a check that everything
# compiles, with either backend and with both.
TRACT_TESTS := tract:: _tract
test-tract: onnxruntime
	@if $(CARGO) nextest --version > /dev/null 2>&1; then \
		set -ex; \
		$(CARGO) nextest run --locked --workspace --features tract --no-fail-fast $(TRACT_TESTS); \
	else \
		set -ex; \
		$(CARGO) test --locked --workspace --features tract --no-fail-fast --lib --test it -- $(TRACT_TESTS); \
	fi
	$(CARGO) clippy --locked --workspace --no-default-features --features tract --all-targets -- -D warnings
	$(CARGO) clippy --locked --workspace --features tract --all-targets -- -D warnings
	$(CARGO) clippy --locked --workspace --no-default-features --features onnxruntime --all-targets -- -D warnings

test-python: onnxruntime venv
	$(CARGO) build --locked
	$(VENV)/bin/python -m pytest tests/python --ignore-glob='*/test_import_*' \
		--ignore-glob='*/test_ops_*' $(PYTEST_FLAGS)

# Not part of `make test`, because it needs the programs that tools/install_test_programs.sh installs,
# such as nginx. Tests whose program is missing are skipped, or fail if REQUIRE_TEST_PROGRAMS is set.
test-ops: onnxruntime venv
	$(CARGO) build --locked
	$(VENV)/bin/python -m pytest $(wildcard tests/python/test_ops_*.py) \
		--continue-on-collection-errors $(PYTEST_FLAGS)

# Not part of `make test`, because it installs whole training libraries. Each file runs in a process of
# its own: TensorFlow and PyTorch bring libraries that cannot both be loaded.
test-import: onnxruntime import-venv
	$(CARGO) build --locked
	@set -ex; for file in $(wildcard tests/python/test_import_*.py); do \
		$(IMPORT_VENV)/bin/python -m pytest $$file $(PYTEST_FLAGS); \
	done

# Includes the tests that take too long for every change; they are marked `full` on the Python side.
test-full:
	$(MAKE) test PYTEST_FLAGS="$(PYTEST_FLAGS) --full"

# `make test` runs a minute of it, on the development build.
soak: onnxruntime venv
	$(CARGO) build --release --locked
	SOAK_SECONDS=$(SOAK_SECONDS) ONNX_MODEL_SERVER=$(TARGET)/release/onnx_model_server \
		$(VENV)/bin/python -m pytest tests/python/test_soak.py -s $(PYTEST_FLAGS)

# Everything is compiled before the measurements begin.
bench: onnxruntime
	$(CARGO) bench --locked --bench json --bench serving --no-run
	$(CARGO) bench --locked --bench json
	$(CARGO) bench --locked --bench serving

# Not part of `make bench`, because it installs whole training libraries. The models are made once, into
# $(TARGET)/bench-import.
bench-import: import-venv
	$(CARGO) build --release --locked
	$(IMPORT_VENV)/bin/python benches/import/run.py --target=$(TARGET) \
		--server=$(TARGET)/release/onnx_model_server $(BENCH_MODELS)

# IMAGE_FLAGS are arguments of the build, such as `--build-arg BASE_IMAGE=…`: docs/image.md.
image:
	@tools/build_image.sh $(IMAGE) $(IMAGE_FLAGS)

# Not part of `make test`, because it needs root and buildah, and compiles a release build.
test-image: venv
	@tests/image/run.sh $(VENV)/bin/python $(PYTEST_FLAGS)

onnxruntime:
	@$(PYTHON) tools/fetch_onnxruntime.py

# Recreated only if the requirements have changed; it contains a copy of those it was made from. Its
# packages are installed by the pip of $(PYTHON), so that `ensurepip` is not needed.
venv:
	@cmp -s $(REQUIREMENTS) $(VENV)/requirements.txt || { set -e; \
		echo "making $(VENV), which takes some minutes"; \
		rm -rf $(VENV); \
		$(PYTHON) -m venv --without-pip $(VENV); \
		$(PYTHON) -m pip --disable-pip-version-check --python $(VENV)/bin/python \
			install --quiet --no-deps --only-binary=:all: -r $(REQUIREMENTS); \
		cp $(REQUIREMENTS) $(VENV)/requirements.txt; \
	}

# Installs the packages of $(VENV), then those for the import with all their dependencies.
import-venv:
	@cat $(REQUIREMENTS) $(IMPORT_REQUIREMENTS) | cmp -s - $(IMPORT_VENV)/requirements.txt || { set -e; \
		echo "making $(IMPORT_VENV), which takes some minutes"; \
		rm -rf $(IMPORT_VENV); \
		$(PYTHON) -m venv --without-pip $(IMPORT_VENV); \
		pip="$(PYTHON) -m pip --disable-pip-version-check --python $(IMPORT_VENV)/bin/python \
			install --quiet --only-binary=:all:"; \
		$$pip --no-deps -r $(REQUIREMENTS); \
		$$pip -r $(IMPORT_REQUIREMENTS); \
		cat $(REQUIREMENTS) $(IMPORT_REQUIREMENTS) > $(IMPORT_VENV)/requirements.txt; \
	}

clean:
	rm -rf target .venv .venv-import .onnxruntime .pytest_cache
