/* Stackful coroutines, one for each thread of a block: a switch of a few nanoseconds on x86-64
 * and aarch64, ucontext elsewhere. Knows nothing of kernels. */
#ifndef KVBUDGET_KERNELS_HOST_FIBER_H
#define KVBUDGET_KERNELS_HOST_FIBER_H

#include <stdbool.h>
#include <stddef.h>

typedef void (*fiber_fn)(void *arg); /* must never return: switch away for good instead */

struct fibers; /* stacks and saved contexts of up to n fibers, and of the one who runs them */

/* NULL: out of memory. A page that must not be touched lies below each stack. */
struct fibers *fibers_new(size_t n, size_t stack_bytes);
void fibers_free(struct fibers *f); /* NULL is fine */
size_t fibers_count(const struct fibers *f);

/* Fiber i begins anew with fn(arg) at its next run; what it did before is dropped. */
void fiber_reset(struct fibers *f, size_t i, fiber_fn fn, void *arg);
/* Runs fiber i until it yields. */
void fiber_run(struct fibers *f, size_t i);
/* From inside fiber i: back to the caller of fiber_run. `last`: it will not be run again. */
void fiber_yield(struct fibers *f, size_t i, bool last);

#endif
