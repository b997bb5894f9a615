/* The memory a thread sees, checked at every access. Shared memory remembers for each byte who
 * touched it last and when: time is counted by barriers of the block, and between them by
 * barriers of the warp. Exchanges, votes and matrix instructions order nothing (PTX ISA 9.0,
 * section 9.7.9.6: no ordering of memory is implied). */
#include <stdlib.h>
#include <string.h>

#include "tests/ptx/run.h"

enum { COPY_BYTES_MAX = 16 };

bool heap_has(struct heap *h, uint64_t at, uint64_t bytes)
{
    const struct range *r = h->n ? &h->ranges[h->last % h->n] : NULL;
    uint32_t low = 0, high = h->n;

    if (r && at >= r->at && at - r->at <= r->bytes && bytes <= r->bytes - (at - r->at))
        return true;
    while (low < high) { /* the last range that starts at or before the address */
        uint32_t middle = (low + high) / 2;
        if (h->ranges[middle].at <= at)
            low = middle + 1;
        else
            high = middle;
    }
    if (!low)
        return false;
    r = &h->ranges[low - 1];
    h->last = low - 1;
    return at - r->at <= r->bytes && bytes <= r->bytes - (at - r->at);
}

/* Whether what thread `who` did at (epoch, warp_epoch) comes before what t does now. */
static bool before(const struct thread *t, uint16_t who, uint32_t epoch, uint32_t warp_epoch)
{
    uint32_t other = who - 1u, warp = t->id / 32;

    if (!who || other == t->id || epoch != t->b->epoch)
        return true;
    return other / 32 == warp && warp_epoch != t->b->warp_epoch[warp];
}

static void note_read(struct thread *t, struct touched *c)
{
    uint32_t epoch = t->b->epoch, warp_epoch = t->b->warp_epoch[t->id / 32];
    bool now = c->reader && c->read_epoch == epoch, mine = (c->reader - 1u) / 32 == t->id / 32;

    c->warps = now && (c->warps || !mine);
    c->lanes =
        now && mine && c->read_warp_epoch == warp_epoch && (c->lanes || c->reader != t->id + 1);
    c->reader = (uint16_t)(t->id + 1);
    c->read_epoch = epoch;
    c->read_warp_epoch = warp_epoch;
}

/* Whether threads that read it in this stretch of time would notice a write by t. */
static bool is_being_read(const struct thread *t, const struct touched *c)
{
    return (c->warps && c->read_epoch == t->b->epoch) ||
           !before(t, c->reader, c->read_epoch, c->read_warp_epoch) ||
           (c->lanes && c->read_epoch == t->b->epoch &&
            c->read_warp_epoch == t->b->warp_epoch[t->id / 32]);
}

static bool fault_at(struct thread *t, uint64_t at, const char *what, uint32_t other)
{
    if (other)
        block_fault(t, "shared byte %u is %s (thread %u)", (unsigned)at, what, other - 1u);
    else
        block_fault(t, "shared byte %u is %s", (unsigned)at, what);
    return false;
}

static bool may_read(struct thread *t, uint64_t at)
{
    struct touched *c = &t->b->touched[at];
    bool wrote_too = c->together >> t->id % 32 & 1 && (c->writer - 1u) / 32 == t->id / 32;

    if (!wrote_too && !before(t, c->writer, c->write_epoch, c->write_warp_epoch))
        return fault_at(t, at, "read without a barrier after another wrote it", c->writer);
    if (c->state == TOUCHED_NEVER)
        return fault_at(t, at, "read but was never written", c->writer);
    if (c->state == TOUCHED_ARRIVING)
        return fault_at(t, at, "read while a copy to it is under way", c->writer);
    note_read(t, c);
    return true;
}

/* Threads may write the same bytes together if they agree. */
static bool may_write(struct thread *t, uint64_t at, uint8_t value)
{
    struct touched *c = &t->b->touched[at];
    bool agrees = c->state == TOUCHED_WRITTEN && t->b->shared[at] == value;

    if (!agrees && !before(t, c->writer, c->write_epoch, c->write_warp_epoch))
        return fault_at(t, at, "written without a barrier after another wrote it", c->writer);
    if (!agrees && is_being_read(t, c))
        return fault_at(t, at, "written without a barrier after another read it", c->reader);
    c->together = agrees && c->write_epoch == t->b->epoch &&
                          c->write_warp_epoch == t->b->warp_epoch[t->id / 32] &&
                          (c->writer - 1u) / 32 == t->id / 32
                      ? c->together
                      : 0;
    c->together |= 1u << t->id % 32;
    c->writer = (uint16_t)(t->id + 1);
    c->write_epoch = t->b->epoch;
    c->write_warp_epoch = t->b->warp_epoch[t->id / 32];
    c->state = TOUCHED_WRITTEN;
    return true;
}

/* What is to be written there, or NULL for a read. */
static uint8_t *shared_at(struct thread *t, uint64_t at, uint32_t bytes, const uint8_t *value)
{
    struct block *b = t->b;
    uint64_t i = at - SHARED_AT;

    if (at < SHARED_AT || i > b->shared_bytes || bytes > b->shared_bytes - i) {
        block_fault(t, "%u bytes at shared address %lld, the block has %u", bytes, (long long)i,
                    b->shared_bytes);
        return NULL;
    }
    for (uint32_t k = 0; k < bytes; k++)
        if (value ? !may_write(t, i + k, value[k]) : !may_read(t, i + k))
            return NULL;
    return b->shared + i;
}

