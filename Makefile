# Chorus. `make help` lists the targets.
#
# Every .c under engine/, config/ and server/ (but main.c) goes into libchorus.a; the binary, each test and each fuzz target are one
# .c file with a main on top of it, found by wildcard. Objects live under $(BUILD), one tree a flavour: build (plain),
# build/asan, build/tsan, build/fuzz.
#
# CUDA says what becomes of cuda/: "nvcc" compiles the kernels for the card and links them into the binary; "emu" has only the
# toolkit's headers and puts the emulator (tests/emu) in their place; "none" leaves cuda/ out. Tests always get the emulator, but
# those of build/tests/kernels and build/tests/gpu, which `make gpu-test` builds for a card.

BUILD   ?= build
CC      ?= gcc
PKGS    := libmicrohttpd libcjson libuv libpcre2-8 libutf8proc

comma   := ,
OPT     ?= -O2
CSTD    := -std=c11 -D_GNU_SOURCE
WARN    := -Wall -Wextra -Wshadow -Wvla -Wstrict-prototypes -Wmissing-prototypes -Wno-unknown-warning-option -Wno-format-truncation -Wno-pass-failed -Werror
# -ffp-contract=off: a fused multiply-add is written where it is meant, so that sums are the same on every path.
CFLAGS  += $(CSTD) $(OPT) -g -fno-omit-frame-pointer -ffp-contract=off $(WARN) -I. -pthread \
           $(shell pkg-config --cflags $(PKGS) 2>/dev/null) $(SAN)
LDLIBS  += $(shell pkg-config --libs $(PKGS) 2>/dev/null) -lm -pthread
LDFLAGS += $(SAN) $(if $(RELOCATE),-Wl$(comma)--disable-new-dtags$(comma)-rpath$(comma)'$$ORIGIN/../lib')

NVCC      ?= $(shell command -v nvcc || ls /usr/local/cuda/bin/nvcc 2>/dev/null)
CUDA_HOME ?= $(if $(NVCC),$(patsubst %/bin/nvcc,%,$(realpath $(NVCC))),/usr/local/cuda)
CUDA_HEAD := $(wildcard $(CUDA_HOME)/include/cuda_runtime_api.h)
CUDA      ?= $(if $(NVCC),nvcc,$(if $(CUDA_HEAD),emu,none))
# What the kernels are compiled for: the cards that are here, else sm_90. CUDA_LINES=1: with their source lines, for compute-sanitizer and ncu. CUDA_PTX: PTX of these beside
# them, which later cards compile at start. CUDA_PTX80=1: only PTX of compute_80, and at most 99 KB
# of shared memory a block, on any card, as for RTX 30 and 40 owners.
ifeq ($(CUDA),nvcc)
CUDA_ARCHS ?= $(or $(sort $(subst .,,$(shell nvidia-smi --query-gpu=compute_cap --format=csv$(comma)noheader 2>/dev/null | grep -xE '([89]|[1-9][0-9])\.[0-9]'))),90)
endif
NVFLAGS   := -std=c++17 -O3 $(if $(CUDA_LINES),-lineinfo) $(if $(CUDA_PTX80),-DLAUNCH_SMEM_MOST=101376) -I. --fmad=true -Werror all-warnings --resource-usage -Xcompiler -Wall,-Wextra,-fno-exceptions,-fno-threadsafe-statics
CUDA_GEN  := $(if $(CUDA_PTX80),-gencode arch=compute_80$(comma)code=compute_80,$(foreach a,$(CUDA_ARCHS),-gencode arch=compute_$(a)$(comma)code=sm_$(a)) \
             $(foreach a,$(CUDA_PTX),-gencode arch=compute_$(a)$(comma)code=compute_$(a)))

