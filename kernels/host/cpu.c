/* The CPU build as a backend of device.h: its memory, its tallies, its clock. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "kernels/host/host.h"
#include "kernels/host/lane.h"

static enum device_status fail(struct host_device *d, enum device_status s, const char *why)
{
    snprintf(d->error.text, sizeof d->error.text, "%s", why);
    return s;
}

enum device_status host_refuse(void *self, enum device_status s, const char *why)
{
    return fail(self, s, why);
}

static enum device_status cpu_open(const char *name, const struct device_options *o,
                                   void **self, struct device_text *why)
{
    struct host_device *d = calloc(1, sizeof *d);

    (void)name;
    if (!d) {
        snprintf(why->text, sizeof why->text, "out of host memory");
        return DEVICE_OUT_OF_MEMORY;
    }
    d->options = *o;
    *self = d;
    return DEVICE_OK;
}

static void cpu_close(void *self)
{
    struct host_device *d = self;

    fibers_free(d->fibers);
    free(d->lanes);
    free(d->shared);
    free(d->allocs);
    free(d);
}

static const char *cpu_error(const void *self)
{
    return ((const struct host_device *)self)->error.text;
}

static uint64_t pages_bytes(int which)
{
    return (uint64_t)sysconf(_SC_PAGESIZE) * (uint64_t)sysconf(which);
}

static enum device_status cpu_info(void *self, struct device_info *out)
{
    (void)self;
    *out = (struct device_info){.is_cpu = true, .major = 9, .multiprocessors = 1};
    snprintf(out->name, sizeof out->name, "CPU build");
    out->total_bytes = pages_bytes(_SC_PHYS_PAGES);
    out->free_bytes = out->total_bytes;
#ifdef _SC_AVPHYS_PAGES
    out->free_bytes = pages_bytes(_SC_AVPHYS_PAGES);
#endif
    return DEVICE_OK;
}

static void release(struct host_alloc *a)
{
    free(a->p);
    free(a->read);
    free(a->written);
}

static uint64_t words_of(const struct host_alloc *a)
{
    return (a->bytes + 63) / 64;
}

static enum device_status cpu_alloc(void *self, uint64_t bytes, enum tag tag, void **out)
{
    struct host_device *d = self;
    struct host_alloc a = {.bytes = bytes, .tag = tag};

    if (bytes > pages_bytes(_SC_PHYS_PAGES))
        return fail(d, DEVICE_OUT_OF_MEMORY, "out of memory: more bytes than the host has");
    if (d->n_allocs == d->room) {
        uint32_t room = d->room ? 2 * d->room : 64;
        struct host_alloc *more = realloc(d->allocs, room * sizeof *more);
        if (!more)
            return fail(d, DEVICE_OUT_OF_MEMORY, "out of host memory");
        d->allocs = more;
        d->room = room;
    }
    a.p = aligned_alloc(256, (size_t)((bytes + 255) / 256 * 256));
    a.read = calloc(words_of(&a), sizeof *a.read);
    a.written = calloc(words_of(&a), sizeof *a.written);
    if (!a.p || !a.read || !a.written) {
        release(&a);
        return fail(d, DEVICE_OUT_OF_MEMORY, "out of host memory");
    }
    d->allocs[d->n_allocs++] = a;
    *out = a.p;
    return DEVICE_OK;
}

static enum device_status cpu_free(void *self, void *p)
{
    struct host_device *d = self;
    uint32_t i = 0;

    while (i < d->n_allocs && d->allocs[i].p != p)
        i++;
    if (i == d->n_allocs)
        return fail(d, DEVICE_BAD_ARGUMENT, "no allocation of this device");
    release(&d->allocs[i]);
    d->allocs[i] = d->allocs[--d->n_allocs];
    return DEVICE_OK;
}

/* Whole ranges, as the host's side of the interface asks for them. */
static bool inside(const struct host_device *d, const void *p, uint64_t bytes)
{
    const char *at = p;

    for (uint32_t i = 0; i < d->n_allocs; i++) {
        const struct host_alloc *a = &d->allocs[i];
        if (at >= a->p && (uint64_t)(at - a->p) <= a->bytes &&
            bytes <= a->bytes - (uint64_t)(at - a->p))
            return true;
    }
    return false;
}

static enum device_status cpu_fill(void *self, void *p, int byte, uint64_t bytes)
{
    if (!inside(self, p, bytes))
        return fail(self, DEVICE_BAD_ARGUMENT, "cannot fill outside of an allocation");
    memset(p, byte, (size_t)bytes);
    return DEVICE_OK;
}

static enum device_status cpu_transfer(void *self, void *to, const void *from, uint64_t bytes,
                                       bool up)
{
    if (!inside(self, up ? to : from, bytes))
        return fail(self, DEVICE_BAD_ARGUMENT, "cannot copy outside of an allocation");
    memcpy(to, from, (size_t)bytes);
    return DEVICE_OK;
}

static enum device_status cpu_sync(void *self)
{
    (void)self;
    return DEVICE_OK;
}

static double now_s(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

static enum device_status cpu_timer(void *self, double *seconds)
{
    struct host_device *d = self;

    if (seconds)
        *seconds = now_s() - d->started_s;
    else
        d->started_s = now_s();
    return DEVICE_OK;
}

static enum device_status cpu_mark(void *self, double *seconds, uint32_t *n)
{
    struct host_device *d = self;

    if (!seconds) {
        if (d->n_marks == DEVICE_MARKS_MAX)
            return fail(d, DEVICE_BAD_ARGUMENT, "too many marks");
        d->marks[d->n_marks++] = now_s();
        return DEVICE_OK;
    }
    *n = d->n_marks ? d->n_marks - 1 : 0;
    for (uint32_t i = 0; i < *n; i++)
        seconds[i] = d->marks[i + 1] - d->marks[i];
    d->n_marks = 0;
    return DEVICE_OK;
}

/* Work runs where it stands: recording it is running it, and that once. */
static enum device_status cpu_record(void *self, enum record what)
{
    (void)self;
    (void)what;
    return DEVICE_OK;
}

static uint64_t bits_set(const uint64_t *bits, uint64_t words)
{
    uint64_t n = 0;

    for (uint64_t i = 0; i < words; i++)
        n += (uint64_t)__builtin_popcountll(bits[i]);
    return n;
}

static enum device_status cpu_tally(void *self, struct tally *out, uint32_t kept)
{
    struct host_device *d = self;

    if (!out)
        d->tally = (struct tally){0};
    else
        *out = d->tally;
    for (uint32_t i = 0; i < d->n_allocs; i++) {
        struct host_alloc *a = &d->allocs[i];
        uint64_t words = words_of(a);
        if (!out && (uint32_t)a->tag == kept)
            continue;
        if (!out) {
            memset(a->read, 0, words * sizeof *a->read);
            memset(a->written, 0, words * sizeof *a->written);
            continue;
        }
        out->unique_read_bytes[a->tag] += bits_set(a->read, words);
        out->unique_written_bytes[a->tag] += bits_set(a->written, words);
    }
    return DEVICE_OK;
}

const struct backend backend_cpu = {
    .open = cpu_open,
    .close = cpu_close,
    .error = cpu_error,
    .info = cpu_info,
    .alloc = cpu_alloc,
    .free = cpu_free,
    .fill = cpu_fill,
    .copy = cpu_transfer,
    .sync = cpu_sync,
    .timer = cpu_timer,
    .mark = cpu_mark,
    .record = cpu_record,
    .tally = cpu_tally,
    .launch =
        {
#define X(id) [KERNEL_##id] = cpu_##id,
            KERNEL_LIST(X)
#undef X
        },
};
