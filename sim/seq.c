/* Buffers for hashes come in powers of two and are chained when they are free. */
#include "sim/seq.h"

#include <string.h>

struct room { /* a free buffer */
    struct room *next;
};

static uint32_t room_for(uint32_t n)
{
    uint32_t r = 0;

    while (((uint32_t)1 << r) < n)
        r++;
    return r;
}

static void take_room(struct seqs *s, struct seq *q, uint32_t n)
{
    uint32_t r = room_for(n);
    size_t items = (size_t)1 << r;
    char *room = s->rooms[r];

    if (room)
        s->rooms[r] = ((struct room *)(void *)room)->next;
    else
        room = arena_alloc(s->arena, items, sizeof *q->hashes + sizeof *q->entries);
    q->room = r;
    q->hashes = (uint64_t *)(void *)room;
    q->entries = (uint32_t *)(void *)(room + items * sizeof *q->hashes);
}

static void grow(struct seqs *s)
{
    uint32_t n = s->n ? 2 * s->n : 64;

    s->items = arena_grow(s->arena, s->items, s->n, n, sizeof *s->items);
    s->held = arena_grow(s->arena, s->held, (size_t)s->n * s->n_lanes, (size_t)n * s->n_lanes,
                         sizeof *s->held);
    for (uint32_t i = n - 1; i >= (s->n ? s->n : 1); i--) {
        s->items[i].next = s->spare;
        s->spare = i;
    }
    s->n = n;
}

uint32_t seq_new(struct seqs *s, const struct request *r)
{
    uint32_t id;
    struct seq *q;

    if (!s->spare)
        grow(s);
    id = s->spare;
    q = &s->items[id];
    s->spare = q->next;
    s->in_flight++;
    *q = (struct seq){.request = *r, .n = r->prompt_tokens};
    if (r->n_hashes) {
        take_room(s, q, r->n_hashes);
        memcpy(q->hashes, r->hashes, r->n_hashes * sizeof *q->hashes);
    }
    q->request.hashes = q->hashes;
    memset(seq_held(s, id), 0, s->n_lanes * sizeof *s->held);
    return id;
}

void seq_free(struct seqs *s, uint32_t id)
{
    struct seq *q = &s->items[id];

    if (q->hashes) {
        struct room *room = (struct room *)(void *)q->hashes;
        room->next = s->rooms[q->room];
        s->rooms[q->room] = room;
    }
    q->next = s->spare;
    s->spare = id;
    s->in_flight--;
}

struct seq_held *seq_held(const struct seqs *s, uint32_t id)
{
    return s->held + (size_t)id * s->n_lanes;
}

void seq_push_back(struct seqs *s, struct seq_list *l, uint32_t id)
{
    struct seq *q = &s->items[id];

    q->prev = l->tail;
    q->next = SEQ_NONE;
    if (l->tail)
        s->items[l->tail].next = id;
    else
        l->head = id;
    l->tail = id;
    l->n++;
}

void seq_push_front(struct seqs *s, struct seq_list *l, uint32_t id)
{
    struct seq *q = &s->items[id];

    q->next = l->head;
    q->prev = SEQ_NONE;
    if (l->head)
        s->items[l->head].prev = id;
    else
        l->tail = id;
    l->head = id;
    l->n++;
}

void seq_unlink(struct seqs *s, struct seq_list *l, uint32_t id)
{
    struct seq *q = &s->items[id];

    if (q->prev)
        s->items[q->prev].next = q->next;
    else
        l->head = q->next;
    if (q->next)
        s->items[q->next].prev = q->prev;
    else
        l->tail = q->prev;
    q->prev = q->next = SEQ_NONE;
    l->n--;
}