static uint8_t *plain_at(struct thread *t, uint64_t at, uint32_t bytes, enum word space)
{
    struct frame *f = frame_of(t);
    uint64_t room = space == WORD_LOCAL ? t->frames[0].f->local_bytes : f->f->params_bytes;

    if (at > room || bytes > room - at) {
        block_fault(t, "%u bytes at %s address %llu of %llu", bytes,
                    space == WORD_LOCAL ? "local" : "parameter", (unsigned long long)at,
                    (unsigned long long)room);
        return NULL;
    }
    return (space == WORD_LOCAL ? t->local : f->params) + at;
}

static bool in_tables(const struct program *p, uint64_t at, uint32_t bytes)
{
    uint64_t first = (uintptr_t)p->tables;

    return at >= first && at - first + bytes <= p->tables_bytes;
}

static uint8_t *resolve(struct thread *t, enum word space, uint64_t at, uint32_t bytes,
                        const void *value)
{
    if (at % bytes) {
        block_fault(t, "%u bytes at 0x%llx: not aligned", bytes, (unsigned long long)at);
        return NULL;
    }
    if (space == WORD_NONE && at >= SHARED_WINDOW) {
        uint64_t window = at & WINDOW_MASK;
        at &= ~WINDOW_MASK;
        if (window == PARAM_WINDOW) { /* of the kernel, whatever function runs */
            if (!value && at + bytes <= t->frames[0].f->params_bytes)
                return t->frames[0].params + at;
            block_fault(t, "%u bytes at parameter address %llu", bytes, (unsigned long long)at);
            return NULL;
        }
        space = window == SHARED_WINDOW ? WORD_SHARED : WORD_LOCAL;
    }
    if (space == WORD_SHARED)
        return shared_at(t, at, bytes, value);
    if (space == WORD_LOCAL || space == WORD_PARAM)
        return plain_at(t, at, bytes, space);
    if (heap_has(t->b->heap, at, bytes) || (!value && in_tables(t->b->program, at, bytes)))
        return (uint8_t *)(uintptr_t)at;
    block_fault(t, "%u bytes %s 0x%llx: no allocation has them", bytes,
                value ? "written to" : "read from", (unsigned long long)at);
    return NULL;
}

bool memory_read(struct thread *t, enum word space, uint64_t at, void *to, uint32_t bytes)
{
    const uint8_t *p = resolve(t, space, at, bytes, NULL);

    if (p)
        memcpy(to, p, bytes);
    return p != NULL;
}

bool memory_write(struct thread *t, enum word space, uint64_t at, const void *from,
                  uint32_t bytes)
{
    uint8_t *p = resolve(t, space, at, bytes, from);

    if (p)
        memcpy(p, from, bytes);
    return p != NULL;
}

/* From now to its arrival the destination holds nothing that may be read. */
void memory_copy_asked(struct thread *t, const struct arriving *c)
{
    struct block *b = t->b;
    uint8_t nothing[COPY_BYTES_MAX];

    if ((c->bytes != 4 && c->bytes != 8 && c->bytes != COPY_BYTES_MAX) || c->real > c->bytes) {
        block_fault(t, "a copy of %u of %u bytes", c->real, c->bytes);
        return;
    }
    if (c->from % c->bytes)
        block_fault(t, "a copy of %u bytes from 0x%llx: not aligned", c->bytes,
                    (unsigned long long)c->from);
    memset(nothing, 0xff, sizeof nothing);
    if (!resolve(t, WORD_SHARED, c->to, c->bytes, nothing) ||
        (c->real && !resolve(t, WORD_GLOBAL, c->from, c->real, NULL)))
        return;
    if (t->n_copies == t->copies_room) {
        t->copies_room = 2 * t->copies_room + 16;
        t->copies = realloc(t->copies, t->copies_room * sizeof *t->copies);
    }
    t->copies[t->n_copies++] = *c;
    memset(b->shared + (c->to - SHARED_AT), 0xff, c->bytes);
    for (uint32_t k = 0; k < c->bytes; k++)
        b->touched[c->to - SHARED_AT + k].state = TOUCHED_ARRIVING;
}

/* All but the newest `pending` groups. */
void memory_copies_arrive(struct thread *t, uint32_t pending)
{
    uint32_t left = 0;

    for (uint32_t i = 0; i < t->n_copies && !t->b->faulted; i++) {
        struct arriving c = t->copies[i];
        uint8_t bytes[COPY_BYTES_MAX] = {0};
        if (c.group + pending >= t->group) {
            t->copies[left++] = c;
            continue;
        }
        if (!c.real || memory_read(t, WORD_GLOBAL, c.from, bytes, c.real))
            memory_write(t, WORD_SHARED, c.to, bytes, c.bytes);
    }
    t->n_copies = left;
}

/* Atomic: in shared memory, additions do not disturb each other. */
uint32_t memory_add(struct thread *t, enum word space, uint64_t at, uint32_t x)
{
    struct block *b = t->b;
    uint64_t i = at - SHARED_AT;
    uint32_t old = 0, sum;

    if (space != WORD_SHARED) {
        if (memory_read(t, space, at, &old, 4)) {
            sum = old + x;
            memory_write(t, space, at, &sum, 4);
        }
        return old;
    }
    if (at % 4 || at < SHARED_AT || i + 4 > b->shared_bytes ||
        b->touched[i].state != TOUCHED_WRITTEN) {
        block_fault(t, "an addition at shared address %lld", (long long)i);
        return 0;
    }
    memcpy(&old, b->shared + i, 4);
    sum = old + x;
    memcpy(b->shared + i, &sum, 4);
    return old;
}
