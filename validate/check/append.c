/* append - a decode step's new rows: what the kernels write to the cache of every class of
 * stores is the planner's figure, scales included, and what they issue is their own formula.
 * KIVI writes a token in full precision first and packs it later, K a whole group of tokens at
 * a time, so that it is counted over one turn of its residual. */
#include "kernels/append.h"
#include "kernels/latent_rows.h"

#include "validate/count.h"

enum { PAGE_TOKENS = 16 };

struct append_case {
    const struct check_in *in;
    const struct store_class *c;
    struct findings *out;
    struct rng rng;
    struct paged store;
    struct append_args args;
    uint32_t *sequence, *index; /* host copies */
    uint32_t steps, stored;     /* steps that are counted; rows before the first */
    struct traffic formula;
};

static struct finding like(const struct append_case *x, const char *what)
{
    return (struct finding){.spec = x->in->subject->name,
                            .check = "append",
                            .what =
                                count_name(x->out->arena, what, NULL, &x->c->row, x->c->count),
                            .level = LEVEL_COUNT,
                            .quantity = QUANTITY_BYTES};
}

static const char *refuses(struct append_case *x)
{
    const struct subject *s = x->in->subject;
    const struct format *k = &x->c->row.k_format;
    uint64_t stored = row_stored_tokens(&x->c->row, s->prompt, s->decoded);
    const char *bad = paged_refuses(&x->c->row);

    x->steps = 1;
    if (!bad && k->residual != RESIDUAL_NONE) {
        x->steps = k->residual_tokens;
        stored = 2 * (uint64_t)k->residual_tokens; /* so that V leaves the tail in every step */
    }
    if (!bad && stored > COUNT_TOKENS_MAX)
        bad = "more tokens than are tried on the CPU";
    x->stored = (uint32_t)stored;
    return bad;
}

static enum device_status prepare(struct append_case *x)
{
    struct device *d = x->in->device;
    struct arena *a = x->out->arena;
    const struct cache_row *r = &x->c->row;
    struct paged_in in = {.row = r,
                          .sequences = COUNT_SEQUENCES,
                          .room = x->stored + x->steps + PAGE_TOKENS,
                          .page_tokens = PAGE_TOKENS};
    uint64_t width = (uint64_t)COUNT_SEQUENCES * r->stored_heads;
    uint32_t v_dim = r->stream == STREAM_LATENT ? r->rope_dim : r->v_dim;
    uint32_t k_dim = r->stream == STREAM_LATENT ? r->k_dim - r->rope_dim : r->k_dim;
    enum device_status s = paged_open(d, a, &in, &x->rng, &x->store);
    uint32_t places;

    if (s == DEVICE_OK)
        s = paged_lengths(d, &x->store, x->stored, &x->rng);
    if (s != DEVICE_OK)
        return s;
    places = x->store.lists;
    x->args = (struct append_args){.c = x->store.view, .rows = COUNT_SEQUENCES};
    x->sequence = ARENA_NEW(a, uint32_t, COUNT_SEQUENCES);
    x->index = ARENA_NEW(a, uint32_t, places);
    for (uint32_t i = 0; i < COUNT_SEQUENCES; i++)
        x->sequence[i] = i;
    s = paged_random(d, a, &x->rng, width * k_dim, &x->args.k);
    if (s == DEVICE_OK && v_dim)
        s = paged_random(d, a, &x->rng, width * v_dim, &x->args.v);
    if (s == DEVICE_OK)
        s = paged_put(d, TAG_TABLES, x->sequence, COUNT_SEQUENCES * sizeof *x->sequence,
                      &x->args.sequence);
    if (s == DEVICE_OK)
        s = paged_put(d, TAG_TABLES, x->index, places * sizeof *x->index, &x->args.index);
    return s;
}

static enum device_status pack(struct append_case *x, bool value, uint32_t first,
                               uint32_t count)
{
    struct pack_args p = {.c = x->store.view, .value = value, .first = first, .count = count};
    enum device_status s = pack_run(x->in->device, &p);

    pack_traffic(&p, &x->formula);
    return s;
}

