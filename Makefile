# make | make check | make bench | make bench-peers | make demo | make fmt | make clean: see README.md
.DEFAULT_GOAL := all
BUILD  ?= build
ifeq ($(origin CC),default)
CC     := gcc
endif
ifeq ($(origin CXX),default)
CXX    := g++
endif
OPT    ?= -O3
DNNL   ?= $(shell [ -e /usr/include/dnnl.h ] || [ -e /usr/include/oneapi/dnnl/dnnl.h ] && echo 1)

# V=1 shows the commands.
Q = $(if $(V),,@)
WARN   = -Wall -Wextra -Wpedantic -Wshadow -Wmissing-prototypes -Wstrict-prototypes -Wpointer-arith -Wundef -Wvla -Wwrite-strings
CFLAGS_ALL = -std=c17 $(OPT) -g $(WARN) -fPIC -fvisibility=hidden -ffp-contract=off -fno-math-errno -fno-trapping-math -pthread \
             -D_GNU_SOURCE -Iinclude -MMD -MP $(EXTRA) $(CFLAGS)
LIBS   = -lz -ljansson -lm -pthread
ifeq ($(DNNL),1)
CFLAGS_ALL += -DNB_DNNL=1
LIBS   += -ldnnl -lgomp
else
CFLAGS_ALL += -DNB_DNNL=0
endif

