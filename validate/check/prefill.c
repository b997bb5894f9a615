/* prefill - attention of a whole prompt, once for every class of rows that read a cache alike:
 * the FLOPs of its causal products and the K and V bytes it reads are the planner's, and what
 * the kernel issues is its own formula. What a prompt keeps afterwards does not matter here:
 * its queries see all of it, or their window. */
#include "kernels/latent_rows.h"
#include "kernels/prefill.h"

#include <math.h>

#include "validate/count.h"

enum { PAGE_TOKENS = 16, PROMPT_MAX = 192 };

struct prefill_case {
    const struct check_in *in;
    const struct read_class *c;
    struct findings *out;
    struct rng rng;
    struct paged store;
    struct prefill_args args;
    struct latent_unpack_args unpack; /* of the first sequence; latents alone */
    uint32_t tokens;
    uint32_t *first, *offset; /* host copies */
};

static struct finding like(const struct prefill_case *x, const char *what,
                           enum quantity quantity)
{
    const char *sized = arena_printf(x->out->arena, "%s of %u tokens", what, x->tokens);

    return (struct finding){
        .spec = x->in->subject->name,
        .check = "prefill",
        .what = count_name(x->out->arena, sized, &x->c->reader, &x->c->source, x->c->count),
        .level = LEVEL_COUNT,
        .quantity = quantity};
}

static const char *refuses(const struct prefill_case *x)
{
    const struct cache_row *r = &x->c->reader, *source = &x->c->source;
    const char *bad = paged_refuses(source);

    if (!bad && source->k_format.residual != RESIDUAL_NONE)
        bad = "a prompt attends before KIVI packs it";
    if (!bad && source->stream == STREAM_KV &&
        (r->prefill_score_dim != source->k_dim || r->prefill_value_dim != source->v_dim))
        bad = "no kernel attends over other widths than are stored";
    return bad;
}

static enum device_status tables(struct prefill_case *x)
{
    struct device *d = x->in->device;
    struct arena *a = x->out->arena;
    enum device_status s;

    x->first = ARENA_NEW(a, uint32_t, COUNT_SEQUENCES + 1);
    x->offset = ARENA_NEW(a, uint32_t, x->store.lists);
    for (uint32_t i = 0; i <= COUNT_SEQUENCES; i++)
        x->first[i] = i * x->tokens;
    s = paged_put(d, TAG_TABLES, x->first, (COUNT_SEQUENCES + 1) * sizeof *x->first,
                  &x->args.first);
    if (s == DEVICE_OK)
        s = paged_put(d, TAG_TABLES, x->offset, x->store.lists * sizeof *x->offset,
                      &x->args.offset);
    return s;
}

static bool is_latent(const struct prefill_case *x)
{
    return x->c->source.stream == STREAM_LATENT;
}

/* Keys and values as products make them of latents: for every head, a page a sequence. */
static enum device_status expanded(struct prefill_case *x)
{
    struct device *d = x->in->device;
    const struct cache_row *r = &x->c->reader;
    uint32_t pages[COUNT_SEQUENCES];
    uint64_t rows = (uint64_t)COUNT_SEQUENCES * x->tokens;
    bool fp16 = x->store.view.k.store == STORE_FP16;
    struct cache_view c = {.sequences = COUNT_SEQUENCES,
                           .heads = r->q_heads,
                           .page_tokens = x->tokens,
                           .max_pages = 1,
                           .lengths = x->store.view.lengths};
    enum device_status s;

    c.k = c.v = (struct cache_side){.store = fp16 ? STORE_FP16 : STORE_BF16};
    c.k.dim = r->prefill_score_dim;
    c.v.dim = r->prefill_value_dim;
    for (uint32_t i = 0; i < COUNT_SEQUENCES; i++)
        pages[i] = i;
    x->unpack = (struct latent_unpack_args){
        .c = x->store.view, .rows = x->tokens, .heads = r->q_heads, .stride = c.k.dim};
    x->unpack.rows -= r->diagonal_masked; /* nobody sees the last one */
    x->unpack.c.sequences = 1;
    s = paged_put(d, TAG_TABLES, pages, sizeof pages, &c.table);
    if (s == DEVICE_OK)
        s = paged_random(d, x->out->arena, &x->rng, rows * r->q_heads * c.k.dim, &c.k.codes);
    if (s == DEVICE_OK)
        s = paged_random(d, x->out->arena, &x->rng, rows * r->q_heads * c.v.dim, &c.v.codes);
    if (s == DEVICE_OK)
        s = device_alloc(d, 2 * (uint64_t)x->tokens * r->value_dim, TAG_ACTIVATION,
                         &x->unpack.latent);
    x->unpack.keys = c.k.codes;
    x->args.c = c;
    return s;
}

