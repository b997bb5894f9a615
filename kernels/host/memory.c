/* Device memory of the CPU build. Each access must be aligned to its size and lie within one
 * allocation, else the launch ends; each is counted by the tag of its allocation, issued bytes
 * as they come and unique bytes through a bit a byte. */
#include <string.h>

#include "kernels/host/lane.h"

static bool holds(const struct host_alloc *a, const char *p, uint32_t bytes)
{
    return p >= a->p && (uint64_t)(p - a->p) + bytes <= a->bytes;
}

static struct host_alloc *find(struct host_device *d, const char *p, uint32_t bytes)
{
    if (d->last < d->n_allocs && holds(&d->allocs[d->last], p, bytes))
        return &d->allocs[d->last];
    for (uint32_t i = 0; i < d->n_allocs; i++)
        if (holds(&d->allocs[i], p, bytes)) {
            d->last = i;
            return &d->allocs[i];
        }
    return NULL;
}

/* bytes is a power of two up to 16 and p is aligned to it, so that the bits lie in one word. */
static struct host_alloc *check(struct lane *t, const void *p, uint32_t bytes, const char *what,
                                const char *place)
{
    struct host_alloc *a;

    if ((uintptr_t)p % bytes)
        host_fault(t, place, "%s %u bytes at an address that is not a multiple of %u", what,
                   bytes, bytes);
    a = find(t->run->d, p, bytes);
    if (!a)
        host_fault(t, place, "%s %u bytes outside of every allocation", what, bytes);
    return a;
}

static void mark(uint64_t *bits, uint64_t first, uint32_t bytes)
{
    bits[first / 64] |= ((UINT64_C(1) << bytes) - 1) << first % 64;
}

static void count_read(struct lane *t, const void *from, uint32_t bytes, const char *place)
{
    struct host_alloc *a = check(t, from, bytes, "reads", place);

    mark(a->read, (uint64_t)((const char *)from - a->p), bytes);
    t->run->d->tally.issued.read_bytes[a->tag] += bytes;
}

void host_load(struct lane *t, void *to, const void *from, uint32_t bytes, const char *place)
{
    count_read(t, from, bytes, place);
    memcpy(to, from, bytes);
}

void host_store(struct lane *t, void *to, const void *from, uint32_t bytes, const char *place)
{
    struct host_alloc *a = check(t, to, bytes, "writes", place);

    mark(a->written, (uint64_t)((char *)to - a->p), bytes);
    t->run->d->tally.issued.written_bytes[a->tag] += bytes;
    memcpy(to, from, bytes);
}

bool host_touch(struct host_device *d, const void *p, uint64_t bytes, bool write)
{
    for (uint32_t i = 0; i < d->n_allocs; i++) {
        struct host_alloc *a = &d->allocs[i];
        uint64_t at = (uint64_t)((const char *)p - a->p), *bits = write ? a->written : a->read;
        if ((const char *)p < a->p || at > a->bytes || bytes > a->bytes - at)
            continue;
        for (uint64_t b = at; b < at + bytes; b++)
            bits[b / 64] |= UINT64_C(1) << b % 64;
        if (write)
            d->tally.issued.written_bytes[a->tag] += bytes;
        else
            d->tally.issued.read_bytes[a->tag] += bytes;
        return true;
    }
    return false;
}

void host_check_shared(struct lane *t, const void *p, uint32_t bytes, const char *place)
{
    const struct host_run *r = t->run;
    const char *at = p;

    if (at < r->d->shared || (uint64_t)(at - r->d->shared) + bytes > r->shape.shared_bytes)
        host_fault(t, place, "%u bytes outside of the block's shared memory", bytes);
    if ((uint64_t)(at - r->d->shared) % bytes)
        host_fault(t, place, "shared memory that is not aligned to %u bytes", bytes);
}

void host_async_copy(struct lane *t, void *shared, const void *from, uint32_t bytes,
                     const char *place)
{
    host_check_shared(t, shared, bytes, place);
    if (from)
        count_read(t, from, bytes, place);
    if (t->n_async == HOST_ASYNC_MAX)
        host_fault(t, place, "more than %d asynchronous copies under way", HOST_ASYNC_MAX);
    memset(shared, 0xff, bytes);
    t->async[t->n_async++] = (struct host_async){shared, from, bytes, t->group};
}

static void land(const struct host_async *c)
{
    if (c->from)
        memcpy(c->to, c->from, c->bytes);
    else
        memset(c->to, 0, c->bytes);
}

void host_async_wait(struct lane *t, uint32_t pending, const char *place)
{
    uint32_t left = 0;

    (void)place;
    for (uint32_t i = 0; i < t->n_async; i++) {
        const struct host_async *c = &t->async[i];
        if (c->group < t->group && t->group - c->group > pending)
            land(c);
        else
            t->async[left++] = *c;
    }
    t->n_async = left;
}

/* Threads do not interrupt each other, so that these are atomic as they are; sums wrap. */
uint32_t host_add32(struct lane *t, uint32_t *p, uint32_t x, const char *place)
{
    uint32_t old, sum;

    host_load(t, &old, p, sizeof old, place);
    sum = (uint32_t)((uint64_t)old + x);
    host_store(t, p, &sum, sizeof sum, place);
    return old;
}

uint32_t host_shared_add(struct lane *t, uint32_t *p, uint32_t x, const char *place)
{
    uint32_t old;

    host_check_shared(t, p, sizeof *p, place);
    old = *p;
    *p = (uint32_t)((uint64_t)old + x);
    return old;
}
