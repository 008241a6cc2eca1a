# Chorus. `make help` lists the targets.
#
# The shape: every .c under engine/ goes into libchorus-engine, config/ and server/ make the binary on top of it; a test is one
# .c file with a main, found by wildcard. Compiled objects live under $(BUILD), one tree per flavour (plain, asan, tsan, fuzz).

BUILD   ?= build
CC      ?= gcc
PKGS    := libmicrohttpd libcjson libuv libpcre2-8 libutf8proc

OPT     ?= -O2
CSTD    := -std=c11 -D_GNU_SOURCE
WARN    := -Wall -Wextra -Wshadow -Wvla -Wstrict-prototypes -Wmissing-prototypes -Wno-format-truncation -Werror
CFLAGS  += $(CSTD) $(OPT) -g -fno-omit-frame-pointer -ffp-contract=off $(WARN) -I. -pthread \
           $(shell pkg-config --cflags $(PKGS) 2>/dev/null) $(SAN)
LDLIBS  += $(shell pkg-config --libs $(PKGS) 2>/dev/null) -lm -pthread
LDFLAGS += $(SAN)

ENGINE_SRC := $(wildcard engine/*.c engine/*/*.c)
APP_SRC    := $(wildcard config/*.c) $(wildcard server/*.c)
ENGINE_OBJ := $(ENGINE_SRC:%.c=$(BUILD)/obj/%.o)
APP_OBJ    := $(APP_SRC:%.c=$(BUILD)/obj/%.o)
LIB_OBJ    := $(ENGINE_OBJ) $(filter-out %/server/main.o,$(APP_OBJ))

UNIT_SRC  := $(wildcard tests/unit/*.c tests/sim/*.c tests/golden/*.c)
UNIT_BIN  := $(UNIT_SRC:%.c=$(BUILD)/%)

.DELETE_ON_ERROR:
.SECONDARY:

all: $(BUILD)/chorus ## build build/chorus

$(BUILD)/libchorus.a: $(LIB_OBJ)
	@rm -f $@
	@ar rcs $@ $^

$(BUILD)/chorus: $(BUILD)/obj/server/main.o $(BUILD)/libchorus.a
	$(CC) $(LDFLAGS) -o $@ $^ $(LDLIBS)

$(BUILD)/obj/%.o: %.c
	@mkdir -p $(@D)
	@echo "  cc $<"
	@$(CC) $(CFLAGS) $(CFLAGS_$(subst /,_,$(basename $<))) -MMD -MP -c -o $@ $<

$(BUILD)/tests/%: $(BUILD)/obj/tests/%.o $(BUILD)/libchorus.a
	@mkdir -p $(@D)
	@$(CC) $(LDFLAGS) -o $@ $^ $(LDLIBS) -lcmocka

unit-bins: $(UNIT_BIN)

unit: unit-bins ## C unit tests, simulations and goldens
	@for t in $(UNIT_BIN); do echo "== $$t"; $$t || exit 1; done

fmt: ## format the sources
	@git ls-files '*.c' '*.h' '*.cu' '*.cuh' | xargs clang-format -i

clean: ## remove the build
	rm -rf $(BUILD)

help: ## this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

.PHONY: all unit unit-bins fmt clean help
-include $(shell find $(BUILD)/obj -name '*.d' 2>/dev/null)
