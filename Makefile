# kvbudget: one Makefile, no recursion into folders. `make help` lists the goals.
# Output goes to build/$(MODE)/, so objects built in different ways never mix.

MODE    ?= release
BUILD   ?= build
B       := $(BUILD)/$(MODE)
VERSION := $(shell cat VERSION)
PREFIX  ?= /usr/local

MAKEFLAGS += --no-builtin-rules --no-print-directory
.SUFFIXES:
.DELETE_ON_ERROR:
SHELL := /bin/sh
ifeq ($(origin CC),default)
CC := cc
endif

# --- modes: the only place where they differ ----------------------------------------
HARDEN      := -U_FORTIFY_SOURCE -D_FORTIFY_SOURCE=2 -fstack-protector-strong
OPT.release := -O2 -g $(HARDEN)
OPT.debug   := -O0 -g3
OPT.asan    := -O1 -g3 -fno-omit-frame-pointer -fsanitize=address,undefined \
               -fno-sanitize-recover=all
OPT.cov     := -O0 -g3 --coverage
OPT.fuzz    := -O1 -g3 -fno-sanitize-recover=all \
               -fsanitize=fuzzer-no-link,address,undefined,unsigned-integer-overflow
ifeq ($(OPT.$(MODE)),)
$(error unknown MODE=$(MODE): use release, debug, asan, cov or fuzz)
endif
ifeq ($(MODE),fuzz)
ifeq ($(findstring clang,$(CC)),)
CC := clang
endif
endif

WARN := -Wall -Wextra -Wpedantic -Wshadow -Wconversion -Wstrict-prototypes \
        -Wmissing-prototypes -Wvla -Wwrite-strings -Wundef -Wformat=2 $(if $(WERROR),-Werror)