LIB_SRC   := $(filter-out server/main.c,$(wildcard engine/*.c engine/*/*.c config/*.c server/*.c))
ifneq ($(CUDA),none)
LIB_SRC   += $(wildcard cuda/*.c)
CFLAGS    += -DCHORUS_CUDA -isystem $(CUDA_HOME)/include
CXX       ?= g++
CXXFLAGS  := -std=c++17 $(OPT) -g -fno-omit-frame-pointer -ffp-contract=off -fno-exceptions -DCHORUS_EMULATE \
             -Wall -Wextra -Wshadow -Wno-unknown-pragmas -Werror -I. -isystem $(CUDA_HOME)/include -pthread $(SAN)
CUDA_SRC  := $(wildcard cuda/*.cu)
TEST_CU   := $(wildcard tests/kernels/*.cu)
EMU_OBJ   := $(patsubst %,$(BUILD)/emu/obj/%.o,$(CUDA_SRC) $(TEST_CU) $(filter-out tests/emu/emu_present.cc,$(wildcard tests/emu/*.cc)) $(wildcard tests/emu/*.cu))
CARD_OBJ  := $(patsubst %.cu,$(BUILD)/cuda/%.o,$(CUDA_SRC))
TEST_CARD := $(patsubst %.cu,$(BUILD)/cuda/%.o,$(TEST_CU))
HELP_LIB  := $(BUILD)/libhelp.a
GTEST_LIB := $(BUILD)/libgtest.a
EMU_HERE  := $(BUILD)/emu/obj/tests/emu/emu_present.cc.o
EMU_LIB   := $(BUILD)/emu/libkernels.a
EMU_LINK  := $(EMU_LIB) -lstdc++
KTEST_SRC := $(wildcard tests/kernels/test_*.c)
KBENCH_SRC := $(wildcard tests/kernels/bench_*.c)
KTEST_OBJ := $(patsubst %.c,$(BUILD)/obj/%.o,$(filter-out $(KTEST_SRC) $(KBENCH_SRC),$(wildcard tests/kernels/*.c)))
# Programs over the whole backend; emulated they find a card at once (emu_present).
GTEST_ALL := $(wildcard tests/gpu/*.c)
GTEST_SRC := $(shell grep -lE '^int main\b' $(GTEST_ALL) /dev/null)
GTEST_OBJ := $(patsubst %.c,$(BUILD)/obj/%.o,$(filter-out $(GTEST_SRC),$(GTEST_ALL)))
GPU_BIN   := $(patsubst %.c,$(BUILD)/%,$(KTEST_SRC) $(KBENCH_SRC) $(GTEST_SRC))
EMU_BIN   := $(patsubst %.c,$(BUILD)/emu/%,$(KTEST_SRC) $(wildcard tests/emu/test_*.c))
EMU_GPU   := $(GTEST_SRC:%.c=$(BUILD)/emu/%)
endif
ifeq ($(CUDA),nvcc)
CARD_LIB  := $(BUILD)/cuda/libkernels.a
CARD_LINK := $(CARD_LIB) $(CUDA_HOME)/lib64/libcudart_static.a -ldl -lrt
else
CARD_LIB  := $(EMU_LIB)
CARD_LINK := $(EMU_LINK)
endif
LIB_OBJ   := $(LIB_SRC:%.c=$(BUILD)/obj/%.o)
# Tests: each .c that holds a main is a program; the others beside it are helpers of that folder.
TEST_SRC  := $(wildcard tests/unit/*.c tests/sim/*.c tests/golden/*.c)
UNIT_SRC  := $(shell grep -lE '^int main\b' $(TEST_SRC) /dev/null)
HELP_OBJ  := $(patsubst %.c,$(BUILD)/obj/%.o,$(filter-out $(UNIT_SRC),$(TEST_SRC)))
UNIT_LIB  := $(BUILD)/libunit.a
UNIT_BIN  := $(UNIT_SRC:%.c=$(BUILD)/%)
FUZZ_SRC  := $(wildcard tests/fuzz/fuzz_*.c)
FUZZ_BIN  := $(FUZZ_SRC:%.c=$(BUILD)/%)

# A sanitized binary has no card: what nvcc makes is not looked into.
CUDA_SAN  := CUDA=$(if $(CUDA_HEAD),emu,none)

DEMO      := models/storyteller
ARGS      ?=

MAKEFLAGS += --no-builtin-rules
.DELETE_ON_ERROR:
.SECONDARY:

all: $(BUILD)/chorus ## build build/chorus
ifeq ($(CUDA),none)
	@echo "cuda: no CUDA toolkit here (NVCC=, CUDA_HOME=), the CUDA backend is left out"
else ifeq ($(CUDA),emu)
	@echo "cuda: the toolkit's headers but no nvcc here, the binary has no kernels"
endif

always:

$(BUILD)/libchorus.a: $(LIB_OBJ)
	@mkdir -p $(@D) && rm -f $@
	@ar rcs $@ $^

$(BUILD)/chorus: $(BUILD)/obj/server/main.o $(BUILD)/libchorus.a $(CARD_LIB)
	@echo "  ld $@"
	@$(CC) $(LDFLAGS) -o $@ $(filter-out $(CARD_LIB),$^) $(CARD_LINK) $(LDLIBS)

$(BUILD)/obj/%.o: %.c
	@mkdir -p $(@D)
	@echo "  cc $<"
	@$(CC) $(CFLAGS) -MMD -MP -c -o $@ $<

# The assembler puts these files into the binary (.incbin), which no list of headers tells of.
$(BUILD)/obj/server/openapi.o: server/openapi.json
$(BUILD)/obj/server/page.o: $(wildcard server/page/*)

# The kernels are not what the fuzz targets look into, and clang takes minutes over them with sanitizers.
ifdef PLAIN_KERNELS
$(BUILD)/obj/engine/cpu/cpu_kernel_%.o: CFLAGS := $(CSTD) $(OPT) -ffp-contract=off $(WARN) -I. -pthread
endif

$(BUILD)/tests/fuzz/%: $(BUILD)/obj/tests/fuzz/%.o $(BUILD)/libchorus.a
	@mkdir -p $(@D)
	@$(CC) $(LDFLAGS) -fsanitize=fuzzer -o $@ $^ $(LDLIBS)

$(patsubst %.c,$(BUILD)/%,$(KTEST_SRC) $(KBENCH_SRC)): $(BUILD)/tests/%: $(BUILD)/obj/tests/%.o $(TEST_CARD) $(HELP_LIB) $(BUILD)/libchorus.a $(CARD_LIB)
	@mkdir -p $(@D)
	@$(CC) $(LDFLAGS) -o $@ $(filter-out $(CARD_LIB),$^) $(CARD_LINK) $(LDLIBS) -lcmocka

$(GTEST_SRC:%.c=$(BUILD)/%): $(BUILD)/tests/%: $(BUILD)/obj/tests/%.o $(TEST_CARD) $(GTEST_LIB) $(BUILD)/libchorus.a $(CARD_LIB)
	@mkdir -p $(@D)
	@$(CC) $(LDFLAGS) -o $@ $(filter-out $(CARD_LIB),$^) $(CARD_LINK) $(LDLIBS)

$(BUILD)/tests/%: $(BUILD)/obj/tests/%.o $(UNIT_LIB) $(BUILD)/libchorus.a $(EMU_LIB)
	@mkdir -p $(@D)
	@$(CC) $(LDFLAGS) -o $@ $(filter-out $(EMU_LIB),$^) $(EMU_LINK) $(LDLIBS) -lcmocka

$(EMU_BIN): $(BUILD)/emu/tests/%: $(BUILD)/obj/tests/%.o $(HELP_LIB) $(BUILD)/libchorus.a $(EMU_LIB)
	@mkdir -p $(@D)
	@$(CC) $(LDFLAGS) -o $@ $(filter-out $(EMU_LIB),$^) $(EMU_LINK) $(LDLIBS) -lcmocka

$(EMU_GPU): $(BUILD)/emu/%: $(BUILD)/obj/%.o $(EMU_HERE) $(GTEST_LIB) $(BUILD)/libchorus.a $(EMU_LIB)
	@mkdir -p $(@D)
	@$(CC) $(LDFLAGS) -o $@ $(filter-out $(EMU_LIB),$^) $(EMU_LINK) $(LDLIBS)

$(BUILD)/emu/chorus: $(BUILD)/obj/server/main.o $(EMU_HERE) $(BUILD)/libchorus.a $(EMU_LIB)
	@$(CC) $(LDFLAGS) -o $@ $(filter-out $(EMU_LIB),$^) $(EMU_LINK) $(LDLIBS)

# Helpers of tests as archives, so that each program gets only what it asks for.
$(GTEST_LIB): $(GTEST_OBJ)
	@mkdir -p $(@D) && rm -f $@
	@ar rcs $@ $^

$(UNIT_LIB): $(HELP_OBJ)
	@mkdir -p $(@D) && rm -f $@
	@ar rcs $@ $^

$(HELP_LIB): $(KTEST_OBJ) $(HELP_OBJ)
	@mkdir -p $(@D) && rm -f $@
	@ar rcs $@ $^

# Kernels for the CPU: the same sources as C++, with the emulator.
$(EMU_LIB): $(EMU_OBJ)
	@mkdir -p $(@D) && rm -f $@
	@ar rcs $@ $^

$(BUILD)/emu/obj/%.cu.o: %.cu
	@mkdir -p $(@D)
	@echo "  emu $<"
	@$(CXX) -x c++ $(CXXFLAGS) -MMD -MP -c -o $@ $<

$(BUILD)/emu/obj/%.cc.o: %.cc
	@mkdir -p $(@D)
	@echo "  emu $<"
	@$(CXX) $(CXXFLAGS) -MMD -MP -c -o $@ $<

# Kernels for the card. The .log beside an object names registers and spills of each.
$(BUILD)/cuda/libkernels.a: $(CARD_OBJ)
	@mkdir -p $(@D) && rm -f $@
	@ar rcs $@ $^

$(BUILD)/cuda/%.o: %.cu $(BUILD)/cuda/flags
	@mkdir -p $(@D)
	@echo "  nvcc $<"
	@$(NVCC) $(NVFLAGS) $(CUDA_GEN) -MMD -MP -MF $(@:.o=.d) -c -o $@ $< >$(@:.o=.log) 2>&1 || { cat $(@:.o=.log); rm -f $@; exit 1; }

# Rebuilds the kernels when what they are compiled for changes.
$(BUILD)/cuda/flags: always
	@mkdir -p $(@D)
	@echo '$(NVFLAGS) $(CUDA_GEN)' | cmp -s - $@ || echo '$(NVFLAGS) $(CUDA_GEN)' >$@

deps: ## install what is missing for `make run` (apt, sudo when not root)
	@scripts/install-deps.sh build

test-deps: ## install what is missing for `make test`
	@scripts/install-deps.sh test

# The sub-makes below start after the packages are there, so that pkg-config sees them.
run: deps ## install what is missing, build, serve the demo model with its voices on 127.0.0.1:8080
	@$(MAKE) --no-print-directory -j$$(nproc) all
	@exec $(BUILD)/chorus serve --config none --model $(DEMO) --adapters $(DEMO)/adapters $(ARGS)

test: test-deps ## install what is missing and run every test that needs no card
	@$(MAKE) --no-print-directory -j$$(nproc) all unit-bins
	@$(MAKE) --no-print-directory -j$$(nproc) asan-bins fuzz-bins
	@build/venv/bin/python scripts/run_tests.py $(ARGS)

release-test: test-deps ## the same with the figures of a release: hours (CHORUS_RELEASE=1, every fuzz target 10 million runs, every planted fault)
	@$(MAKE) --no-print-directory -j$$(nproc) all unit-bins
	@$(MAKE) --no-print-directory -j$$(nproc) asan-bins fuzz-bins
	@CHORUS_RELEASE=1 build/venv/bin/python scripts/run_tests.py --only unit --only emu --only api --only fuzz --fuzz-seed 0 --fuzz-runs $${RUNS:-10000000} $(ARGS)
	@build/venv/bin/python scripts/run_tests.py --only asan $(ARGS)
	@$(MAKE) --no-print-directory tsan mutants

unit-bins: $(UNIT_BIN) $(BUILD)/tests/api/fake_server $(BUILD)/tests/grammar/grammar_check $(EMU_BIN) $(EMU_GPU)

unit: unit-bins ## C unit tests, simulations, goldens and the kernels on the emulator
	@python3 scripts/run_tests.py --only unit --only emu $(ARGS)

asan-bins:
	@$(MAKE) --no-print-directory BUILD=build/asan OPT=-O1 $(CUDA_SAN) SAN="-fsanitize=address,undefined -fno-sanitize-recover=all" \
	    all unit-bins

asan: asan-bins ## the C tests under AddressSanitizer and UndefinedBehaviorSanitizer
	@python3 scripts/run_tests.py --only asan $(ARGS)

tsan: ## the threaded C tests under ThreadSanitizer
	@$(MAKE) --no-print-directory BUILD=build/tsan OPT=-O1 $(CUDA_SAN) SAN="-fsanitize=thread" all unit-bins
	@python3 scripts/run_tests.py --only tsan $(ARGS)

# libFuzzer comes with clang; without it the suite is smaller and says so.
fuzz-bins:
	@if scripts/have-fuzzer.sh; then $(MAKE) --no-print-directory BUILD=build/fuzz CC=clang CUDA=none OPT=-O1 PLAIN_KERNELS=1 \
	    SAN="-fsanitize=fuzzer-no-link,address,undefined -fno-sanitize-recover=all" fuzz-programs; \
	else echo "fuzz: clang with libFuzzer is not here, the fuzz targets are left out"; fi

fuzz-programs: $(FUZZ_BIN)

fuzz: fuzz-bins ## run each fuzz target for SECONDS=60
	@python3 scripts/run_tests.py --only fuzz --fuzz-seed 0 --fuzz-seconds $${SECONDS:-60}

sim: ## a longer simulation of the engine: SEEDS=10000, FIRST=1
	@$(MAKE) --no-print-directory $(BUILD)/tests/sim/test_engine_sim
	@$(BUILD)/tests/sim/test_engine_sim --seeds $${SEEDS:-10000} --first $${FIRST:-1}

random: all test-deps ## random requests of server/openapi.json for longer: EXAMPLES=300 of each operation, SEED=2
	@EXAMPLES=$${EXAMPLES:-300} SEED=$${SEED:-2} build/venv/bin/python -m pytest -q -s -p no:cacheprovider tests/api/test_random.py

mutants: test-deps ## plant each fault of tests/mutants in a copy: its test must turn red (ARGS='-k sample' for some)
	@scripts/mutants.py $(ARGS)

bench: all ## load on the demo model over HTTP: one stream, then 16 over its voices
	@scripts/bench-demo.sh

bench-grammar: $(BUILD)/tests/bench_grammar ## time of masks for grammars, one core: fails when a 99th percentile is above 1 ms (TOKENIZER=DIR)
	@$(BUILD)/tests/bench_grammar --most 1000 $(TOKENIZER)

emu: $(EMU_BIN) $(EMU_GPU) $(if $(EMU_LIB),$(BUILD)/emu/chorus) ## the server and the tests of the card on an emulated one, in build/emu
	@python3 scripts/run_tests.py --only emu $(ARGS)

gpu-bins: $(GPU_BIN)

gpu-test: ## on a card: the kernels, the backend against the CPU's, compute-sanitizer (PARTS="kernels" for a part)
ifeq ($(CUDA),nvcc)
	@nvidia-smi -L >/dev/null 2>&1 || { echo "gpu-test: there is no card here"; exit 1; }
	@$(MAKE) --no-print-directory all gpu-bins
	@BIN=$(BUILD) scripts/gpu_session.sh $(or $(PARTS),info kernels parity sanitize race)
else
	@echo "gpu-test: nvcc is not here (NVCC=)"; exit 1
endif

gpu-bench: ## the tables of BENCHMARKS.md: a random 3B model and its adapters, chorus serve against the byte limit
ifeq ($(CUDA),nvcc)
	@$(MAKE) --no-print-directory all gpu-bins
	@BIN=$(BUILD) scripts/gpu_session.sh info model bench
else
	@echo "gpu-bench: nvcc is not here (NVCC=)"; exit 1
endif

cuda-check: ## compile the kernels for sm_89 and sm_90, list their registers and spills
ifeq ($(CUDA),nvcc)
	@$(MAKE) --no-print-directory -j$$(nproc) BUILD=build/check CUDA_ARCHS=89 card-objects
	@$(MAKE) --no-print-directory -j$$(nproc) CUDA_ARCHS=90 card-objects
	@scripts/kernel-usage.sh build/check/cuda $(BUILD)/cuda
else
	@echo "cuda-check: nvcc is not here (NVCC=), no kernel was compiled"
endif

card-objects: $(CARD_OBJ) $(TEST_CARD)

# A release: make bundle CUDA_ARCHS="80 86 89 90 120" CUDA_PTX=80
bundle: ## build/bundle: the binary, what it needs beside glibc, the demo model, the card's tests, as a folder and .tar.xz
	@$(MAKE) --no-print-directory BUILD=build/release RELOCATE=1 all gpu-bins
	@scripts/bundle.sh build/release build/bundle $(DEMO)

# What the binary writes of its option table, laid out as below /usr/share.
SHARE := $(addprefix $(BUILD)/share/,man/man1/chorus.1 man/man5/chorus.conf.5 bash-completion/completions/chorus \
           zsh/vendor-completions/_chorus fish/vendor_completions.d/chorus.fish)

share: $(SHARE) ## the manual and the completions of shells, in build/share

$(BUILD)/share/man/%: $(BUILD)/chorus
	@mkdir -p $(@D) && $< man $(@F) >$@

$(BUILD)/share/bash-completion/completions/chorus: $(BUILD)/chorus
	@mkdir -p $(@D) && $< completion bash >$@

$(BUILD)/share/zsh/vendor-completions/_chorus: $(BUILD)/chorus
	@mkdir -p $(@D) && $< completion zsh >$@

$(BUILD)/share/fish/vendor_completions.d/chorus.fish: $(BUILD)/chorus
	@mkdir -p $(@D) && $< completion fish >$@

install: $(BUILD)/chorus ## into PREFIX=/usr/local (DESTDIR=, SYSCONFDIR=/etc, DEMO=no): binary, manual, completions, units, settings, demo model
	@scripts/install.sh install $(BUILD)

uninstall: $(BUILD)/chorus ## take it out again; edited settings and what the service wrote stay
	@scripts/install.sh uninstall $(BUILD)

# A binary on the emulator is nobody's to install: without nvcc the package is the CPU's.
ifeq ($(CUDA),emu)
deb: ## build/deb: a Debian package, checked with lintian where it is
	@$(MAKE) --no-print-directory BUILD=build/package CUDA=none deb OUT=build/deb
else
deb: $(BUILD)/chorus
	@CUDA=$(CUDA) scripts/make-deb.sh $(BUILD) $(or $(OUT),$(BUILD)/deb)
endif

deb-test: all test-deps ## as root: a Debian machine boots (debootstrap, systemd) and installs, runs, upgrades and purges the package
	@CHORUS_DEB_TEST=1 build/venv/bin/python -m pytest -q -rP -p no:cacheprovider tests/service $(ARGS)

docker-check: ## as root: the steps of Dockerfile's cpu target in a chroot, then its image as `docker run` would (TARGET=cpu)
	@scripts/docker_check.py --target $(or $(TARGET),cpu)

lint: ## sizes, include directions, banned calls, formatting
	@python3 scripts/lint.py

fmt: ## format the sources
	@git ls-files -co --exclude-standard '*.c' '*.h' '*.cu' '*.cuh' '*.cc' | xargs clang-format -i

golden: ## capture the goldens again (needs torch, transformers and peft)
	@python3 scripts/make_goldens.py

clean: ## remove the build
	rm -rf $(BUILD)

help: ## this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 14

.PHONY: all always install uninstall deb deb-test docker-check share random bundle card-objects cuda-check emu gpu-bench gpu-bins gpu-test deps test-deps run test release-test unit unit-bins sim mutants asan asan-bins tsan fuzz fuzz-bins fuzz-programs bench bench-grammar lint fmt golden clean help
-include $(shell find $(BUILD)/obj $(BUILD)/emu/obj $(BUILD)/cuda -name '*.d' 2>/dev/null)
