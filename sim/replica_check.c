/* Recounts what a replica keeps as it goes along, and asserts it. */
#include "sim/replica.h"

#include <assert.h>

#include "sim/hold.h"

static void check_list(const struct replica *r, const struct seq_list *l, enum seq_state state)
{
    uint64_t n = 0;
    uint32_t prev = SEQ_NONE;

    for (uint32_t id = l->head; id; id = r->seqs->items[id].next) {
        const struct seq *q = &r->seqs->items[id];
        assert(q->prev == prev);
        assert(q->state == state ||
               (state == SEQ_DECODE && (q->state == SEQ_PROMPT || q->state == SEQ_ENDED)));
        assert(q->state == SEQ_ENDED ? q->generated == q->request.output_tokens
                                     : replica_generated(r, q) < q->request.output_tokens);
        prev = id;
        n++;
    }
    assert(n == l->n && l->tail == prev);
}

/* Taken - given back = held = what the running hold, shared blocks once. */
static void check_pages(const struct replica *r, uint32_t stage)
{
    const struct sim_pool *p = &r->pool;
    uint64_t units = 0;

    for (uint32_t id = r->running.head; id; id = r->seqs->items[id].next) {
        units += hold_units(r, id, stage);
        units -= r->seqs->items[id].shared_pages * p->lanes[0].page_units;
    }
    if (p->caches)
        units += (p->prefix.entry_blocks - p->prefix.cached_blocks) * p->lanes[0].page_units;
    assert((int64_t)units ==
           (int64_t)p->units[stage] - p->free_units[stage] -
               (p->caches ? (int64_t)(p->units[stage] % p->lanes[0].page_units) : 0));
    assert(r->running.n || !r->reserved_units[stage]);
}

void replica_check(const struct replica *r)
{
    uint64_t decoding = 0, ended = 0;

    check_list(r, &r->running, SEQ_DECODE);
    check_list(r, &r->host, SEQ_HOST);
    for (uint32_t s = 0; !r->lent && s < r->pool.n_stages; s++)
        check_pages(r, s);
    for (uint32_t id = r->running.head; id; id = r->seqs->items[id].next) {
        decoding += r->seqs->items[id].state == SEQ_DECODE;
        ended += r->seqs->items[id].state == SEQ_ENDED;
    }
    assert(ended == r->ended_places);
    assert(decoding == r->decoding && decoding == r->decodes.decodes);
    assert(r->finish.n == r->decoding && r->running.n <= r->max_seqs);
    if (r->pool.caches)
        assert(prefix_check(&r->pool.prefix));
}
