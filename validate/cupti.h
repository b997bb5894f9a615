/* Hardware counters of a GPU through CUPTI's range profiler, opened when it is first asked for:
 * nothing of it is needed to build or to start. A range is what a function does between two
 * points in time; its counters are read when the device is done. Prototypes and structs are our
 * own, of what CUPTI 12.6 to 13 have in common.
 *
 * The library is libcupti.so.13 or .12 as dlopen finds it, else in the toolkit that CUDA_HOME
 * names or in /usr/local/cuda; the environment variable KVBUDGET_CUPTI names another file.
 * source: CUPTI documentation, Range Profiling and Profiler Host APIs,
 * docs.nvidia.com/cupti/api */
#ifndef KVBUDGET_VALIDATE_CUPTI_H
#define KVBUDGET_VALIDATE_CUPTI_H

#include <stdbool.h>
#include <stddef.h>

#include "planner/base/arena.h"

enum counter {
    COUNTER_DRAM_READ,    /* bytes */
    COUNTER_DRAM_WRITTEN, /* bytes */
    COUNTER_TENSOR_BF16,  /* FLOP in matrix instructions on bf16, a multiply and an add are 2 */
    COUNTER_TENSOR_FP16,  /* the same on fp16, sums in fp32 */
    N_COUNTERS
};

struct cupti;

/* For the GPU that is CUDA's `device` and current in this thread. NULL: *reason says in one
 * line why nothing can be counted. Texts live in the arena. */
struct cupti *cupti_open(struct arena *a, unsigned device, const char **reason)
    __attribute__((warn_unused_result));
void cupti_close(struct cupti *c); /* NULL is fine */

/* NULL, or in one line why this chip cannot count that. */
const char *cupti_lacks(struct cupti *c, enum counter k);

/* What is counted. Both wait until the device is done; false = failed, the owner knows why. */
struct cupti_work {
    bool (*before)(void *user); /* ahead of every pass, not counted; NULL = nothing */
    bool (*run)(void *user);
    void *user;
};

/* Values of n counters over w->run, which is run once, or as often as the chip needs passes for
 * them. False with *reason, or with *reason NULL where the work failed. */
bool cupti_count(struct cupti *c, const enum counter *list, size_t n,
                 const struct cupti_work *w, double *values, const char **reason)
    __attribute__((warn_unused_result));

#endif
