/* A device in front of its backend: names, the memory limit, error texts. */
#include "kernels/device.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/launch.h"

enum { UNIT_BYTES = 256 };

struct block {
    void *p;
    uint64_t bytes;
};

struct device {
    const struct backend *b;
    void *self;
    struct device_options options;
    struct block *blocks; /* live allocations, for the limit */
    size_t n_blocks, room;
    uint64_t used_bytes;
    bool own_error; /* the last failure is error.text, else the backend's */
    struct device_text error;
};

uint32_t device_cuda_count(struct device_text *why)
{
    return cuda_count(why);
}

enum device_status device_open(const char *name, const struct device_options *o,
                               struct device **out, struct device_text *why)
{
    bool cuda = !strncmp(name, "cuda:", 5);
    enum device_status s;
    struct device *d;

    *out = NULL;
    if (!cuda && strcmp(name, "cpu") != 0) {
        snprintf(why->text, sizeof why->text, "no device is called '%.64s': use cpu or cuda:N",
                 name);
        return DEVICE_BAD_ARGUMENT;
    }
    d = calloc(1, sizeof *d);
    if (!d) {
        snprintf(why->text, sizeof why->text, "out of host memory");
        return DEVICE_OUT_OF_MEMORY;
    }
    d->b = cuda ? &backend_cuda : &backend_cpu;
    d->options = *o;
    s = d->b->open(cuda ? name + 5 : "", o, &d->self, why);
    if (s == DEVICE_OK)
        *out = d;
    else
        free(d);
    return s;
}

void device_close(struct device *d)
{
    if (!d)
        return;
    for (size_t i = 0; i < d->n_blocks; i++)
        d->b->free(d->self, d->blocks[i].p);
    d->b->close(d->self);
    free(d->blocks);
    free(d);
}

const char *device_error(const struct device *d)
{
    return d->own_error ? d->error.text : d->b->error(d->self);
}

enum device_status device_refuse(struct device *d, enum device_status s, const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(d->error.text, sizeof d->error.text, fmt, ap);
    va_end(ap);
    d->own_error = true;
    return s;
}

/* Marks whose text the next device_error shows. */
static enum device_status theirs(struct device *d, enum device_status s)
{
    if (s != DEVICE_OK)
        d->own_error = false;
    return s;
}

enum device_status device_get_info(struct device *d, struct device_info *out)
{
    uint64_t limit = d->options.limit_bytes;
    enum device_status s = theirs(d, d->b->info(d->self, out));

    if (s != DEVICE_OK || !limit || limit >= out->total_bytes)
        return s;
    out->total_bytes = limit;
    if (out->free_bytes > limit - d->used_bytes)
        out->free_bytes = limit - d->used_bytes;
    return s;
}

static bool room_for_block(struct device *d)
{
    size_t room = d->room ? 2 * d->room : 64;
    struct block *more;

    if (d->n_blocks < d->room)
        return true;
    more = realloc(d->blocks, room * sizeof *more);
    if (!more)
        return false;
    d->blocks = more;
    d->room = room;
    return true;
}

enum device_status device_alloc(struct device *d, uint64_t bytes, enum tag tag, void **out)
{
    uint64_t limit = d->options.limit_bytes, rounded;
    enum device_status s;

    *out = NULL;
    if (!bytes || bytes > UINT64_MAX - UNIT_BYTES)
        return device_refuse(d, DEVICE_BAD_ARGUMENT, "cannot allocate %llu bytes",
                             (unsigned long long)bytes);
    rounded = (bytes + UNIT_BYTES - 1) / UNIT_BYTES * UNIT_BYTES;
    if (limit && rounded > limit - d->used_bytes)
        return device_refuse(
            d, DEVICE_OUT_OF_MEMORY,
            "out of memory: %llu bytes asked, %llu of the limit of %llu in use",
            (unsigned long long)bytes, (unsigned long long)d->used_bytes,
            (unsigned long long)limit);
    if (!room_for_block(d))
        return device_refuse(d, DEVICE_OUT_OF_MEMORY, "out of host memory");
    s = theirs(d, d->b->alloc(d->self, bytes, tag, out));
    if (s != DEVICE_OK)
        return s;
    d->blocks[d->n_blocks++] = (struct block){*out, rounded};
    d->used_bytes += rounded;
    return d->options.poison ? device_fill(d, *out, 0xff, bytes) : DEVICE_OK;
}

enum device_status device_free(struct device *d, void *p)
{
    size_t i = 0;

    if (!p)
        return DEVICE_OK;
    while (i < d->n_blocks && d->blocks[i].p != p)
        i++;
    if (i == d->n_blocks)
        return device_refuse(d, DEVICE_BAD_ARGUMENT, "%p is no allocation of this device", p);
    d->used_bytes -= d->blocks[i].bytes;
    d->blocks[i] = d->blocks[--d->n_blocks];
    return theirs(d, d->b->free(d->self, p));
}

void device_free_all(struct device *d)
{
    while (d->n_blocks)
        (void)device_free(d, d->blocks[d->n_blocks - 1].p);
}

uint64_t device_used_bytes(const struct device *d)
{
    return d->used_bytes;
}

enum device_status device_fill(struct device *d, void *p, int byte, uint64_t bytes)
{
    return theirs(d, d->b->fill(d->self, p, byte, bytes));
}

enum device_status device_upload(struct device *d, void *to, const void *from, uint64_t bytes)
{
    return theirs(d, d->b->copy(d->self, to, from, bytes, true));
}

enum device_status device_download(struct device *d, void *to, const void *from, uint64_t bytes)
{
    return theirs(d, d->b->copy(d->self, to, from, bytes, false));
}

enum device_status device_sync(struct device *d)
{
    return theirs(d, d->b->sync(d->self));
}

enum device_status device_timer_start(struct device *d)
{
    return theirs(d, d->b->timer(d->self, NULL));
}

enum device_status device_timer_stop(struct device *d, double *seconds)
{
    return theirs(d, d->b->timer(d->self, seconds));
}

enum device_status device_mark(struct device *d)
{
    return theirs(d, d->b->mark(d->self, NULL, NULL));
}

enum device_status device_marks(struct device *d, double seconds[DEVICE_MARKS_MAX], uint32_t *n)
{
    return theirs(d, d->b->mark(d->self, seconds, n));
}

enum device_status device_record(struct device *d)
{
    return theirs(d, d->b->record(d->self, RECORD_START));
}

enum device_status device_recorded(struct device *d)
{
    return theirs(d, d->b->record(d->self, RECORD_STOP));
}

enum device_status device_replay(struct device *d)
{
    return theirs(d, d->b->record(d->self, RECORD_RUN));
}

enum device_status device_tally(struct device *d, struct tally *out)
{
    return theirs(d, d->b->tally(d->self, out, N_TAGS));
}

void device_tally_reset(struct device *d)
{
    device_tally_reset_but(d, N_TAGS);
}

void device_tally_reset_but(struct device *d, uint32_t kept)
{
    (void)d->b->tally(d->self, NULL, kept);
}

enum device_status device_launch(struct device *d, enum kernel k, const void *args)
{
    return theirs(d, d->b->launch[k](d->self, args));
}
