/* step - a decode step of the whole decoder: prompts in, some tokens decoded, and then one step
 * counted op by op. Bytes of K and V, bytes of weights and FLOPs of products are the planner's;
 * the rows that retention leaves in every store are those it says. */
#include "validate/count.h"
#include "validate/decoder.h"

/* What is counted one load at a time has to be small. */
#define STEP_BYTES_MAX ((uint64_t)256 << 20)
#define STEP_FLOP_MAX 4e9

enum { PROMPT_MAX = 96, PROMPT_LEAST = 16, DECODED_MAX = 4 };

struct op_count {
    uint64_t kv_read, kv_written, state_read, state_written, weights_read, useful_flop;
};

struct step_case {
    const struct check_in *in;
    struct findings *out;
    struct decoder *decoder;
    struct decoder_setting set;
    uint64_t decoded;
    struct op_count ops[N_OPS];
    uint32_t layer;         /* of the op before */
    uint64_t weights_known; /* bytes of weights that were read in it before this op */
    enum device_status status;
};

static void take_setting(struct step_case *x)
{
    const struct subject *s = x->in->subject;

    x->decoded = u64_min(s->decoded, DECODED_MAX);
    x->set = (struct decoder_setting){
        .sequences = COUNT_SEQUENCES,
        .prompt = (uint32_t)u64_max(u64_min(s->prompt, PROMPT_MAX), 1),
        .output = (uint32_t)x->decoded + 1,
        .seed = x->in->seed,
    };
}

/* Called after each op: what it did since the last one. Of weights a byte counts once a layer:
 * both halves of MLA's up-projection, before and after attention, read scales that they share.
 */
static void watched(void *user, const struct decoder_event *e)
{
    struct step_case *x = user;
    struct op_count *c = &x->ops[e->op];
    struct tally t;

    if (x->status == DEVICE_OK)
        x->status = device_sync(x->in->device);
    if (x->status == DEVICE_OK)
        x->status = device_tally(x->in->device, &t);
    if (x->status != DEVICE_OK)
        return;
    c->kv_read += count_kv(t.unique_read_bytes);
    c->kv_written += count_kv(t.unique_written_bytes);
    c->state_read += t.unique_read_bytes[TAG_STATE];
    c->state_written += t.unique_written_bytes[TAG_STATE];
    c->weights_read += t.unique_read_bytes[TAG_WEIGHTS] - x->weights_known;
    c->useful_flop += t.issued.useful_flop;
    x->weights_known = e->layer == x->layer ? t.unique_read_bytes[TAG_WEIGHTS] : 0;
    device_tally_reset_but(x->in->device, e->layer == x->layer ? TAG_WEIGHTS : N_TAGS);
    x->layer = e->layer;
}

static struct finding like(const struct step_case *x, const char *what, enum quantity q)
{
    return (struct finding){.spec = x->in->subject->name,
                            .check = "step",
                            .what = what,
                            .level = LEVEL_COUNT,
                            .quantity = q};
}

/* What the stages of a rank do together. */
static void predict(const struct step_case *x, struct op_tally *t, struct ck *ck,
                    uint64_t *read, uint64_t *written, uint64_t weights[N_OPS])
{
    const struct problem *p = x->in->subject->problem;
    const struct fold *f = x->in->subject->fold;
    struct fold attention = *f;

    for (uint32_t i = 0; i < p->n_stages; i++) {
        struct fold none = {.slice = {1, 1, 0, 1}};
        work_decode(&p->stages[i].work, &none, x->set.prompt, x->decoded, x->set.sequences, t);
        for (int op = 0; op < N_OPS; op++)
            weights[op] = ck_add(ck, weights[op], p->stages[i].work.read_bytes[op]);
    }
    attention.state_bytes = 0;
    work_decode(&(struct work){.layers = 0}, &attention, x->set.prompt, x->decoded,
                x->set.sequences, t);
    *read = ck_mul(ck, x->set.sequences,
                   fold_decode_read_bytes(&attention, x->set.prompt, x->decoded, ck));
    *written = ck_mul(ck, x->set.sequences, fold_decode_write_bytes(&attention, ck));
}

