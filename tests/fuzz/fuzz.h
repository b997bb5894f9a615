/* The entry point of a fuzz target. Under clang libFuzzer calls it; elsewhere replay.c runs it
 * over the files of tests/fuzz/corpus. A broken property aborts (assert). */
#ifndef KVBUDGET_TESTS_FUZZ_FUZZ_H
#define KVBUDGET_TESTS_FUZZ_FUZZ_H

#include <stddef.h>
#include <stdint.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#endif
