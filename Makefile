# make | make check | make bench | make demo | make fmt | make clean: see README.md
.DEFAULT_GOAL := all
BUILD  ?= build
CC     ?= gcc
CXX    ?= g++
OPT    ?= -O3
DNNL   ?= $(shell [ -e /usr/include/dnnl.h ] || [ -e /usr/include/oneapi/dnnl/dnnl.h ] && echo 1)

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

INNER  = -Isrc/core -Isrc/ops -Isrc/autograd -Isrc/kernels -Isrc/compile -Isrc/run
SRC    = $(filter-out src/kernels/isa/%,$(wildcard src/*/*.c))
ISA    = $(wildcard src/kernels/isa/*.c)
OBJ    = $(SRC:%.c=$(BUILD)/obj/%.o) $(foreach i,baseline v3 v4,$(ISA:%.c=$(BUILD)/obj/%.$(i).o))
ARCH_baseline = -march=x86-64
ARCH_v3 = -march=x86-64-v3
ARCH_v4 = -march=x86-64-v4 -mprefer-vector-width=512

all: $(BUILD)/nabla $(BUILD)/libnabla.a $(BUILD)/libnabla.so $(BUILD)/bench/nets $(BUILD)/nabla.pc

# nn, data, io, draw, check, cli ... see the public header only.
$(BUILD)/obj/src/core/%.o $(BUILD)/obj/src/ops/%.o $(BUILD)/obj/src/autograd/%.o $(BUILD)/obj/src/kernels/%.o \
$(BUILD)/obj/src/compile/%.o $(BUILD)/obj/src/run/%.o: CFLAGS_ALL += $(INNER)

$(BUILD)/obj/%.o: %.c Makefile
	@mkdir -p $(@D)
	$(CC) $(CFLAGS_ALL) -c $< -o $@
define isa_rule
$(BUILD)/obj/src/kernels/isa/%.$(1).o: src/kernels/isa/%.c Makefile
	@mkdir -p $$(@D)
	$$(CC) $$(CFLAGS_ALL) -DNB__ISA=$(1) $$(ARCH_$(1)) -c $$< -o $$@
endef
$(foreach i,baseline v3 v4,$(eval $(call isa_rule,$(i))))

$(BUILD)/libnabla.a: $(OBJ)
	@rm -f $@
	ar rcs $@ $(OBJ)
SONAME = libnabla.so.0
$(BUILD)/libnabla.so: $(OBJ)
	$(CC) -shared -Wl,-soname,$(SONAME) -Wl,--no-undefined -o $(BUILD)/$(SONAME) $(OBJ) $(LIBS)
	ln -sf $(SONAME) $@
CLI    = $(wildcard cli/*.c)
$(BUILD)/nabla: $(CLI:%.c=$(BUILD)/obj/%.o) $(BUILD)/libnabla.a
	$(CC) -o $@ $^ $(LIBS)
$(BUILD)/bench/nets: $(BUILD)/obj/bench/nets.o $(BUILD)/libnabla.a
	@mkdir -p $(@D)
	$(CC) -o $@ $^ $(LIBS)
$(BUILD)/nabla.pc: Makefile
	@mkdir -p $(@D)
	@printf 'Name: nabla\nDescription: autograd engine with neural nets\nVersion: 0.1.0\nCflags: -I%s/include\nLibs: -L%s -lnabla\nLibs.private: %s\n' \
	  "$(CURDIR)" "$(CURDIR)/$(BUILD)" "$(LIBS)" > $@

clean:
	rm -rf $(BUILD)
.PHONY: all clean
-include $(shell find $(BUILD)/obj -name '*.d' 2>/dev/null)