INNER  = -Isrc/core -Isrc/ops -Isrc/kernels -Isrc/compile -Isrc/run
SRC    = $(filter-out src/kernels/isa/%,$(wildcard src/*/*.c))
ISA    = $(wildcard src/kernels/isa/*.c)
OBJ    = $(SRC:%.c=$(BUILD)/obj/%.o) $(foreach i,baseline v3 v4,$(ISA:%.c=$(BUILD)/obj/%.$(i).o))
ARCH_baseline = -march=x86-64
ARCH_v3 = -march=x86-64-v3
ARCH_v4 = -march=x86-64-v4 -mprefer-vector-width=512

BENCHES = $(BUILD)/bench/nets $(BUILD)/bench/operators
all: $(BUILD)/nabla $(BUILD)/libnabla.a $(BUILD)/libnabla.so $(BENCHES) $(BUILD)/nabla.pc

# nn, data, io, draw, check, cli ... see the public header only.
$(BUILD)/obj/src/core/%.o $(BUILD)/obj/src/ops/%.o $(BUILD)/obj/src/autograd/%.o $(BUILD)/obj/src/kernels/%.o \
$(BUILD)/obj/src/compile/%.o $(BUILD)/obj/src/run/%.o: CFLAGS_ALL += $(INNER)

$(BUILD)/obj/%.o: %.c Makefile
	@mkdir -p $(@D)
	@echo "  CC   $@"
	$(Q)$(CC) $(CFLAGS_ALL) -c $< -o $@
define isa_rule
$(BUILD)/obj/src/kernels/isa/%.$(1).o: src/kernels/isa/%.c Makefile
	@mkdir -p $$(@D)
	@echo "  CC   $$@"
	$(Q)$$(CC) $$(CFLAGS_ALL) -DNB__ISA=$(1) $$(ARCH_$(1)) -c $$< -o $$@
endef
$(foreach i,baseline v3 v4,$(eval $(call isa_rule,$(i))))

$(BUILD)/libnabla.a: $(OBJ)
	@rm -f $@
	@echo "  AR   $@"
	$(Q)ar rcs $@ $(OBJ)
SONAME = libnabla.so.0
$(BUILD)/libnabla.so: $(OBJ)
	@echo "  LINK $@"
	$(Q)$(CC) -shared -Wl,-soname,$(SONAME) -Wl,--no-undefined -o $(BUILD)/$(SONAME) $(OBJ) $(LIBS)
	@ln -sf $(SONAME) $@
CLI    = $(wildcard cli/*.c)
$(BUILD)/nabla: $(CLI:%.c=$(BUILD)/obj/%.o) $(BUILD)/libnabla.a
	@echo "  LINK $@"
	$(Q)$(CC) $(EXTRA) -o $@ $^ $(LIBS)
$(BUILD)/bench/nets: $(patsubst %,$(BUILD)/obj/bench/%.o,nets workloads clock machine)
$(BUILD)/bench/operators: $(patsubst %,$(BUILD)/obj/bench/%.o,operators cases clock machine)
$(BENCHES): $(BUILD)/libnabla.a
	@mkdir -p $(@D)
	@echo "  LINK $@"
	$(Q)$(CC) $(EXTRA) -o $@ $(filter %.o,$^) $(BUILD)/libnabla.a $(LIBS)
$(BUILD)/nabla.pc: Makefile
	@mkdir -p $(@D)
	@printf 'Name: nabla\nDescription: autograd engine with neural nets\nVersion: 0.1.0\nCflags: -I%s/include\nLibs: -L%s -lnabla -Wl,-rpath,%s\nLibs.private: %s\n' \
	  "$(CURDIR)" "$(abspath $(BUILD))" "$(abspath $(BUILD))" "$(LIBS)" > $@

# ---- the demo: installs what is missing, builds, and trains a convolutional net on Fashion-MNIST
demo:
	@tools/deps
	@$(JOBS) $(BUILD)/nabla
	$(BUILD)/nabla train --data fashion-mnist --net cnn --schedule one-cycle --lr 3e-3 --epochs 3 --threads 2 --out $(BUILD)/demo --force

# ---- examples and benchmarks
PYTHON ?= python3
EXAMPLES = $(patsubst examples/%.c,$(BUILD)/examples/%,$(wildcard examples/*.c))
$(BUILD)/examples/%: $(BUILD)/obj/examples/%.o $(BUILD)/libnabla.a
	@mkdir -p $(@D)
	@echo "  LINK $@"
	$(Q)$(CC) $(EXTRA) -o $@ $^ $(LIBS)
examples: $(EXAMPLES)
bench: $(BENCHES)
	@tools/bench.sh $(BUILD)/bench
# The same nets and operators beside PyTorch, JAX, tinygrad, ONNX Runtime and a program written by hand; docs/benchmarks.md.
PEERS = $(BUILD)/peers/bin/python
$(BUILD)/peers/bin/python: tools/peers/requirements.txt
	$(PYTHON) -m venv $(BUILD)/peers
	$(BUILD)/peers/bin/pip install --quiet -r tools/peers/requirements.txt
	@touch $@
$(BUILD)/bench/by_hand: tools/peers/by_hand.c
	@mkdir -p $(@D)
	@echo "  LINK $@"
	$(Q)$(CC) -O3 -march=native -fopenmp -Wall -Wextra -o $@ $< -ldnnl -lm
bench-peers: $(BENCHES) $(if $(filter 1,$(DNNL)),$(BUILD)/bench/by_hand) $(PEERS)
	@tools/bench_peers.py --bench $(BUILD)/bench --python $(PEERS) --json $(BUILD)/peers.json --into README.md
	@tools/bench_operators_peers.py --operators $(BUILD)/bench/operators --python $(PEERS)

# ---- tests. A test is a program tests/test_NAME.c, tests/NAME.cpp or a script tests/NAME.sh; tests/run says what they print.
TESTS  = $(patsubst tests/%.c,$(BUILD)/tests/%,$(wildcard tests/test_*.c)) $(patsubst tests/%.cpp,$(BUILD)/tests/%,$(wildcard tests/*.cpp))
JOBS   = $(MAKE) --no-print-directory -j$(shell nproc)
SAN    = -fno-omit-frame-pointer -DNB_CHECK_BUILD
ASAN   = BUILD=$(BUILD)/asan OPT=-O1 EXTRA='$(SAN) -fsanitize=address,undefined -fno-sanitize-recover=undefined'
$(BUILD)/tests/%: tests/%.c $(wildcard tests/*.h) $(BUILD)/libnabla.a
	@mkdir -p $(@D)
	@echo "  TEST $@"
	$(Q)$(CC) $(CFLAGS_ALL) $(INNER) -Isrc/check -o $@ $< $(BUILD)/libnabla.a $(WRAP) -lcmocka $(LIBS)
# Counts what Nabla itself allocates.
$(BUILD)/tests/test_promises: WRAP = -Wl,--wrap=malloc,--wrap=calloc,--wrap=realloc,--wrap=aligned_alloc
$(BUILD)/tests/%: tests/%.cpp $(BUILD)/libnabla.a
	@mkdir -p $(@D)
	@echo "  TEST $@"
	$(Q)$(CXX) -std=c++17 -O1 -g -Wall -Wextra -Wpedantic -Werror $(EXTRA) -Iinclude -o $@ $< $(BUILD)/libnabla.a $(LIBS)

deps:
	@tools/deps
tests: $(TESTS)
check:
	@tools/deps test
	$(JOBS) all tests
	$(JOBS) $(ASAN) tests
	$(JOBS) BUILD=$(BUILD)/own DNNL=0 EXTRA=-Werror all tests
	@BUILD=$(BUILD) tests/run $(TESTS) $(wildcard tests/*.sh) $(TESTS:$(BUILD)/%=$(BUILD)/asan/%) \
	  $(patsubst %,$(BUILD)/own/tests/%,test_torch test_isa cxx_train)
# The other compiler and the thread sanitizer; then what LONG makes longer, where that finds more.
LONG_TESTS = $(patsubst %,$(BUILD)/%,$(addprefix tests/test_,accuracy data io random_graphs promises) \
             clang/tests/test_accuracy asan/tests/test_data asan/tests/test_io tsan/tests/test_data)
check-long: check
	@tools/deps long
	$(JOBS) BUILD=$(BUILD)/clang CC=clang-14 CXX=clang++-14 EXTRA=-Werror all tests
	$(JOBS) BUILD=$(BUILD)/tsan OPT=-O1 DNNL=0 EXTRA='$(SAN) -fsanitize=thread' tests
	@BUILD=$(BUILD) LIMIT=7200 tests/run $(foreach b,clang tsan,$(TESTS:$(BUILD)/%=$(BUILD)/$(b)/%)) LONG=1 $(LONG_TESTS)
fmt:
	clang-format -i $(wildcard include/*.h include/*/*.h src/*/*.[ch] src/*/*/*.[ch] cli/*.[ch] examples/*.c bench/*.c tests/*.[ch])

clean:
	rm -rf $(BUILD)
.PHONY: all clean demo examples bench bench-peers deps tests check check-long fmt
.SECONDARY:
-include $(shell find $(BUILD)/obj $(BUILD)/tests -name '*.d' 2>/dev/null)
