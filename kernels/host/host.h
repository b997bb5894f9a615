/* The CPU build's side of kernels/dev.h: a thread of a kernel is a fiber, device memory is host
 * memory whose every access is checked and tallied. Included through dev.h by kernels and by
 * kernels/host; nobody else needs it. Each function that takes `place` ("file:line") is called
 * through a macro of dev.h that fills it in. */
#ifndef KVBUDGET_KERNELS_HOST_HOST_H
#define KVBUDGET_KERNELS_HOST_HOST_H

#include <stdint.h>

#include "kernels/host/fiber.h"
#include "kernels/host/meet.h"
#include "kernels/host/tile.h"
#include "kernels/launch.h"

enum { WARP = 32, HOST_ASYNC_MAX = 128 };

struct host_async { /* an asynchronous copy under way */
    void *to;
    const void *from;
    uint32_t bytes, group;
};

struct lane { /* one thread of the running block */
    struct host_run *run;
    uint32_t thread;
    enum host_wait wait;
    uint32_t width; /* of the groups of a sum, a maximum or a shuffle */
    const char *place;
    union host_slot in, out;
    uint32_t n_async, group; /* copies under way, number of the open group */
    struct host_async async[HOST_ASYNC_MAX];
    uint32_t n_products;
    struct host_product products[HOST_PRODUCTS_MAX];
};

struct host_alloc {
    char *p;
    uint64_t bytes;
    enum tag tag;
    uint64_t *read, *written; /* a bit a byte */
};

struct host_device {
    struct device_options options;
    struct host_alloc *allocs;
    uint32_t n_allocs, room;
    uint32_t last; /* index of the allocation hit last */
    struct tally tally;
    struct fibers *fibers;
    struct lane *lanes;
    char *shared;
    uint32_t shared_room;
    double started_s;
    double marks[DEVICE_MARKS_MAX];
    uint32_t n_marks;
    struct device_text error;
};

typedef void (*host_kernel)(struct lane *t, const void *args);

struct host_run { /* a launch under way */
    struct host_device *d;
    host_kernel kernel;
    const void *args;
    struct shape shape;
    uint32_t block[3];
    bool failed;
};

/* Runs every block of the launch; DEVICE_FAULT with the device's text when a thread did what a
 * GPU would not forgive. */
enum device_status host_launch(void *self, struct shape s, host_kernel k, const void *args);

/* From inside a thread: records the fault and never returns. */
void host_fault(struct lane *t, const char *place, const char *fmt, ...)
    __attribute__((format(printf, 3, 4), noreturn));

/* Device memory. */
void host_load(struct lane *t, void *to, const void *from, uint32_t bytes, const char *place);
void host_store(struct lane *t, void *to, const void *from, uint32_t bytes, const char *place);
/* For what runs outside of the fibers: counts a range; false when no allocation holds it. */
bool host_touch(struct host_device *d, const void *p, uint64_t bytes, bool write);
/* from NULL: zeros. */
void host_async_copy(struct lane *t, void *shared, const void *from, uint32_t bytes,
                     const char *place);
void host_async_wait(struct lane *t, uint32_t pending, const char *place);
/* Checks that [p, p + bytes) lies in the block's shared memory, aligned to its size. */
void host_check_shared(struct lane *t, const void *p, uint32_t bytes, const char *place);

#endif