# --- libraries ------------------------------------------------------------------------
# ncurses is asked for only when there is a screen to draw.
PKGS := libcjson yaml-0.1 $(if $(wildcard tui/*.c),ncursesw)
NEEDS_LIBS := $(filter-out clean help dist uninstall format,$(or $(MAKECMDGOALS),all))
ifneq ($(NEEDS_LIBS),)
ifneq ($(shell pkg-config --exists $(PKGS) && echo found),found)
$(error pkg-config does not find all of: $(PKGS). On Debian: apt-get install \
  pkg-config libcjson-dev libyaml-dev libncurses-dev)
endif
endif

# ncursesw.pc asks for _XOPEN_SOURCE=600; we want 700 (POSIX.1-2008) and drop its word.
KV_CPPFLAGS := -D_XOPEN_SOURCE=700 -DKV_VERSION='"$(VERSION)"' -I. -I$(B) -I$(B)/gen \
               $(filter-out -D_XOPEN_SOURCE=%,$(shell pkg-config --cflags $(PKGS) 2>/dev/null))
KV_CFLAGS   := -std=c11 -ffp-contract=off $(WARN) $(OPT.$(MODE)) -MMD -MP
KV_LDFLAGS  := $(OPT.$(MODE)) -Wl,--as-needed
KV_LDLIBS    = $(shell pkg-config --libs $(PKGS)) -lm -ldl $(CUDA_LDLIBS)

# --- CUDA: CUDA=0 or CUDA=1 decides, else whether there is an nvcc ---------------------
ifeq ($(origin NVCC),undefined)
NVCC := $(firstword $(shell command -v nvcc) $(wildcard /usr/local/cuda/bin/nvcc))
endif
ifneq ($(filter asan cov fuzz,$(MODE)),)
override CUDA := 0
endif
CUDA ?= $(if $(NVCC),1,0)
ifeq ($(filter 0 1,$(CUDA)),)
$(error CUDA=$(CUDA): use CUDA=0 or CUDA=1)
endif
CUDA_ARCHS ?= 90
# kernels/*.cu are compiled by nvcc and, as C, by CC; those of kernels/cuda by nvcc only.
KERNEL_CU  := $(sort $(wildcard kernels/*.cu))
CU_SRC     := $(sort $(wildcard kernels/*.cu kernels/cuda/*.cu))
CU_OBJ     := $(CU_SRC:%.cu=$(BUILD)/cuda/%.o)
# What stands for the device code where there is none: all tests but those of tests/gpu have it, since
# that code is large.
NO_DEV     := $(patsubst %.c,$(B)/%.o,$(wildcard kernels/none.c))
ifeq ($(CUDA),1)
ifeq ($(NVCC),)
$(error CUDA=1 but there is no nvcc: put it on the PATH, set NVCC=, or build with CUDA=0)
endif
CUDA_HOME ?= $(patsubst %/bin/,%,$(dir $(realpath $(shell command -v $(NVCC)))))
# Architectures are always listed: without a GPU -arch=native only warns and picks a default. Those
# from 80 on share one intermediate code (dev.cuh asks for no more), which is made once and also kept,
# so that later devices can run it.
VIRTUAL    = $(if $(filter 75,$1),75,80)
comma     := ,
GENCODE   := $(foreach a,$(CUDA_ARCHS),-gencode arch=compute_$(call VIRTUAL,$a)$(comma)code=sm_$a) \
             $(foreach v,$(call VIRTUAL,$(lastword $(CUDA_ARCHS))),-gencode arch=compute_$v$(comma)code=compute_$v)
# wgmma is in sm_90a only, and only one file has it: there its code takes the place of sm_90's.
SM90A     := $(if $(filter 90,$(CUDA_ARCHS)),-DKVBUDGET_SM90A)
GENCODE.kernels/prefill_wgmma := $(subst compute_80$(comma)code=sm_90,$\
             compute_90a$(comma)code=sm_90a,$(GENCODE))
# no-threadsafe-statics keeps libstdc++ out of the final link.
NVCCFLAGS := -std=c++17 -O2 -lineinfo --threads 2 -Werror all-warnings -I. \
             $(SM90A) \
             -Xcompiler -Wall,-Wextra,-fno-exceptions,-fno-rtti,-fno-threadsafe-statics
DEV_OBJ   := $(CU_OBJ)
ifneq ($(CU_SRC),)
CUDA_LDLIBS := -L$(CUDA_HOME)/lib64 -lcudart_static -ldl -lrt -lpthread
endif
else
DEV_OBJ   := $(NO_DEV)
endif

# --- registries: a list is a folder listing ----------------------------------------------
# Every .c file of the folder is an entry, except the one named after the folder.
REG.cmd    := planner/cmd_
REG.family := planner/model/family/
REG.scheme := planner/cache/scheme/
REG.engine := planner/engine/
REG.policy := sim/policy/
REG.trace  := sim/trace/
REG.check  := validate/check/
REG.screen := tui/screen/
REGS    := cmd family scheme engine policy trace check screen
entries  = $(patsubst $(REG.$1)%.c,%,$(filter-out $(REG.$1)$1.c,$(sort $(wildcard $(REG.$1)*.c))))
GEN     := $(REGS:%=$(B)/gen/%.inc)

# --- what exists is what is built -----------------------------------------------------------
LIB_SRC := $(filter-out planner/main.c kernels/none.c,$(sort $(foreach d, \
             planner sim kernels validate tui, $(wildcard $d/*.c $d/*/*.c $d/*/*/*.c))) $(KERNEL_CU))
