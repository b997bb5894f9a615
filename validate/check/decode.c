/* decode - attention of a decode step, once for every class of rows that read a cache alike:
 * the K and V bytes it reads and the FLOPs of its products are the planner's, and what the
 * kernel issues is its own formula. The source is another layer's cache where the sharing map
 * says so; it holds what retention has left of the prompt. */
#include "kernels/latent.h"

#include <math.h>

#include "validate/count.h"

enum { PAGE_TOKENS = 16, SPLIT_TOKENS = 128, SPLITS = 2 };

/* Rows of heads that are run of one spec; beyond it classes are waived. */
enum { ROWS_MAX = 1 << 19 };

struct decode_case {
    const struct check_in *in;
    const struct read_class *c;
    struct findings *out;
    struct rng rng;
    struct paged store;
    struct latent_args args; /* of K and V: what it has in common with latents */
    uint64_t stored, length; /* rows before the step; what the kernel gets */
    uint64_t *rows;          /* of heads, run so far */
};

/* What queries may see, from the mixer and not from the planner's count of it. */
static uint64_t window_of(const struct decode_case *x)
{
    const struct cache_row *r = &x->c->reader;
    uint64_t at = x->in->subject->prompt + x->in->subject->decoded;

    if (r->mixer == MIXER_CHUNKED && r->window_tokens)
        return at % r->window_tokens + 1;
    return r->window_tokens;
}

/* Places that are free in the newest of the pages that a reader selects. */
static uint64_t unused(const struct cache_row *r, uint64_t length)
{
    uint64_t page = r->select_page_tokens ? r->select_page_tokens : 1;

    return length % page ? page - length % page : 0;
}

/* The new token's row is in its own layer's cache, but not yet in that of a layer above. A
 * selection of pages is a table of those pages alone. */
static void lengths(struct decode_case *x)
{
    const struct cache_row *r = &x->c->reader;
    const struct subject *s = x->in->subject;

    x->stored = row_stored_tokens(&x->c->source, s->prompt, s->decoded);
    x->length = x->stored + (r->diagonal_masked ? 0 : 1);
    if (r->select_tokens && r->stream == STREAM_KV && x->length > r->select_tokens)
        x->length = r->select_tokens - unused(r, x->length);
}

static struct finding like(const struct decode_case *x, const char *what,
                           enum quantity quantity)
{
    return (struct finding){
        .spec = x->in->subject->name,
        .check = "decode",
        .what = count_name(x->out->arena, what, &x->c->reader, &x->c->source, x->c->count),
        .level = LEVEL_COUNT,
        .quantity = quantity};
}

static const char *refuses(const struct decode_case *x)
{
    const struct cache_row *source = &x->c->source;
    const char *bad = paged_refuses(source);
    bool full = source->k_format.residual != RESIDUAL_NONE;

    if (!bad && x->length > COUNT_TOKENS_MAX)
        bad = "more tokens than are tried on the CPU";
    if (!bad && *x->rows && *x->rows + x->length * source->stored_heads > ROWS_MAX)
        bad = "enough was run of this spec; the other classes differ in what they keep";
    if (!bad && x->c->reader.window_tokens && source->keep.ragged)
        bad = "heads that keep different numbers of rows of a sliding window are not run";
    if (!bad && x->c->reader.window_tokens && x->c->reader.select_page_tokens)
        bad = "pages of a sliding window are not picked";
    if (!bad && full && x->length > window_of(x) && window_of(x))
        bad = "no kernel keeps a window of KIVI";
    return bad;
}

/* Rows of latents that an indexer may have chosen, for every sequence the same. */
static enum device_status choose(struct decode_case *x)
{
    const struct cache_row *r = &x->c->reader;
    uint32_t n = (uint32_t)r->select_tokens;
    uint32_t *rows;

    if (r->stream != STREAM_LATENT || !n || n >= x->length)
        return DEVICE_OK;
    rows = ARENA_NEW(x->out->arena, uint32_t, (size_t)COUNT_SEQUENCES * n);
    for (uint32_t i = 0; i < COUNT_SEQUENCES * n; i++)
        rows[i] = (uint32_t)(i % n * x->length / n);
    x->args.chosen_tokens = x->args.chosen_stride = n;
    return paged_put(x->in->device, TAG_TABLES, rows, 4 * (uint64_t)COUNT_SEQUENCES * n,
                     &x->args.chosen);
}

