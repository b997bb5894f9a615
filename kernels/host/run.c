/* Runs a launch: the blocks one after the other, the threads of a block round robin. A thread
 * runs until it has to meet others. When the 32 threads of a warp wait for the same meeting at
 * the same place, the meeting takes place and they go on; when all threads of the block wait at
 * the same barrier, it opens. Anything else would hang or be undefined on a GPU, and ends the
 * launch with the thread and the line. */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/host/host.h"

enum { STACK_BYTES = 64 * 1024, THREADS_MAX = 1024, SHARED_MAX = 227 * 1024 };

static void fail(struct host_run *r, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));
static void fail(struct host_run *r, const char *fmt, ...)
{
    va_list ap;

    if (!r->failed) {
        va_start(ap, fmt);
        vsnprintf(r->d->error.text, sizeof r->d->error.text, fmt, ap);
        va_end(ap);
    }
    r->failed = true;
}

void host_fault(struct lane *t, const char *place, const char *fmt, ...)
{
    struct host_run *r = t->run;
    char text[160];
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    fail(r, "%s: block %u,%u,%u thread %u: %s", place, r->block[0], r->block[1], r->block[2],
         t->thread, text);
    for (;;)
        fiber_yield(r->d->fibers, t->thread, true);
}

void host_meet(struct lane *t, enum host_wait w, uint32_t width, const char *place)
{
    t->wait = w;
    t->width = width;
    t->place = place;
    fiber_yield(t->run->d->fibers, t->thread, false);
}

static void thread_main(void *arg)
{
    struct lane *t = arg;

    t->run->kernel(t, t->run->args);
    if (t->n_async || t->n_products)
        host_fault(t, "end of the kernel", "%u asynchronous %s were never waited for",
                   t->n_async ? t->n_async : t->n_products, t->n_async ? "copies" : "products");
    t->wait = HOST_DONE;
    for (;;)
        fiber_yield(t->run->d->fibers, t->thread, true);
}

static bool same_wait(const struct lane *a, const struct lane *b)
{
    if (a->wait != b->wait || a->wait == HOST_DONE)
        return a->wait == b->wait;
    return a->width == b->width && !strcmp(a->place, b->place);
}

/* Who does not wait for what the first of n waits for; NULL: all do. */
static const struct lane *stranger(const struct lane *first, uint32_t n)
{
    for (uint32_t i = 1; i < n; i++)
        if (!same_wait(first, &first[i]))
            return &first[i];
    return NULL;
}

static void diverged(struct host_run *r, const struct lane *a, const struct lane *b)
{
    const struct lane *x = a->wait == HOST_DONE ? b : a, *y = x == a ? b : a;
    char other[96];

    if (y->wait == HOST_DONE)
        snprintf(other, sizeof other, "has ended");
    else
        snprintf(other, sizeof other, "waits for a %s at %s", host_wait_name(y->wait),
                 y->place);
    fail(r, "%s: block %u,%u,%u thread %u waits for a %s, but thread %u %s", x->place,
         r->block[0], r->block[1], r->block[2], x->thread, host_wait_name(x->wait), y->thread,
         other);
}

/* Runs a warp until its threads have ended or wait for other warps. */
static void run_warp(struct host_run *r, struct lane *warp)
{
    while (!r->failed) {
        const struct lane *other;
        for (uint32_t i = 0; i < WARP && !r->failed; i++) {
            struct lane *t = &warp[r->d->options.reversed ? WARP - 1 - i : i];
            if (t->wait == HOST_DONE)
                continue;
            t->wait = HOST_NONE;
            fiber_run(r->d->fibers, t->thread);
        }
        if (r->failed)
            return;
        other = stranger(warp, WARP);
        if (other) {
            diverged(r, warp, other);
            return;
        }
        if (warp->wait < HOST_SYNC)
            return;
        host_meeting(warp, warp->wait, warp->width);
        if (warp->wait == HOST_MMA_BF16 || warp->wait == HOST_MMA_FP16)
            r->d->tally.issued.tensor_flop += 2 * 16 * 8 * 16;
    }
}

static void go_on(struct lane *first, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++)
        first[i].wait = HOST_NONE;
}

