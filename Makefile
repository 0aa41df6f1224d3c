# Two targets do everything on a fresh machine with Python 3.11+ and a C compiler: demo and test.
PYTHON ?= python3
VENV := .venv
RUN := $(VENV)/bin/

.DEFAULT_GOAL := help
.PHONY: help demo test check libraries integrations upstream stress lint docs pictures release-check wheels api format hooks lock bench sanitize tsan soak kernels kernels-short clean fuzz bench-cache analyze coverage

help:  ## this list
	@awk -F':.*## ' '/^[a-z-]+:.*## /{printf "  make %-13s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

# The tools and libraries are those of the lock, with the hashes that it names; of them setuptools builds the package.
$(VENV)/ready: requirements/test.txt pyproject.toml setup.py $(shell find src/mvolatile/_core -name '*.[ch]')
	test -x $(RUN)python || $(PYTHON) -m venv $(VENV)
	$(RUN)pip install --quiet --require-hashes -r requirements/test.txt
	$(RUN)pip install --quiet --no-deps --no-build-isolation --editable .
	touch $@

# What not everybody needs, on top of that.
$(VENV)/ready-dev: requirements/dev.txt $(VENV)/ready
	$(RUN)pip install --quiet --require-hashes -r requirements/dev.txt
	touch $@

demo: $(VENV)/ready  ## set up, then serve real map tiles under a real memory limit, four ways side by side
	$(RUN)mvolatile demo

# A worker a processor. Tests that share something costly are run by one worker (`xdist_group`), others by any.
WORKERS ?= logical
SIDE_BY_SIDE := -n $(WORKERS) --maxprocesses 8 --dist loadgroup

test: $(VENV)/ready  ## set up, then run the tests but for the slow ones (minutes); ARGS='tests/unit/cache -x'
	$(RUN)pytest $(SIDE_BY_SIDE) -m 'not stress and not slow' $(ARGS)

check: $(VENV)/ready  ## the tests, and the slow ones
	$(RUN)pytest $(SIDE_BY_SIDE) $(ARGS)

# pandas 2 stands in front of the installed one, without what it needs: that is there.
libraries: $(VENV)/ready-dev  ## how hits on objects of pandas 2 and 3, PyArrow, SciPy and others behave; installs them
	$(RUN)pytest $(SIDE_BY_SIDE) tests/unit/cache/libraries
	$(RUN)pip install --quiet --no-deps --upgrade --target build/pandas2 'pandas<3' pytz
	PYTHONPATH=build/pandas2 $(RUN)pytest $(SIDE_BY_SIDE) tests/unit/cache/libraries/test_pandas.py

integrations: $(VENV)/ready-dev  ## the frameworks' backends, in real servers, and what watches memory; installs the frameworks
	$(RUN)pytest $(SIDE_BY_SIDE) tests/integrations $(ARGS)

upstream: $(VENV)/ready-dev  ## the frameworks' own suites, unmodified, on the backends; writes docs/upstream.md (SUITES='django-shared redis')
	PYTHONPATH=tests $(RUN)python -m tools.upstream $(SUITES)

stress: $(VENV)/ready  ## the long forms: races, fuzzing, faults, exploration (an hour or so)
	MVOLATILE_STRESS=full $(RUN)pytest $(SIDE_BY_SIDE) -m stress --timeout 7200 $(ARGS)

# A build of its own, which goes before the installed one. Python itself leaks by design; SIGBUS is the library's.
sanitize: $(VENV)/ready  ## the C core with AddressSanitizer and UndefinedBehaviorSanitizer, under its tests
	rm -rf build/sanitize
	MVOLATILE_SANITIZE=address,undefined $(RUN)python setup.py -q build --build-base build/sanitize --build-lib build/sanitize/lib
	PYTHONPATH=$(CURDIR)/build/sanitize/lib \
	LD_PRELOAD="$$($${CC:-gcc} -print-file-name=libasan.so) $$($${CC:-gcc} -print-file-name=libubsan.so)" \
	ASAN_OPTIONS=detect_leaks=0:handle_sigbus=0:handle_segv=0:allocator_may_return_null=1 UBSAN_OPTIONS=halt_on_error=1:print_stacktrace=1 \
	$(RUN)pytest $(SIDE_BY_SIDE) -m 'not stress and not room_counted' tests/unit/contract tests/unit/trap tests/unit/fork tests/unit/cache tests/unit/shared

tsan: $(VENV)/ready  ## the C core with ThreadSanitizer: threads in every operation, and the forced schedules
	MVOLATILE_STRESS=full $(RUN)pytest $(SIDE_BY_SIDE) tests/unit/native/test_threads.py --timeout 3600

OPERATIONS ?= 1000000
fuzz: $(VENV)/ready  ## OPERATIONS=1000000 on the raw call and on memories, guided by coverage, judged by the model; SEED=n
	PYTHONPATH=tests $(RUN)python -m fuzz --operations $(OPERATIONS) $(if $(SEED),--seed $(SEED)) $(ARGS)

MINUTES ?= 60
soak: $(VENV)/ready  ## MINUTES=60 of processes, threads, forks, kills, swap and limits; SEED=n repeats its choices
	PYTHONPATH=tests $(RUN)python -m soak --minutes $(MINUTES) $(if $(SEED),--seed $(SEED)) $(ARGS)