/* Of what they reach, queries see the first rows as though they had been chosen. */
static enum device_status choose(struct prefill_case *x)
{
    const struct cache_row *r = &x->c->reader;
    uint32_t n = (uint32_t)r->select_tokens, words = (x->tokens + 31) / 32;
    uint32_t *bits = ARENA_NEW(x->out->arena, uint32_t, words);
    struct device *d = x->in->device;
    void *p = NULL;
    enum device_status s;

    if (!is_latent(x) || !n || n >= x->tokens)
        return DEVICE_OK;
    for (uint32_t i = 0; i < n; i++)
        bits[i / 32] |= 1u << i % 32;
    s = device_alloc(d, 4 * (uint64_t)COUNT_SEQUENCES * x->tokens * words, TAG_WORK, &p);
    for (uint32_t i = 0; i < COUNT_SEQUENCES * x->tokens && s == DEVICE_OK; i++)
        s = device_upload(d, (uint32_t *)p + (size_t)i * words, bits, 4 * (uint64_t)words);
    x->args.chosen = p;
    x->args.chosen_words = words;
    x->args.chosen_tokens = n;
    return s;
}

static enum device_status prepare(struct prefill_case *x)
{
    struct device *d = x->in->device;
    struct arena *a = x->out->arena;
    const struct cache_row *r = &x->c->reader;
    struct cache_row whole = x->c->source;
    struct paged_in in = {.row = &whole,
                          .sequences = COUNT_SEQUENCES,
                          .room = x->tokens,
                          .page_tokens = PAGE_TOKENS};
    uint64_t rows = (uint64_t)COUNT_SEQUENCES * x->tokens * r->q_heads;
    bool chunks = r->mixer == MIXER_CHUNKED;
    enum device_status s;

    whole.keep.ragged = false; /* heads keep different rows only afterwards */
    s = paged_open(d, a, &in, &x->rng, &x->store);
    if (s == DEVICE_OK)
        s = paged_lengths(d, &x->store, x->tokens, &x->rng);
    if (s != DEVICE_OK)
        return s;
    x->args = (struct prefill_args){.c = x->store.view,
                                    .q_heads = r->q_heads,
                                    .longest = x->tokens,
                                    .hidden_tokens = r->diagonal_masked,
                                    .window_tokens = chunks ? 0 : (uint32_t)r->window_tokens,
                                    .chunk_tokens = chunks ? (uint32_t)r->window_tokens : 0,
                                    .scale = 1.0f / sqrtf((float)r->prefill_score_dim)};
    s = tables(x);
    if (s == DEVICE_OK && is_latent(x))
        s = expanded(x);
    if (s == DEVICE_OK)
        s = choose(x);
    if (s == DEVICE_OK)
        s = paged_random(d, a, &x->rng, rows * x->args.c.k.dim, &x->args.q);
    if (s == DEVICE_OK)
        s = device_alloc(d, 2 * rows * x->args.c.v.dim, TAG_ACTIVATION, &x->args.out);
    return s;
}

/* The planner's figures of one row of the class and one prompt; whole numbers well below 2^53,
 * so that its doubles are exact. */
static void predict(const struct prefill_case *x, uint64_t *bytes, uint64_t *flop)
{
    struct op_tally t = {{0}, {0}};

    count_row(x->in->subject, x->c, x->tokens, &t);
    *bytes = (uint64_t)t.bytes[OP_SCORES];
    *flop = (uint64_t)(t.flop[OP_SCORES] + t.flop[OP_VALUES]);
}

/* Latents are read back from the cache, one sequence after the other. */
static enum device_status launch(struct prefill_case *x)
{
    struct latent_unpack_args u = x->unpack;
    enum device_status s = DEVICE_OK;