/* Products with weights: FLOPs, and each byte of them read once. */
static void compare_products(const struct step_case *x, const struct op_tally *t,
                             const uint64_t weights[N_OPS])
{
    static const enum op ops[] = {OP_QKV, OP_INDEXER, OP_OUT, OP_STATE,
                                  OP_MLP, OP_EXPERTS, OP_HEAD};
    struct arena *a = x->out->arena;

    for (size_t i = 0; i < sizeof ops / sizeof *ops; i++) {
        enum op op = ops[i];
        const char *read = arena_printf(a, "weights read: %s", op_name(op));
        if (t->flop[op] <= 0)
            continue;
        (void)finding_equal(
            x->out, like(x, arena_printf(a, "products: %s", op_name(op)), QUANTITY_FLOP),
            (uint64_t)t->flop[op], x->ops[op].useful_flop);
        if (op == OP_EXPERTS)
            finding_waive(x->out, like(x, read, QUANTITY_BYTES),
                          "the planner has the mean over routings, this was one of them");
        else
            (void)finding_equal(x->out, like(x, read, QUANTITY_BYTES), weights[op],
                                x->ops[op].weights_read);
    }
    /* learned sinks are read by attention */
    (void)finding_equal(x->out, like(x, "weights read: norms", QUANTITY_BYTES),
                        weights[OP_OTHER],
                        x->ops[OP_ELEMENTWISE].weights_read + x->ops[OP_SCORES].weights_read);
    if (t->flop[OP_OTHER] > 0)
        (void)finding_equal(x->out, like(x, "products: other", QUANTITY_FLOP),
                            (uint64_t)t->flop[OP_OTHER], x->ops[OP_ELEMENTWISE].useful_flop);
}

static bool packs(const struct fold *f)
{
    for (uint32_t i = 0; i < f->n_stores; i++)
        if (f->stores[i].row.k_format.residual != RESIDUAL_NONE)
            return true;
    return false;
}

static void compare_rows(struct step_case *x)
{
    const struct subject *s = x->in->subject;

    for (uint32_t i = 0; i < s->layout->n_rows; i++) {
        const struct cache_row *r = &s->layout->rows[i];
        uint64_t due = row_stored_tokens(r, x->set.prompt, x->decoded + 1);
        uint64_t got = 0;
        if (!r->readers || r->stream == STREAM_STATE || !due)
            continue;
        got = decoder_stored_rows(x->decoder, i);
        (void)finding_equal(
            x->out,
            like(x, arena_printf(x->out->arena, "rows kept: layer %u", r->layer + 1),
                 QUANTITY_TOKENS),
            due, got);
    }
}

/* Heads that share a budget by the data round their shares, so that each may be off by half a
 * row: the share that this may be of what attention reads; 0 where counts are fixed. */
static double ragged_share(const struct step_case *x)
{
    const struct fold *f = x->in->subject->fold;
    uint64_t fewest = UINT64_MAX;

    for (uint32_t i = 0; i < f->n_reads; i++)
        if (f->reads[i].source.keep.ragged)
            fewest =
                u64_min(fewest, row_attended_tokens(&f->reads[i].reader, &f->reads[i].source,
                                                    x->set.prompt, x->decoded));
    return fewest && fewest < UINT64_MAX ? 0.5 / (double)fewest : 0;
}

static void compare_attention(struct step_case *x, uint64_t read, uint64_t flop)
{
    const struct op_count *got = &x->ops[OP_SCORES];
    struct finding bytes = like(x, "cache bytes read", QUANTITY_BYTES);
    struct finding products = like(x, "products: attention", QUANTITY_FLOP);
    double share = ragged_share(x);

    if (share > 0) {
        (void)finding_within(x->out, bytes, (double)read, (double)got->kv_read, share);
        (void)finding_within(x->out, products, (double)flop, (double)got->useful_flop, share);
        return;
    }
    (void)finding_equal(x->out, bytes, read, got->kv_read + x->ops[OP_INDEXER].kv_read);
    (void)finding_equal(x->out, products, flop, got->useful_flop);
}

static bool picks_pages(const struct layout *l)
{
    for (uint32_t i = 0; i < l->n_rows; i++)
        if (l->rows[i].select_page_tokens)
            return true;
    return false;
}