analyze: $(VENV)/ready  ## gcc's -fanalyzer over the C core: no warning
	for source in $$(find src/mvolatile/_core -name '*.c'); do \
	  $${CC:-gcc} -std=c11 -O2 -fanalyzer -Wall -Wextra -Werror -D_GNU_SOURCE -DPy_LIMITED_API=0x030B0000 -c $$source -o /dev/null \
	    -Isrc/mvolatile/_core -I"$$($(RUN)python -c 'import sysconfig; print(sysconfig.get_path("include"))')" || exit 1; \
	done

# A test that fails is another target's to tell; what was counted is told all the same.
COVERED ?= tests
COVERAGE := $(CURDIR)/build/coverage
coverage: $(VENV)/ready-dev  ## lines and branches of the Python and C sources that the tests run; COVERED=tests/unit for a part
	rm -rf build/coverage && mkdir -p $(COVERAGE)/python
	CFLAGS="--coverage -O0 -fprofile-update=atomic" LDFLAGS=--coverage \
	  $(RUN)python setup.py -q build --build-base $(COVERAGE) --build-lib $(COVERAGE)/lib
	-PYTHONPATH=$(COVERAGE)/lib $(RUN)coverage run -m pytest $(SIDE_BY_SIDE) --timeout 1200 $(COVERED)
	$(RUN)coverage combine -q
	$(RUN)coverage report --show-missing --skip-covered
	$(RUN)gcovr --root . --object-directory $(COVERAGE) --filter src/mvolatile/_core --txt-metric branch
	$(RUN)gcovr --root . --object-directory $(COVERAGE) --filter src/mvolatile/_core

kernels: $(VENV)/ready  ## the contract's tests on Debian's 6.1, 6.12 and 7 under QEMU and on this kernel (an hour); writes docs/kernels.md
	$(RUN)python -m tools.kernels

kernels-short: $(VENV)/ready  ## one boot of 6.1 and a few tests, if the machine can; a few minutes, writes no table
	$(RUN)python -m tools.kernels --kernel 6.1 --cells 1 --jobs 1 --tests quick --timeout 900 --if-possible

BENCHMARKS := mark_unmark peek_read pin_overhead many_ranges patch_program explore_speed model_races workers operators

bench: $(VENV)/ready  ## run the benchmarks of the core; figures go to benchmarks/*.json and benchmarks/README.md
	for name in $(BENCHMARKS); do echo; $(RUN)python benchmarks/$$name.py || true; done
	$(RUN)python benchmarks/report.py

CACHE_BENCHMARKS := cache_speed cache_hit_ratio cache_worth worth_under_limit cache_under_limit shared_speed shared_under_limit

bench-cache: $(VENV)/ready-dev  ## measure the cache, and write its tables and pictures (half an hour; QUICK=1: some minutes, and writes nothing)
	for name in $(CACHE_BENCHMARKS); do echo; echo "$$name"; \
	$(RUN)python benchmarks/$$name.py $(if $(QUICK),--quick,--json benchmarks/$$name.json) || true; done
	$(if $(QUICK),,$(RUN)python -m tools.pictures)

lint: $(VENV)/ready-dev  ## what git runs before a commit (`make hooks`), over all files; stubtest and pyright
	$(RUN)pre-commit run --all-files --show-diff-on-failure
	$(RUN)python -m mypy.stubtest mvolatile._core --allowlist tests/stubtest.txt --ignore-unused-allowlist
	$(RUN)pyright

docs: $(VENV)/ready-dev  ## the site, in build/site; any warning is an error
	$(RUN)sphinx-build -q -W --keep-going -j auto -b html -d build/doctrees docs build/site
	@echo "build/site/index.html"

pictures: $(VENV)/ready  ## draw the pictures of the docs from benchmarks/*.json
	$(RUN)python -m tools.pictures

release-check: $(VENV)/ready-dev  ## build, judge and try what would be uploaded; leaves it in dist/
	PYTHONPATH=tests $(RUN)python -m tools.release

wheels: $(VENV)/ready-dev  ## those for musl, and for Pythons without a GIL, and all where this is arm64, in dist/; wants Docker
	$(RUN)cibuildwheel --platform linux --output-dir dist

api: $(VENV)/ready  ## record the public names and signatures anew, in tests/unit/api.txt
	cd tests && ../$(RUN)python -m support.api

format: $(VENV)/ready-dev  ## let ruff and clang-format rewrite
	$(RUN)ruff check --fix .
	$(RUN)ruff format .
	git ls-files '*.c' '*.h' | xargs $(RUN)clang-format -i

hooks: $(VENV)/ready-dev  ## have git run ruff, mypy and the rest before each commit
	$(RUN)pre-commit install

LOCK := $(RUN)uv pip compile --quiet --python-version 3.11 $(if $(UPGRADE),--upgrade) pyproject.toml
lock: $(VENV)/ready-dev  ## lock what pyproject.toml asks for, for every Python, in requirements/; UPGRADE=1: the newest of all
	$(LOCK) --extra dev --output-file requirements/dev.txt
	$(LOCK) --extra all --constraints requirements/dev.txt --output-file requirements/test.txt

clean:  ## remove what was built
	rm -rf $(VENV) build dist src/*.egg-info src/mvolatile/*.so .pytest_cache .mypy_cache .ruff_cache