static enum device_status prepare(struct decode_case *x)
{
    struct device *d = x->in->device;
    struct arena *a = x->out->arena;
    const struct cache_row *r = &x->c->reader;
    struct paged_in in = {.row = &x->c->source,
                          .sequences = COUNT_SEQUENCES,
                          .room = (uint32_t)x->length + PAGE_TOKENS,
                          .page_tokens = PAGE_TOKENS};
    uint64_t rows = (uint64_t)COUNT_SEQUENCES * r->q_heads;
    uint32_t q_dim = r->stream == STREAM_LATENT ? r->value_dim : x->c->source.k_dim;
    struct decode_args *of = &x->args.of;
    enum device_status s = paged_open(d, a, &in, &x->rng, &x->store);
    void *p = NULL;

    if (s == DEVICE_OK)
        s = paged_lengths(d, &x->store, (uint32_t)x->length, &x->rng);
    if (s != DEVICE_OK)
        return s;
    *of = (struct decode_args){.c = x->store.view,
                               .q_heads = r->q_heads,
                               .splits = x->length > SPLIT_TOKENS ? SPLITS : 1,
                               .window_tokens = (uint32_t)window_of(x),
                               .scale = 1.0f / sqrtf((float)r->score_dim)};
    if (r->stream == STREAM_LATENT)
        of->c.v.dim = r->value_dim;
    x->args.rope_stride = x->c->source.rope_dim;
    s = choose(x);
    if (s == DEVICE_OK)
        s = paged_random(d, a, &x->rng, rows * q_dim, &of->q);
    if (s == DEVICE_OK && x->args.rope_stride)
        s = paged_random(d, a, &x->rng, rows * x->args.rope_stride, &x->args.rope);
    if (s == DEVICE_OK)
        s = device_alloc(d, 2 * rows * of->c.v.dim, TAG_ACTIVATION, &of->out);
    if (s == DEVICE_OK && of->splits > 1)
        s = device_alloc(d, decode_work_bytes(of), TAG_WORK, &p);
    of->work = p;
    return s;
}

/* The planner's figures of one row of the class and one sequence. */
static void predict(const struct decode_case *x, uint64_t *bytes, uint64_t *flop)
{
    const struct subject *s = x->in->subject;
    struct read_class c = *x->c;
    struct fold one = {.slice = {1, 1, 0, 1}, .reads = &c, .n_reads = 1};
    struct op_tally t = {{0}, {0}};
    struct ck ck = {0};

    c.count = 1;
    *bytes = fold_decode_read_bytes(&one, s->prompt, s->decoded, &ck);
    count_row(s, &c, 0, &t);
    *flop = (uint64_t)(t.flop[OP_SCORES] + t.flop[OP_VALUES]);
}

static void compare(const struct decode_case *x, const struct tally *got)
{
    struct traffic formula = {.exps = 0};
    uint64_t bytes, flop;

    predict(x, &bytes, &flop);
    if (x->c->source.stream == STREAM_LATENT)
        latent_traffic(&x->args, x->store.lengths, &formula);
    else
        decode_traffic(&x->args.of, x->store.lengths, &formula);
    (void)finding_equal(x->out, like(x, "bytes read", QUANTITY_BYTES), COUNT_SEQUENCES * bytes,
                        count_kv(got->unique_read_bytes));
    (void)finding_equal(x->out, like(x, "products", QUANTITY_FLOP), COUNT_SEQUENCES * flop,
                        got->issued.useful_flop);
    count_issued(x->out, like(x, "issued", QUANTITY_BYTES), &formula, &got->issued);
}

static enum device_status run_class(struct decode_case *x)
{
    struct device *d = x->in->device;
    struct tally got;
    const char *bad;
    enum device_status s;

    lengths(x);
    bad = refuses(x);
    if (bad) {
        finding_waive(x->out, like(x, "attention", QUANTITY_BYTES), "%s", bad);
        return DEVICE_OK;
    }
    *x->rows += x->length * x->c->source.stored_heads;
    s = prepare(x);
    device_tally_reset(d);
    if (s == DEVICE_OK)
        s = x->c->source.stream == STREAM_LATENT ? latent_run(d, &x->args)
                                                 : decode_run(d, &x->args.of);
    s = count_settle(d, s, &got);
    if (s == DEVICE_OK)
        compare(x, &got);
    device_free_all(d);
    return s;
}

static enum device_status run(const struct check_in *in, struct findings *out)
{
    const struct fold *fold = in->subject->fold;
    enum device_status s = DEVICE_OK;
    uint64_t rows = 0;

    for (uint32_t i = 0; i < fold->n_reads && s == DEVICE_OK; i++) {
        struct decode_case x = {
            .in = in, .c = &fold->reads[i], .out = out, .rows = &rows, .rng = {in->seed + i}};
        if (x.c->reader.stream != STREAM_INDEX) /* `index` has those */
            s = run_class(&x);
    }
    return s;
}

const struct check check_decode = {
    .name = "decode",
    .summary = "attention of a decode step reads the bytes and does the FLOPs predicted",
    .level = LEVEL_COUNT,
    .filter = count_filter,
    .run = run,
};
