# Chorus. `make help` lists the targets.
#
# Every .c under engine/, config/ and server/ (but main.c) goes into libchorus.a; the binary, each test and each fuzz target are one
# .c file with a main on top of it, found by wildcard. Objects live under $(BUILD), one tree a flavour: build (plain),
# build/asan, build/tsan, build/fuzz.

BUILD   ?= build
CC      ?= gcc
PKGS    := libmicrohttpd libcjson libuv libpcre2-8 libutf8proc

OPT     ?= -O2
CSTD    := -std=c11 -D_GNU_SOURCE
WARN    := -Wall -Wextra -Wshadow -Wvla -Wstrict-prototypes -Wmissing-prototypes -Wno-unknown-warning-option -Wno-format-truncation -Wno-pass-failed -Werror
# -ffp-contract=off: a fused multiply-add is written where it is meant, so that sums are the same on every path.
CFLAGS  += $(CSTD) $(OPT) -g -fno-omit-frame-pointer -ffp-contract=off $(WARN) -I. -pthread \
           $(shell pkg-config --cflags $(PKGS) 2>/dev/null) $(SAN)
LDLIBS  += $(shell pkg-config --libs $(PKGS) 2>/dev/null) -lm -pthread
LDFLAGS += $(SAN)

LIB_SRC   := $(filter-out server/main.c,$(wildcard engine/*.c engine/*/*.c config/*.c server/*.c))
LIB_OBJ   := $(LIB_SRC:%.c=$(BUILD)/obj/%.o)
# Tests: each .c that holds a main is a program; the others beside it are helpers of that folder.
TEST_SRC  := $(wildcard tests/unit/*.c tests/sim/*.c tests/golden/*.c)
UNIT_SRC  := $(shell grep -lE '^int main\b' $(TEST_SRC) /dev/null)
HELP_OBJ  := $(patsubst %.c,$(BUILD)/obj/%.o,$(filter-out $(UNIT_SRC),$(TEST_SRC)))
UNIT_BIN  := $(UNIT_SRC:%.c=$(BUILD)/%)
FUZZ_SRC  := $(wildcard tests/fuzz/fuzz_*.c)
FUZZ_BIN  := $(FUZZ_SRC:%.c=$(BUILD)/%)

DEMO      := models/storyteller
ARGS      ?=

.DELETE_ON_ERROR:
.SECONDARY:

all: $(BUILD)/chorus ## build build/chorus

$(BUILD)/libchorus.a: $(LIB_OBJ)
	@rm -f $@
	@ar rcs $@ $^

$(BUILD)/chorus: $(BUILD)/obj/server/main.o $(BUILD)/libchorus.a
	@echo "  ld $@"
	@$(CC) $(LDFLAGS) -o $@ $^ $(LDLIBS)

$(BUILD)/obj/%.o: %.c
	@mkdir -p $(@D)
	@echo "  cc $<"
	@$(CC) $(CFLAGS) -MMD -MP -c -o $@ $<

# The kernels are not what the fuzz targets look into, and clang takes minutes over them with sanitizers.
ifdef PLAIN_KERNELS
$(BUILD)/obj/engine/cpu/cpu_kernel_%.o: CFLAGS := $(CSTD) $(OPT) -ffp-contract=off $(WARN) -I. -pthread
endif

$(BUILD)/tests/fuzz/%: $(BUILD)/obj/tests/fuzz/%.o $(BUILD)/libchorus.a
	@mkdir -p $(@D)
	@$(CC) $(LDFLAGS) -fsanitize=fuzzer -o $@ $^ $(LDLIBS)

$(BUILD)/tests/%: $(BUILD)/obj/tests/%.o $(HELP_OBJ) $(BUILD)/libchorus.a
	@mkdir -p $(@D)
	@$(CC) $(LDFLAGS) -o $@ $^ $(LDLIBS) -lcmocka

deps: ## install what is missing for `make run` (apt, sudo when not root)
	@scripts/install-deps.sh build

test-deps: ## install what is missing for `make test`
	@scripts/install-deps.sh test

# The sub-makes below start after the packages are there, so that pkg-config sees them.
run: deps ## install what is missing, build, serve the demo model with its voices on 127.0.0.1:8080
	@$(MAKE) --no-print-directory -j$$(nproc) all
	@exec $(BUILD)/chorus serve --model $(DEMO) --adapters $(DEMO)/adapters $(ARGS)

test: test-deps ## install what is missing and run every test that needs no card
	@$(MAKE) --no-print-directory -j$$(nproc) all unit-bins
	@$(MAKE) --no-print-directory -j$$(nproc) asan-bins fuzz-bins
	@build/venv/bin/python scripts/run_tests.py $(ARGS)

unit-bins: $(UNIT_BIN) $(BUILD)/tests/api/fake_server

unit: unit-bins ## C unit tests, simulations and goldens only
	@python3 scripts/run_tests.py --only unit $(ARGS)

asan-bins:
	@$(MAKE) --no-print-directory BUILD=build/asan OPT=-O1 SAN="-fsanitize=address,undefined -fno-sanitize-recover=all" \
	    all unit-bins

asan: asan-bins ## the C tests under AddressSanitizer and UndefinedBehaviorSanitizer
	@python3 scripts/run_tests.py --only asan $(ARGS)

tsan: ## the threaded C tests under ThreadSanitizer
	@$(MAKE) --no-print-directory BUILD=build/tsan OPT=-O1 SAN="-fsanitize=thread" all unit-bins
	@python3 scripts/run_tests.py --only tsan $(ARGS)

# libFuzzer comes with clang; without it the suite is smaller and says so.
fuzz-bins:
	@if scripts/have-fuzzer.sh; then $(MAKE) --no-print-directory BUILD=build/fuzz CC=clang OPT=-O1 PLAIN_KERNELS=1 \
	    SAN="-fsanitize=fuzzer-no-link,address,undefined -fno-sanitize-recover=all" fuzz-programs; \
	else echo "fuzz: clang with libFuzzer is not here, the fuzz targets are left out"; fi

fuzz-programs: $(FUZZ_BIN)

fuzz: fuzz-bins ## run each fuzz target for SECONDS=60
	@python3 scripts/run_tests.py --only fuzz --fuzz-seconds $${SECONDS:-60}

sim: ## a longer simulation of the engine: SEEDS=10000, FIRST=1
	@$(MAKE) --no-print-directory $(BUILD)/tests/sim/test_engine_sim
	@$(BUILD)/tests/sim/test_engine_sim --seeds $${SEEDS:-10000} --first $${FIRST:-1}

bench: all ## load on the demo model over HTTP: one stream, then 16 over its voices
	@scripts/bench-demo.sh

lint: ## sizes, include directions, banned calls, formatting
	@python3 scripts/lint.py

fmt: ## format the sources
	@git ls-files '*.c' '*.h' '*.cu' '*.cuh' | xargs clang-format -i

golden: ## capture the goldens again (needs torch, transformers and peft)
	@python3 scripts/make_goldens.py

clean: ## remove the build
	rm -rf $(BUILD)

help: ## this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 14

.PHONY: all deps test-deps run test unit unit-bins sim asan asan-bins tsan fuzz fuzz-bins fuzz-programs bench lint fmt golden clean help
-include $(shell find $(BUILD)/obj -name '*.d' 2>/dev/null)
