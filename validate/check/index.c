/* index - the indexer of sparse attention: scores of a decode step and of a prompt, once for
 * every class of rows. The bytes of keys that it reads and the FLOPs of its products are the
 * planner's, and what the kernel issues is its own formula. */
#include "kernels/index.h"

#include "validate/count.h"

enum { PAGE_TOKENS = 16, PROMPT_MAX = 64 };

struct index_case {
    const struct check_in *in;
    const struct read_class *c;
    struct findings *out;
    struct rng rng;
    bool prefill;
    uint32_t length, rows; /* rows of the cache, queries of a sequence */
    struct paged store;
    struct index_args args;
    uint32_t *position; /* host copy */
};

static struct finding like(const struct index_case *x, const char *what, enum quantity quantity)
{
    const char *of =
        x->prefill ? arena_printf(x->out->arena, "prompt of %u", x->length) : "step";

    return (struct finding){.spec = x->in->subject->name,
                            .check = "index",
                            .what = count_name(x->out->arena,
                                               arena_printf(x->out->arena, "%s, %s", what, of),
                                               &x->c->reader, &x->c->source, x->c->count),
                            .level = LEVEL_COUNT,
                            .quantity = quantity};
}

/* A step's query sees the rows stored and its own, those of a prompt what is before them. */
static enum device_status queries(struct index_case *x)
{
    struct arena *a = x->out->arena;
    uint32_t n = COUNT_SEQUENCES * x->rows;
    uint32_t *sequence = ARENA_NEW(a, uint32_t, n);
    enum device_status s;

    x->position = ARENA_NEW(a, uint32_t, n);
    for (uint32_t i = 0; i < n; i++) {
        sequence[i] = i / x->rows;
        x->position[i] = x->length - x->rows + i % x->rows;
    }
    s = paged_put(x->in->device, TAG_TABLES, sequence, n * sizeof *sequence, &x->args.sequence);
    if (s == DEVICE_OK)
        s = paged_put(x->in->device, TAG_TABLES, x->position, n * sizeof *x->position,
                      &x->args.position);
    return s;
}

static enum device_status prepare(struct index_case *x)
{
    struct device *d = x->in->device;
    struct arena *a = x->out->arena;
    const struct cache_row *r = &x->c->reader;
    uint64_t heads = (uint64_t)COUNT_SEQUENCES * x->rows * r->q_heads;
    struct paged_in in = {.row = &x->c->source,
                          .sequences = COUNT_SEQUENCES,
                          .room = x->length,
                          .page_tokens = PAGE_TOKENS};
    enum device_status s = paged_open(d, a, &in, &x->rng, &x->store);
    void *scores = NULL;

    x->args = (struct index_args){.c = x->store.view,
                                  .rows = COUNT_SEQUENCES * x->rows,
                                  .width = x->length,
                                  .heads = r->q_heads,
                                  .scale = 1};
    if (s == DEVICE_OK)
        s = queries(x);
    if (s == DEVICE_OK)
        s = paged_random(d, a, &x->rng, heads * r->score_dim, &x->args.q);
    if (s == DEVICE_OK)
        s = paged_random(d, a, &x->rng, heads, &x->args.weights);
    if (s == DEVICE_OK)
        s = device_alloc(d, 4 * (uint64_t)x->args.rows * x->length, TAG_WORK, &scores);
    x->args.scores = scores;
    return s;
}

/* The planner's figures of one row of the class and one sequence. */
static void predict(const struct index_case *x, uint64_t *bytes, uint64_t *flop)
{
    struct op_tally t = {{0}, {0}};

    count_row(x->in->subject, x->c, x->prefill ? x->length : 0, &t);
    *bytes = (uint64_t)t.bytes[x->prefill ? OP_SCORES : OP_INDEXER];
    *flop = (uint64_t)t.flop[OP_INDEXER];
}

static void compare(const struct index_case *x, const struct tally *got)
{
    struct traffic formula = {.exps = 0};
    uint64_t bytes, flop;

    predict(x, &bytes, &flop);
    index_traffic(&x->args, x->position, &formula);
    (void)finding_equal(x->out, like(x, "bytes read", QUANTITY_BYTES), COUNT_SEQUENCES * bytes,
                        count_kv(got->unique_read_bytes));
    (void)finding_equal(x->out, like(x, "products", QUANTITY_FLOP), COUNT_SEQUENCES * flop,
                        got->issued.useful_flop);
    count_issued(x->out, like(x, "issued", QUANTITY_BYTES), &formula, &got->issued);
}

static enum device_status run_class(struct index_case *x)
{
    const struct subject *of = x->in->subject;
    const char *bad = paged_refuses(&x->c->source);
    uint64_t n = x->prefill ? u64_max(u64_min(of->prompt, PROMPT_MAX), 1)
                            : row_stored_tokens(&x->c->source, of->prompt, of->decoded) + 1;
    struct device *d = x->in->device;
    struct tally got;
    enum device_status s;

    if (!bad && n > COUNT_TOKENS_MAX)
        bad = "more tokens than are tried on the CPU";
    if (bad) {
        finding_waive(x->out, like(x, "scores", QUANTITY_BYTES), "%s", bad);
        return DEVICE_OK;
    }
    x->length = (uint32_t)n;
    x->rows = x->prefill ? x->length : 1;
    s = prepare(x);
    device_tally_reset(d);
    if (s == DEVICE_OK)
        s = index_run(d, &x->args);
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

    for (uint32_t i = 0; i < 2 * fold->n_reads && s == DEVICE_OK; i++) {
        struct index_case x = {.in = in,
                               .c = &fold->reads[i / 2],
                               .out = out,
                               .rng = {in->seed + i},
                               .prefill = i % 2};
        if (x.c->reader.stream == STREAM_INDEX)
            s = run_class(&x);
    }
    return s;
}

const struct check check_index = {
    .name = "index",
    .summary = "an indexer reads the keys and does the FLOPs predicted",
    .level = LEVEL_COUNT,
    .filter = count_filter,
    .run = run,
};