/* The rows of K and V, or latents: a latent and its rope part are what append_args has as two
 * sides. Keys of an indexer are latents without one. */
static enum device_status store_rows(struct append_case *x)
{
    const struct append_args *a = &x->args;
    struct latent_append_args l = {.c = a->c,
                                   .latent = a->k,
                                   .position = a->v,
                                   .rows = a->rows,
                                   .sequence = a->sequence,
                                   .index = a->index};
    bool latent = x->c->row.stream != STREAM_KV;

    if (latent)
        latent_append_traffic(&l, &x->formula);
    else
        append_traffic(a, x->sequence, x->index, x->store.lengths, &x->formula);
    return latent ? latent_append_run(x->in->device, &l) : append_run(x->in->device, a);
}

/* One token of every sequence, as append.h says for KIVI. */
static enum device_status step(struct append_case *x, uint32_t at)
{
    struct device *d = x->in->device;
    struct paged *p = &x->store;
    bool kivi = store_is_kivi(p->view.k.store);
    uint32_t residual = p->view.residual;
    enum device_status s = kivi ? pack(x, true, at - residual, 1) : DEVICE_OK;

    for (uint32_t i = 0; i < p->lists; i++)
        x->index[i] = p->lengths[i]++;
    if (s == DEVICE_OK)
        s = device_upload(d, (void *)(uintptr_t)x->args.index, x->index,
                          p->lists * sizeof *x->index);
    if (s == DEVICE_OK)
        s = device_upload(d, (void *)(uintptr_t)p->view.lengths, p->lengths,
                          p->lists * sizeof *p->lengths);
    if (s == DEVICE_OK)
        s = store_rows(x);
    if (s == DEVICE_OK && kivi && (at + 1) % residual == 0)
        s = pack(x, false, at + 1 - residual, residual);
    return s;
}

static void compare(struct append_case *x, const struct tally *got)
{
    struct store_class c = {x->c->row, 1};
    struct fold one = {.slice = {1, 1, 0, 1}, .stores = &c, .n_stores = 1};
    struct ck ck = {0};
    uint64_t bytes = fold_decode_write_bytes(&one, &ck);

    (void)finding_equal(x->out, like(x, "bytes written"),
                        ck_prod(&ck, COUNT_SEQUENCES, x->steps, bytes),
                        count_kv(got->unique_written_bytes));
    count_issued(x->out, like(x, "issued"), &x->formula, &got->issued);
}

static enum device_status run_class(struct append_case *x)
{
    struct device *d = x->in->device;
    const char *bad = refuses(x);
    struct tally got;
    enum device_status s;

    if (bad) {
        finding_waive(x->out, like(x, "bytes written"), "%s", bad);
        return DEVICE_OK;
    }
    s = prepare(x);
    device_tally_reset(d);
    for (uint32_t i = 0; i < x->steps && s == DEVICE_OK; i++)
        s = step(x, x->stored + i);
    s = count_settle(d, s, &got);
    if (s == DEVICE_OK)
        compare(x, &got);
    device_free_all(d);
    return s;
}

/* Classes that differ in what they keep alone are one case. */
static enum device_status run(const struct check_in *in, struct findings *out)
{
    const struct fold *fold = in->subject->fold;
    struct store_class *cases = ARENA_NEW(out->arena, struct store_class, fold->n_stores + 1);
    enum device_status s = DEVICE_OK;
    uint32_t n = 0;

    for (uint32_t i = 0; i < fold->n_stores; i++) {
        uint32_t at = 0;
        while (at < n && !count_alike(&cases[at].row, &fold->stores[i].row))
            at++;
        if (at < n)
            cases[at].count += fold->stores[i].count;
        else
            cases[n++] = fold->stores[i];
    }
    for (uint32_t i = 0; i < n && s == DEVICE_OK; i++) {
        struct append_case x = {.in = in, .c = &cases[i], .out = out, .rng = {in->seed + i}};
        s = run_class(&x);
    }
    return s;
}

const struct check check_append = {
    .name = "append",
    .summary = "a decode step writes the cache bytes predicted",
    .level = LEVEL_COUNT,
    .filter = count_filter,
    .run = run,
};