/* Lets the warpgroups go on whose threads all wait for the same product of tiles. */
static bool met_as_groups(struct host_run *r)
{
    bool met = false;

    for (uint32_t i = 0; i + WARPGROUP <= r->shape.threads; i += WARPGROUP) {
        struct lane *group = &r->d->lanes[i];
        enum host_wait w = group->wait;
        if ((w != HOST_SCORES && w != HOST_VALUES) || stranger(group, WARPGROUP))
            continue;
        host_tile_meeting(group, w == HOST_SCORES);
        r->d->tally.issued.tensor_flop +=
            UINT64_C(2) * 64 * 128 * (w == HOST_SCORES ? 16 : 1) * group->in.tile.size;
        go_on(group, WARPGROUP);
        met = true;
    }
    return met;
}

static void begin_block(struct host_run *r)
{
    struct host_device *d = r->d;

    memset(d->shared, 0xff, r->shape.shared_bytes);
    for (uint32_t i = 0; i < r->shape.threads; i++) {
        d->lanes[i].run = r;
        d->lanes[i].thread = i;
        d->lanes[i].wait = HOST_NONE;
        d->lanes[i].n_async = d->lanes[i].group = d->lanes[i].n_products = 0;
        fiber_reset(d->fibers, i, thread_main, &d->lanes[i]);
    }
}

static void run_block(struct host_run *r)
{
    struct host_device *d = r->d;
    uint32_t warps = r->shape.threads / WARP;

    begin_block(r);
    while (!r->failed) {
        const struct lane *other;
        for (uint32_t w = 0; w < warps && !r->failed; w++) {
            struct lane *warp = &d->lanes[(d->options.reversed ? warps - 1 - w : w) * WARP];
            if (warp->wait == HOST_NONE)
                run_warp(r, warp);
        }
        if (r->failed)
            return;
        if (met_as_groups(r))
            continue;
        other = stranger(d->lanes, r->shape.threads);
        if (other)
            diverged(r, d->lanes, other);
        else if (d->lanes->wait == HOST_DONE)
            return;
        else
            go_on(d->lanes, r->shape.threads);
    }
}

/* Fibers and shared memory are kept from launch to launch and grow when a block needs more. */
static bool provide(struct host_device *d, const struct shape *s)
{
    if (!d->fibers || fibers_count(d->fibers) < s->threads) {
        fibers_free(d->fibers);
        free(d->lanes);
        d->fibers = fibers_new(s->threads, STACK_BYTES);
        d->lanes = calloc(s->threads, sizeof *d->lanes);
    }
    if (!d->shared || d->shared_room < s->shared_bytes) {
        uint32_t room = (s->shared_bytes / 1024 + 1) * 1024;
        free(d->shared);
        d->shared = aligned_alloc(1024, room);
        d->shared_room = d->shared ? room : 0;
    }
    return d->fibers && d->lanes && d->shared;
}

/* The uses of `shape` that a GPU refuses. */
static const char *bad_shape(const struct shape *s)
{
    if (!s->threads || s->threads % WARP || s->threads > THREADS_MAX)
        return "a block has a multiple of 32 threads, at most 1024";
    if (!s->grid[0] || !s->grid[1] || !s->grid[2] || s->grid[0] > INT32_MAX ||
        s->grid[1] > 65535 || s->grid[2] > 65535)
        return "a grid has 1 to 2147483647 x 65535 x 65535 blocks";
    if (s->shared_bytes > SHARED_MAX)
        return "a block has at most 227 KiB of shared memory";
    return NULL;
}

enum device_status host_launch(void *self, struct shape s, host_kernel k, const void *args)
{
    struct host_device *d = self;
    struct host_run r = {.d = d, .kernel = k, .args = args, .shape = s};
    uint64_t blocks = (uint64_t)s.grid[0] * s.grid[1] * s.grid[2];
    const char *bad = bad_shape(&s);

    if (bad) {
        snprintf(d->error.text, sizeof d->error.text, "cannot launch: %s", bad);
        return DEVICE_BAD_ARGUMENT;
    }
    if (!provide(d, &s)) {
        snprintf(d->error.text, sizeof d->error.text, "out of host memory for %u threads",
                 s.threads);
        return DEVICE_OUT_OF_MEMORY;
    }
    d->tally.launches++;
    for (uint64_t i = 0; i < blocks && !r.failed; i++) {
        uint64_t b = d->options.reversed ? blocks - 1 - i : i;
        r.block[0] = (uint32_t)(b % s.grid[0]);
        r.block[1] = (uint32_t)(b / s.grid[0] % s.grid[1]);
        r.block[2] = (uint32_t)(b / s.grid[0] / s.grid[1]);
        run_block(&r);
    }
    return r.failed ? DEVICE_FAULT : DEVICE_OK;
}