    for (uint32_t i = 0; is_latent(x) && i < COUNT_SEQUENCES && s == DEVICE_OK; i++) {
        s = latent_unpack_run(x->in->device, &u);
        u.c.table += u.c.max_pages;
    }
    return s == DEVICE_OK ? prefill_run(x->in->device, &x->args) : s;
}

/* What is expanded is no cache: its bytes are activations. */
static void formula_of(const struct prefill_case *x, struct traffic *t)
{
    prefill_traffic(&x->args, x->first, x->offset, x->store.lengths, t);
    if (!is_latent(x))
        return;
    t->read_bytes[TAG_ACTIVATION] += t->read_bytes[TAG_K] + t->read_bytes[TAG_V];
    t->read_bytes[TAG_K] = t->read_bytes[TAG_V] = 0;
    for (uint32_t i = 0; i < COUNT_SEQUENCES; i++)
        latent_unpack_traffic(&x->unpack, t);
}

static void compare_bytes(const struct prefill_case *x, uint64_t bytes, const struct tally *got)
{
    (void)finding_equal(x->out, like(x, "bytes read", QUANTITY_BYTES), COUNT_SEQUENCES * bytes,
                        count_kv(got->unique_read_bytes));
}

static void compare(const struct prefill_case *x, const struct tally *got)
{
    struct traffic formula = {.exps = 0};
    uint64_t bytes, flop;

    predict(x, &bytes, &flop);
    formula_of(x, &formula);
    (void)finding_equal(x->out, like(x, "products", QUANTITY_FLOP), COUNT_SEQUENCES * flop,
                        got->issued.useful_flop);
    compare_bytes(x, bytes, got);
    count_issued(x->out, like(x, "issued", QUANTITY_BYTES), &formula, &got->issued);
}

static enum device_status run_class(struct prefill_case *x)
{
    struct device *d = x->in->device;
    uint64_t prompt = u64_min(x->in->subject->prompt, PROMPT_MAX);
    struct tally got;
    const char *bad;
    enum device_status s;

    x->tokens = (uint32_t)u64_max(prompt, 1);
    bad = refuses(x);
    if (bad) {
        finding_waive(x->out, like(x, "attention", QUANTITY_FLOP), "%s", bad);
        return DEVICE_OK;
    }
    s = prepare(x);
    device_tally_reset(d);
    if (s == DEVICE_OK)
        s = launch(x);
    s = count_settle(d, s, &got);
    if (s == DEVICE_OK)
        compare(x, &got);
    device_free_all(d);
    return s;
}

static bool alike(const struct read_class *a, const struct read_class *b)
{
    const struct cache_row *x = &a->reader, *y = &b->reader;

    return count_alike(&a->source, &b->source) && x->q_heads == y->q_heads &&
           x->mixer == y->mixer && x->window_tokens == y->window_tokens &&
           x->diagonal_masked == y->diagonal_masked && x->select_tokens == y->select_tokens &&
           x->prefill_score_dim == y->prefill_score_dim &&
           x->prefill_value_dim == y->prefill_value_dim;
}

/* Classes that differ in what is kept afterwards alone are one case. */
static enum device_status run(const struct check_in *in, struct findings *out)
{
    const struct fold *fold = in->subject->fold;
    struct read_class *cases = ARENA_NEW(out->arena, struct read_class, fold->n_reads + 1);
    enum device_status s = DEVICE_OK;
    uint32_t n = 0;

    for (uint32_t i = 0; i < fold->n_reads; i++) {
        uint32_t at = 0;
        if (fold->reads[i].reader.stream == STREAM_INDEX) /* `index` has those */
            continue;
        while (at < n && !alike(&cases[at], &fold->reads[i]))
            at++;
        if (at < n)
            cases[at].count += fold->reads[i].count;
        else
            cases[n++] = fold->reads[i];
    }
    for (uint32_t i = 0; i < n && s == DEVICE_OK; i++) {
        struct prefill_case x = {.in = in, .c = &cases[i], .out = out, .rng = {in->seed + i}};
        s = run_class(&x);
    }
    return s;
}

const struct check check_prefill = {
    .name = "prefill",
    .summary = "attention of a prompt does the FLOPs and reads the bytes predicted",
    .level = LEVEL_COUNT,
    .filter = count_filter,
    .run = run,
};