DOC_SRC := $(filter planner/base/% planner/doc/%,$(LIB_SRC))
UNIT_SRC  := $(sort $(wildcard $(addsuffix /*.c,tests/unit tests/prop tests/tui)))
GPU_SRC   := $(sort $(wildcard tests/gpu/*.c))
BENCH_SRC := $(sort $(wildcard tests/bench/*.c))
FUZZ_SRC  := $(sort $(wildcard tests/fuzz/fuzz_*.c))
SCRIPTS   := $(sort $(wildcard tests/golden/run tests/script/*))
# One of these compiles what it runs by itself, the other runs nothing of the build.
ifeq ($(filter release debug,$(MODE)),)
SCRIPTS   := $(filter-out %/kernel_bypass %/runner,$(SCRIPTS))
endif
PROFILES  := $(sort $(shell find profiles -name '*.yaml' -o -name '*.json'))

PROFILES_C := $(if $(wildcard profiles/embed.c),$(B)/gen/profiles.c)
LIB     := $(B)/libkvbudget.a
LIB_OBJ := $(patsubst %,$(B)/%.o,$(LIB_SRC:%.c=%)) $(PROFILES_C:.c=.o)
BIN     := $(if $(wildcard planner/main.c),$(B)/kvbudget)
KVTEST  := $(patsubst %.c,$(B)/%.o,$(wildcard tests/kvtest.c))
UNIT    := $(UNIT_SRC:%.c=$(B)/%)
# Kernels and the decoder are run elsewhere: they reach no more of what `make cov` counts.
ifeq ($(MODE),cov)
UNIT    := $(filter-out $(B)/tests/unit/kernel_% $(B)/tests/unit/validate_%,$(UNIT)) $(B)/tests/unit/validate_cmd
endif
GPU     := $(GPU_SRC:%.c=$(B)/%)
BENCH   := $(BENCH_SRC:%.c=$(B)/%)
FUZZ    := $(FUZZ_SRC:%.c=$(B)/%)
REPLAY  := $(if $(wildcard tests/fuzz/replay.c),$(FUZZ_SRC:%.c=$(B)/%.replay))

.PHONY: all everything unit test check lint asan cov fuzz fuzz-run bench accuracy gpu ptx ptx-run \
        cuda install uninstall dist format clean help FORCE

# ./kvbudget always is the release binary.
all: $(LIB) $(BIN)
ifneq ($(BIN),)
ifeq ($(B),build/release)
	@ln -sfn $(BIN) kvbudget
endif
endif
everything: all $(UNIT) $(REPLAY) $(BENCH)
unit: $(UNIT)

$(B)/kvbudget: $(B)/planner/main.o $(LIB) $(DEV_OBJ)
	$(CC) $(KV_LDFLAGS) $(LDFLAGS) $^ $(KV_LDLIBS) $(LDLIBS) -o $@
$(LIB): $(LIB_OBJ) $(B)/gen/sources.list
	@rm -f $@
	$(AR) rcsD $@ $(filter %.o,$^)
$(B)/%.o: %.c $(B)/gen/flags | $(GEN) $(B)/gen/commit.inc
	@mkdir -p $(@D)
	$(CC) $(KV_CPPFLAGS) $(CPPFLAGS) $(KV_CFLAGS) $(CFLAGS) -c $< -o $@
$(B)/%.cu.o: %.cu $(B)/gen/flags
	@mkdir -p $(@D)
	$(CC) $(KV_CPPFLAGS) $(CPPFLAGS) $(KV_CFLAGS) $(CFLAGS) -x c -c $< -o $@

# The profiles are checked and packed into one C file by a program of the same build.
$(B)/libdoc.a: $(DOC_SRC:%.c=$(B)/%.o) $(B)/gen/doc.list
	@rm -f $@
	$(AR) rcsD $@ $(filter %.o,$^)
$(B)/embed: $(B)/profiles/embed.o $(B)/libdoc.a
	$(CC) $(KV_LDFLAGS) $(LDFLAGS) $^ $(KV_LDLIBS) $(LDLIBS) -o $@
$(B)/gen/profiles.c: $(B)/embed $(B)/gen/profiles.list $(PROFILES)
	$(B)/embed profiles $@
$(B)/gen/profiles.o: $(B)/gen/profiles.c $(B)/gen/flags
	$(CC) $(KV_CPPFLAGS) $(CPPFLAGS) $(KV_CFLAGS) $(CFLAGS) -c $< -o $@

# .cu objects do not depend on the mode.
$(BUILD)/cuda/%.o: %.cu $(BUILD)/cuda/flags
	@mkdir -p $(@D)
	$(NVCC) $(NVCCFLAGS) $(or $(GENCODE.$*),$(GENCODE)) -MMD -MP -MF $(@:.o=.d) -c $< -o $@

# --- generated lists: rewritten only when their text changes ---------------------------------
# $(call settle,command): the command's output becomes $@, unless $@ has that text already.
settle = @mkdir -p $(@D); { $1; } > $@.new && \
         if cmp -s $@.new $@; then rm $@.new; else mv $@.new $@; fi
quote  = '$(subst ','\'',$1)'

# A static pattern rule: a plain one would make the lists intermediate, rebuilt every time.
$(GEN): $(B)/gen/%.inc: FORCE
	$(call settle,$(foreach e,$(call entries,$*),echo 'ENTRY($e)';) :)
$(B)/gen/profiles.list: FORCE
	$(call settle,printf '%s\n' $(PROFILES))
$(B)/gen/sources.list: FORCE
	$(call settle,printf '%s\n' $(LIB_SRC))
$(B)/gen/doc.list: FORCE
	$(call settle,printf '%s\n' $(DOC_SRC))
# Objects depend on the words they were compiled with.
$(B)/gen/flags: FORCE
	$(call settle,printf '%s\n' $(call quote,$(CC) $(KV_CPPFLAGS) $(CPPFLAGS) $(KV_CFLAGS) $(CFLAGS)))
$(BUILD)/cuda/flags: FORCE
	$(call settle,printf '%s\n' $(call quote,$(NVCC) $(NVCCFLAGS) $(GENCODE)))
# What validation reports name as built; not in the flags, or each commit would rebuild everything.
$(B)/gen/commit.inc: FORCE
	$(call settle,{ [ -e .git ] && GIT_OPTIONAL_LOCKS=0 git describe --always --dirty 2>/dev/null \
	  || echo unknown; } | sed 's/.*/"&"/')
FORCE:

# --- tests ------------------------------------------------------------------------------------
$(GPU): $(B)/%: $(B)/%.o $(KVTEST) $(LIB) $(DEV_OBJ)
	$(CC) $(KV_LDFLAGS) $(LDFLAGS) $^ -lcmocka $(KV_LDLIBS) $(LDLIBS) -o $@
$(UNIT): $(B)/%: $(B)/%.o $(KVTEST) $(LIB) $(NO_DEV)
	$(CC) $(KV_LDFLAGS) $(LDFLAGS) $^ -lcmocka $(if $(findstring /tests/tui/,$@),-lvterm -lutil) $(KV_LDLIBS) $(LDLIBS) -o $@
$(REPLAY): $(B)/%.replay: $(B)/%.o $(B)/tests/fuzz/replay.o $(LIB) $(NO_DEV)
	$(CC) $(KV_LDFLAGS) $(LDFLAGS) $^ $(KV_LDLIBS) $(LDLIBS) -o $@
$(FUZZ): $(B)/%: $(B)/%.o $(LIB) $(NO_DEV)
	$(CC) $(subst fuzzer-no-link,fuzzer,$(KV_LDFLAGS)) $(LDFLAGS) $^ $(KV_LDLIBS) $(LDLIBS) -o $@
$(BENCH): $(B)/%: $(B)/%.o $(LIB) $(NO_DEV)
	$(CC) $(KV_LDFLAGS) $(LDFLAGS) $^ $(KV_LDLIBS) $(LDLIBS) -o $@

RUN_ENV = BUILD_DIR=$(B) KVBUDGET=$(abspath $(B)/kvbudget)
test: all $(UNIT) $(REPLAY)
	@$(RUN_ENV) tests/run $(ALSO) $(SCRIPTS) $(REPLAY) $(UNIT)

lint:
	+@MAKE="$(MAKE)" tests/lint/all
check:
	$(MAKE) WERROR=1 everything
	+@bad=0; MAKE="$(MAKE) WERROR=1" tests/lint/all || bad=1; \
	  $(MAKE) WERROR=1 ALSO=tests/make/run test || bad=1; exit $$bad

asan:
	$(MAKE) MODE=asan test

# Floor of `make cov`: the share of lines of planner/, sim/ and tui/ that the tests must reach, in per cent.
COV_FLOOR ?= 90
cov:
	$(MAKE) MODE=cov everything
	find $(BUILD)/cov -name '*.gcda' -delete
	$(MAKE) MODE=cov test
	gcovr -r . --object-directory $(BUILD)/cov --filter planner/ --filter sim/ --filter tui/ --print-summary \
	  --fail-under-line $(COV_FLOOR) -o $(BUILD)/cov/coverage.txt

FUZZ_SECONDS ?= 20
fuzz:
	$(MAKE) MODE=fuzz fuzz-run
fuzz-run: $(FUZZ)
	@FUZZ_SECONDS=$(FUZZ_SECONDS) tests/fuzz/run $(B) $(FUZZ)

bench: all $(BENCH)
	@$(RUN_ENV) tests/bench/run $(BENCH)

accuracy: all
	@$(RUN_ENV) tests/truth/run
	@$(RUN_ENV) tests/truth/replay/run

gpu:
ifeq ($(GPU_SRC),)
	@echo "gpu: this build has no GPU tests, nothing was run on a device"
else ifeq ($(CUDA),0)
	@echo "gpu: no usable GPU: built without CUDA (no nvcc, or CUDA=0)"
else
	$(MAKE) all $(GPU)
	@$(RUN_ENV) tests/gpu/run $(GPU)
endif

cuda:
ifeq ($(CU_SRC),)
	@echo "cuda: there are no kernels to compile yet"
else
	$(MAKE) CUDA=1 $(CU_OBJ)
endif

# --- the GPU code without a GPU: its PTX, interpreted (tests/ptx) -----------------------------
# 75 has code of its own, 80 and later share theirs. Programs: the tests of the kernels, the decoder.
# PTX_ROWS=5: the decoder takes every fifth row of the matrix of validate, and those with an indexer; 1
# takes all, in minutes.
PTX_ARCHS ?= 75 80
PTX_ROWS  ?= 5
PTX_B     := $(BUILD)/ptx
PTX_OBJ   := $(patsubst tests/ptx/%.c,$(PTX_B)/%.o,$(filter-out %/cublaslt.c,$(wildcard tests/ptx/*.c)))
PTX_CU    := $(CU_SRC:%.cu=%.o)
PTX_RUN   := $(addprefix kernel_,angles append chunks conv copy decode evict expect gate gemm index latent layer pages \
                                  prefer prefill replace ring rows scan scores weight)
PTX_LT    := $(PTX_B)/libcublasLt.so.13
# The decoder takes the longest.
PTX_TESTS := $(PTX_B)/$(lastword $(PTX_ARCHS))/decoder $(foreach a,$(PTX_ARCHS),$(PTX_RUN:%=$(PTX_B)/$a/%))
PTX_CC     = $(CC) $(KV_CPPFLAGS) -isystem $(CUDA_HOME)/include $(CPPFLAGS) $(KV_CFLAGS) $(CFLAGS)

$(PTX_OBJ): $(PTX_B)/%.o: tests/ptx/%.c
	@mkdir -p $(@D)
	$(PTX_CC) -fPIC -c $< -o $@
$(PTX_LT): tests/ptx/cublaslt.c $(PTX_B)/value.o
	$(PTX_CC) -MF $(PTX_B)/cublaslt.d -fPIC -shared -Wl,-Bsymbolic $(filter %.c %.o,$^) -lm -o $@
$(PTX_RUN:%=$(PTX_B)/tests/%.o): $(PTX_B)/tests/%.o: tests/unit/%.c
	@mkdir -p $(@D)
	$(CC) $(KV_CPPFLAGS) $(CPPFLAGS) $(KV_CFLAGS) $(CFLAGS) -DKK_DEVICE='"cuda:0"' -c $< -o $@
$(PTX_B)/tests/decoder.o: tests/gpu/decoder.c
	@mkdir -p $(@D)
	$(CC) $(KV_CPPFLAGS) $(CPPFLAGS) $(KV_CFLAGS) $(CFLAGS) -c $< -o $@
# $(call ptx_rules,ARCH): PTX is kept as text, so that it is found in the object. The tile products of
# sm_90a are not interpreted: without them prompts take the kernels of sm_80, as on other devices.
define ptx_rules
$(PTX_CU:%=$(PTX_B)/$1/%): $(PTX_B)/$1/%.o: %.cu $(BUILD)/cuda/flags
	@mkdir -p $$(@D)
	$(NVCC) $(filter-out $(SM90A),$(NVCCFLAGS)) -no-compress -gencode arch=compute_$1,code=compute_$1 -MMD -MP -MF $$(@:.o=.d) -c $$< -o $$@
$(PTX_RUN:%=$(PTX_B)/$1/%) $(PTX_B)/$1/decoder: $(PTX_B)/$1/%: $(PTX_B)/tests/%.o $(KVTEST) $(LIB) $(PTX_CU:%=$(PTX_B)/$1/%) $(PTX_OBJ)
	$(CC) $(KV_LDFLAGS) $(LDFLAGS) -Wl,--export-dynamic-symbol=stream_ask $$^ -lcmocka $(filter-out -lcudart_static,$(KV_LDLIBS)) $(LDLIBS) -o $$@
endef
$(foreach a,$(PTX_ARCHS),$(eval $(call ptx_rules,$a)))

ptx:
ifeq ($(CUDA),0)
	@echo "ptx: nothing was run: built without CUDA (no nvcc, or CUDA=0)"
else ifeq ($(wildcard $(CUDA_HOME)/include/cublasLt.h),)
	@echo "ptx: nothing was run: the toolkit has no cublasLt.h"
else
	$(MAKE) ptx-run
endif
ptx-run: $(PTX_TESTS) $(PTX_LT)
	@$(RUN_ENV) GPU_ROWS=$(PTX_ROWS) LD_LIBRARY_PATH=$(abspath $(PTX_B)) tests/ptx/run $(PTX_TESTS)

# --- the rest -------------------------------------------------------------------------------------
install: all
	install -D -m 755 $(B)/kvbudget $(DESTDIR)$(PREFIX)/bin/kvbudget
	install -D -m 644 LICENSE $(DESTDIR)$(PREFIX)/share/doc/kvbudget/LICENSE
	@if [ -f README.md ]; then set -x; \
	  install -D -m 644 README.md $(DESTDIR)$(PREFIX)/share/doc/kvbudget/README.md; fi
uninstall:
	rm -f $(DESTDIR)$(PREFIX)/bin/kvbudget
	rm -rf $(DESTDIR)$(PREFIX)/share/doc/kvbudget
dist:
	@mkdir -p $(BUILD)
	git archive --prefix=kvbudget-$(VERSION)/ -o $(BUILD)/kvbudget-$(VERSION).tar.gz HEAD
	@echo $(BUILD)/kvbudget-$(VERSION).tar.gz
format:
	tests/lint/format --write
clean:
	rm -rf $(BUILD) kvbudget

help:
	@sed -n 's/^#: //p' Makefile
#: make            build ./kvbudget
#: make test       all tests that need no GPU; the last line has the counts
#: make check      lint, warnings as errors, tests of this Makefile, tests
#: make lint       only the lint
#: make asan       the tests under the address and undefined-behaviour sanitizers
#: make cov        the tests with coverage; fails below COV_FLOOR (90) per cent of planner/ sim/ tui/
#: make fuzz       each fuzz target for FUZZ_SECONDS (20), needs clang
#: make bench      speed, one line a figure: bench: NAME VALUE UNIT
#: make accuracy   predictions against what real engines reported
#: make gpu        build, test and validate on this machine's GPU
#: make ptx        the GPU code without a GPU: the tests of the kernels on an interpreter of PTX
#: make cuda       compile the kernels for CUDA_ARCHS (90), e.g. CUDA_ARCHS="80 90 120"
#: make install    to DESTDIR and PREFIX (/usr/local); make uninstall
#: make dist       a source archive of HEAD in build/
#: make format     rewrite all sources with clang-format
#: make clean      remove build/ and ./kvbudget
#: Settings: MODE=release|debug|asan|cov|fuzz  WERROR=1  CUDA=0|1  NVCC=  CC=  CFLAGS=  LDFLAGS=

ifneq ($(NEEDS_LIBS),)
-include $(shell find $(B) $(BUILD)/cuda $(PTX_B) -name '*.d' 2>/dev/null)
endif