/* What Quest reads, writes and computes besides: the bounds of its pages. */
static void compare_scheme(struct step_case *x)
{
    const struct problem *p = x->in->subject->problem;
    const struct op_count *got = &x->ops[OP_SCHEME];
    struct phase ph = {x->set.prompt, x->decoded};
    uint64_t n = x->set.sequences;
    struct extra_cost e;

    scheme_costs(p->uses, p->n_uses, &p->layout, &ph, &e);
    if (!picks_pages(&p->layout) || p->parallel.tp > 1)
        return;
    (void)finding_equal(x->out, like(x, "scheme: bytes read", QUANTITY_BYTES),
                        n * e.decode_read_bytes, got->state_read);
    (void)finding_equal(x->out, like(x, "scheme: bytes written", QUANTITY_BYTES),
                        n * e.decode_write_bytes, got->state_written);
    (void)finding_equal(x->out, like(x, "scheme: products", QUANTITY_FLOP),
                        n * (uint64_t)e.decode_flop, got->useful_flop);
}

/* Every state is read and written whole. */
static void compare_states(const struct step_case *x)
{
    const struct op_count *got = &x->ops[OP_STATE];
    struct ck ck = {0};
    uint64_t due = ck_mul(&ck, x->set.sequences, x->in->subject->fold->state_bytes);

    if (!due)
        return;
    (void)finding_equal(x->out, like(x, "states read", QUANTITY_BYTES), due, got->state_read);
    (void)finding_equal(x->out, like(x, "states written", QUANTITY_BYTES), due,
                        got->state_written);
}

static void compare(struct step_case *x)
{
    const struct fold *f = x->in->subject->fold;
    uint64_t read, written, weights[N_OPS] = {0};
    struct op_tally t = {{0}, {0}};
    struct ck ck = {0};
    struct finding append = like(x, "cache bytes written", QUANTITY_BYTES);

    predict(x, &t, &ck, &read, &written, weights);
    if (f->n_reads)
        compare_attention(x, read, (uint64_t)(t.flop[OP_SCORES] + t.flop[OP_VALUES]));
    compare_states(x);
    if (f->n_stores && packs(f))
        finding_waive(x->out, append, "KIVI packs groups of tokens; `append` counts a turn");
    else if (f->n_stores)
        (void)finding_equal(x->out, append, written, x->ops[OP_OTHER].kv_written);
    compare_products(x, &t, weights);
    compare_scheme(x);
    compare_rows(x);
}

static double prompt_flop(const struct problem *p)
{
    double flop = 0;

    for (uint32_t i = 0; i < p->n_stages; i++)
        for (int op = 0; op < N_OPS; op++)
            flop += p->stages[i].work.prompt_flop[op];
    return flop;
}

/* Cuts the prompt to what the CPU build does in seconds; what cannot be cut is refused. */
static const char *refuses(struct step_case *x)
{
    const struct problem *p = x->in->subject->problem;
    double each = prompt_flop(p) * x->set.sequences;
    struct decoder_memory need;
    struct device_text why;

    while (each * x->set.prompt > STEP_FLOP_MAX && x->set.prompt > PROMPT_LEAST)
        x->set.prompt = (x->set.prompt + 1) / 2;
    if (!decoder_need(p, &x->set, &need, &why))
        return arena_strdup(x->out->arena, why.text);
    if (need.total_bytes > STEP_BYTES_MAX || each * x->set.prompt > STEP_FLOP_MAX)
        return "too large for the CPU build as a whole; its kernels were counted one by one";
    return NULL;
}

static enum device_status run(const struct check_in *in, struct findings *out)
{
    struct step_case x = {.in = in, .out = out};
    const char *bad;
    enum device_status s;

    take_setting(&x);
    bad = refuses(&x);
    if (bad) {
        finding_waive(out, like(&x, "a decode step", QUANTITY_BYTES), "%s", bad);
        return DEVICE_OK;
    }
    s = decoder_open(in->device, in->subject->problem, &x.set, &x.decoder);
    if (s == DEVICE_OK)
        s = decoder_prefill(x.decoder);
    if (s == DEVICE_OK && x.decoded)
        s = decoder_decode(x.decoder, (uint32_t)x.decoded);
    device_tally_reset(in->device);
    if (s == DEVICE_OK) {
        decoder_watch(x.decoder, watched, &x);
        s = decoder_decode(x.decoder, 1);
    }
    if (s == DEVICE_OK)
        s = x.status;
    if (s == DEVICE_OK)
        compare(&x);
    decoder_close(x.decoder);
    return s;
}

const struct check check_step = {
    .name = "step",
    .summary = "a decode step of the whole decoder moves and computes what is predicted",
    .level = LEVEL_COUNT,
    .whole = true,
    .filter = count_filter,
    .run = run,
};
