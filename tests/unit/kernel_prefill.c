/* kernel_prefill: prefill attention against double precision, for every way to share heads,
 * mask, store and cut a prompt; its error at most twice that of a plain kernel of the same
 * precision; and its traffic, counted while it runs, equal to the formula. */
#include "kernels/prefill.h"
#include "tests/kvstore.h"

struct setting {
    enum store k, v;
    uint32_t dim, v_dim; /* v_dim 0: as dim */
    uint32_t sequences, heads, q_heads;
    uint32_t rows, before; /* of the longest chunk; tokens before it */
    uint32_t page, group, residual;
    uint32_t hidden, window, sinks;
    bool lse, ragged, scaled;
    uint32_t chosen;  /* tokens of a selection; 0: none */
    bool varied;      /* other sequences: other chunks and offsets, down to 0 */
    bool unstored;    /* the chunk's own rows are not in the cache */
    uint32_t stretch; /* tokens that see each other (chunk_tokens) */
    float cap;
    bool slopes, learned; /* learned sinks */
    bool wgmma;           /* by the kernel of sm_90a */
};

struct fixture {
    struct ks s;
    struct prefill_args a;
    uint32_t *first, *offset;
    uint32_t *bits; /* of a selection, or NULL */
    uint16_t *q_bits;
    double *q, *want, *naive, *want_lse, *naive_lse; /* [rows][q_heads][dim] */
    double *slopes, *learned;                        /* [q_heads], or NULL */
    uint64_t rows;
};

static struct cache_side side(const struct setting *o, bool value)
{
    return (struct cache_side){.store = value ? o->v : o->k,
                               .dim = value && o->v_dim ? o->v_dim : o->dim,
                               .group = o->group,
                               .scale = 0.0625f};
}

/* Chunks, where they begin, and the rows stored. */
static void chunks(struct kk *k, const struct setting *o, struct fixture *f)
{
    struct ks *s = &f->s;
    uint64_t slots = ks_lengths(s), per = slots / o->sequences;

    f->first = ARENA_NEW(k->a, uint32_t, o->sequences + 1);
    f->offset = ARENA_NEW(k->a, uint32_t, slots);
    s->lengths = ARENA_NEW(k->a, uint32_t, slots);
    for (uint32_t i = 0; i < o->sequences; i++) {
        bool full = !o->varied || i == o->sequences - 1;
        uint32_t rows = full ? o->rows : (uint32_t)rng_below(&k->rng, o->rows + 1);
        rows = o->varied && i == 0 ? 0 : rows;
        f->first[i + 1] = f->first[i] + rows;
        for (uint64_t n = i * per; n < (i + 1) * per; n++) {
            bool other = o->varied ? !full : o->ragged && n % 2;
            f->offset[n] = other ? (uint32_t)rng_below(&k->rng, o->before + 1) : o->before;
            s->lengths[n] = f->offset[n] + (o->unstored ? 0 : rows);
        }
    }
    f->rows = f->first[o->sequences];
    f->a.first = kk_put(k, TAG_TABLES, f->first, (o->sequences + 1) * 4);
    f->a.offset = kk_put(k, TAG_TABLES, f->offset, slots * 4);
}

static uint64_t slot_of(const struct fixture *f, uint32_t sequence, uint32_t head)
{
    return f->s.c.ragged ? sequence * f->s.c.heads + head : sequence;
}

/* The rule, token by token. */
static bool reaches(const struct fixture *f, uint64_t slot, uint32_t i, uint32_t token)
{
    const struct prefill_args *a = &f->a;
    int64_t end = (int64_t)f->offset[slot] + i + 1 - a->hidden_tokens;

    if (a->chunk_tokens && token / a->chunk_tokens != (f->offset[slot] + i) / a->chunk_tokens)
        return false;
    return token < f->s.lengths[slot] && token < end &&
           (!a->window_tokens || token >= end - a->window_tokens || token < a->sink_tokens);
}

/* And is among those chosen for it; not ragged. */
static bool sees(const struct fixture *f, uint64_t slot, uint32_t i, uint32_t token)
{
    uint64_t row = f->bits ? f->first[slot] + (uint64_t)i : 0;

    return reaches(f, slot, i, token) &&
           (!f->bits || f->bits[row * f->a.chosen_words + token / 32] >> token % 32 & 1);
}

struct query {
    uint32_t sequence, i, q_head;
    bool naive;
};

/* Attention as a formula; gives the logarithm of the sum. naive: elements and probabilities
 * rounded to 16 bits, sums in fp32, one token after the other. */
static double attend(const struct fixture *f, const struct query *x, double *out)
{
    const struct ks *s = &f->s;
    uint32_t head = x->q_head / (f->a.q_heads / s->c.heads), dv = s->c.v.dim;
    uint64_t slot = slot_of(f, x->sequence, head), at = f->first[x->sequence] + x->i;
    const double *q = f->q + (at * f->a.q_heads + x->q_head) * s->c.k.dim;
    double (*round16)(double) = s->c.k.store == STORE_FP16 ? ks_round_fp16 : ks_round_bf16;
    double most = -INFINITY, total = 0, score[1024], sum[CACHE_DIM_MAX] = {0};

    for (uint32_t t = 0; t < s->lengths[slot]; t++) {
        const double *key = ks_at(s, false, x->sequence, head, t);
        double dot = 0;
        for (uint32_t d = 0; d < s->c.k.dim; d++)
            dot = x->naive ? (float)(dot + q[d] * round16(key[d])) : dot + q[d] * key[d];
        dot *= (double)f->a.scale;
        dot = f->a.cap > 0 ? (double)f->a.cap * tanh(dot / (double)f->a.cap) : dot;
        dot += f->slopes ? f->slopes[x->q_head] * t : 0;
        score[t] = sees(f, slot, x->i, t) ? dot : -INFINITY;
        most = fmax(most, score[t]);
    }
    if (f->learned) {
        most = fmax(most, f->learned[x->q_head]);
        total = exp(f->learned[x->q_head] - most);
    }
    for (uint32_t t = 0; t < s->lengths[slot] && most > -INFINITY; t++) {
        const double *v = ks_at(s, true, x->sequence, head, t);
        double p = exp(score[t] - most);
        total = x->naive ? (float)(total + p) : total + p;
        p = x->naive ? round16(p) : p;
        for (uint32_t d = 0; d < dv; d++)
            sum[d] = x->naive ? (float)(sum[d] + p * round16(v[d])) : sum[d] + p * v[d];
    }
    for (uint32_t d = 0; d < dv; d++) {
        out[d] = total > 0 ? sum[d] / total : 0;
        out[d] = x->naive ? round16(out[d]) : out[d];
    }
    total = most + log(total);
    return x->naive ? (double)(float)total : total;
}

static void references(struct kk *k, struct fixture *f)
{
    uint32_t heads = f->a.q_heads, dv = f->s.c.v.dim;
    uint64_t n = f->rows * heads;

    f->want = ARENA_NEW(k->a, double, n *dv);
    f->naive = ARENA_NEW(k->a, double, n *dv);
    f->want_lse = ARENA_NEW(k->a, double, n);
    f->naive_lse = ARENA_NEW(k->a, double, n);
    for (uint32_t s = 0; s < f->s.c.sequences; s++)
        for (uint64_t r = (uint64_t)f->first[s] * heads; r < f->first[s + 1] * heads; r++) {
            struct query x = {s, (uint32_t)(r / heads) - f->first[s], (uint32_t)(r % heads),
                              false};
            f->want_lse[r] = attend(f, &x, f->want + r * dv);
            x.naive = true;
            f->naive_lse[r] = attend(f, &x, f->naive + r * dv);
        }
}

static void queries(struct kk *k, struct fixture *f)
{
    uint64_t n = f->rows * f->a.q_heads * f->s.c.k.dim;
    bool fp16 = f->s.c.k.store == STORE_FP16;

    f->q_bits = ARENA_NEW(k->a, uint16_t, n);
    f->q = ARENA_NEW(k->a, double, n);
    for (uint64_t i = 0; i < n; i++) {
        double x = kk_normal(k);
        f->q_bits[i] = fp16 ? ks_bits_fp16(x) : ks_bits_bf16(x);
        f->q[i] = fp16 ? ks_fp16(f->q_bits[i]) : ks_bf16(f->q_bits[i]);
    }
    f->a.q = kk_put(k, TAG_ACTIVATION, f->q_bits, 2 * n);
}

/* For each row as many tokens as asked for, of those it reaches. */
static void choose(struct kk *k, uint32_t n, struct fixture *f)
{
    uint32_t words = (f->s.tokens + 31) / 32 + 1;

    f->a.chosen_words = words;
    f->a.chosen_tokens = n;
    f->bits = ARENA_NEW(k->a, uint32_t, f->rows * words);
    for (uint32_t s = 0; s < f->s.c.sequences; s++)
        for (uint32_t i = 0; i < f->first[s + 1] - f->first[s]; i++) {
            uint32_t *bits = f->bits + (size_t)(f->first[s] + i) * words;
            uint32_t end = f->offset[s] + i + 1 - f->a.hidden_tokens;
            for (uint32_t j = 0; j < n && j < end;) {
                uint32_t at = (uint32_t)rng_below(&k->rng, end);
                j += !(bits[at / 32] >> at % 32 & 1);
                bits[at / 32] |= 1u << at % 32;
            }
        }
    f->a.chosen = kk_put(k, TAG_WORK, f->bits, f->rows * words * 4);
}

/* Slopes as those of ALiBi, a geometric sequence; sinks about as large as scores. */
static void extras(struct kk *k, const struct setting *o, struct fixture *f)
{
    float *slopes = ARENA_NEW(k->a, float, o->q_heads);
    uint16_t *bits = ARENA_NEW(k->a, uint16_t, o->q_heads);
    bool fp16 = o->k == STORE_FP16;

    f->slopes = o->slopes ? ARENA_NEW(k->a, double, o->q_heads) : NULL;
    f->learned = o->learned ? ARENA_NEW(k->a, double, o->q_heads) : NULL;
    for (uint32_t h = 0; h < o->q_heads; h++) {
        double sink = 2 * kk_normal(k);
        slopes[h] = (float)pow(2, -8.0 * (h + 1) / o->q_heads);
        bits[h] = fp16 ? ks_bits_fp16(sink) : ks_bits_bf16(sink);
        if (f->slopes)
            f->slopes[h] = (double)slopes[h];
        if (f->learned)
            f->learned[h] = fp16 ? ks_fp16(bits[h]) : ks_bf16(bits[h]);
    }
    if (o->slopes)
        f->a.slopes = kk_put(k, TAG_TABLES, slopes, 4 * o->q_heads);
    if (o->learned)
        f->a.sinks = kk_put(k, TAG_WEIGHTS, bits, 2 * o->q_heads);
}

static void build(struct kk *k, const struct setting *o, struct fixture *f)
{
    struct ks *s = &f->s;

    *f = (struct fixture){.a = {.q_heads = o->q_heads,
                                .longest = o->rows,
                                .hidden_tokens = o->hidden,
                                .window_tokens = o->window,
                                .sink_tokens = o->sinks,
                                .chunk_tokens = o->stretch,
                                .cap = o->cap,
                                .scale = 1.0f / sqrtf((float)o->dim)}};
    s->tokens = o->rows + o->before;
    s->c = (struct cache_view){.k = side(o, false),
                               .v = side(o, true),
                               .sequences = o->sequences,
                               .heads = o->heads,
                               .page_tokens = o->page,
                               .max_pages = (s->tokens + o->page - 1) / o->page,
                               .residual = o->residual,
                               .ragged = o->ragged};
    chunks(k, o, f);
    ks_tables(k, s);
    for (int value = 0; value < 2; value++) {
        ks_pools(k, s, value, o->scaled);
        ks_fill(k, s, value);
        ks_upload(k, s, value);
    }
    f->a.c = s->c;
    if (o->chosen)
        choose(k, o->chosen, f);
    extras(k, o, f);
    queries(k, f);
    references(k, f);
    f->a.out = kk_new(k, TAG_ACTIVATION, 2 * f->rows * o->q_heads * s->c.v.dim);
    if (o->lse)
        f->a.lse = kk_new(k, TAG_ACTIVATION, 4 * f->rows * o->q_heads);
}

static void accurate(struct kk *k, struct fixture *f)
{
    uint64_t n = f->rows * f->a.q_heads * f->s.c.v.dim;
    uint16_t *out = ARENA_NEW(k->a, uint16_t, n);
    bool fp16 = f->s.c.k.store == STORE_FP16;
    double error = 0, naive = 0;

    kk_get(k, out, f->a.out, 2 * n);
    for (uint64_t i = 0; i < n; i++) {
        double x = fp16 ? ks_fp16(out[i]) : ks_bf16(out[i]);
        error = fmax(error, fabs(x - f->want[i]));
        naive = fmax(naive, fabs(f->naive[i] - f->want[i]));
        assert_true(isfinite(x) && fabs(x) < 100);
    }
    if (error > 2 * naive)
        print_error("largest error %g, of a plain kernel %g\n", error, naive);
    assert_true(error <= 2 * naive);
}

/* The sums: minus infinity for a query that sees nothing. */
static void accurate_lse(struct kk *k, struct fixture *f)
{
    uint64_t n = f->rows * f->a.q_heads;
    float *lse = ARENA_NEW(k->a, float, n);
    double error = 0, naive = 0;

    kk_get(k, lse, f->a.lse, 4 * n);
    for (uint64_t i = 0; i < n; i++) {
        if (isinf(f->want_lse[i])) {
            assert_true(lse[i] == -INFINITY);
            continue;
        }
        error = fmax(error, fabs((double)lse[i] - f->want_lse[i]));
        naive = fmax(naive, fabs(f->naive_lse[i] - f->want_lse[i]));
    }
    if (error > 2 * naive + 1e-6)
        print_error("largest error of a sum %g, of a plain kernel %g\n", error, naive);
    assert_true(error <= 2 * naive + 1e-6);
}

/* A token that one of the queries of a chunk sees. */
static bool is_seen(const struct fixture *f, uint32_t sequence, uint64_t slot, uint32_t token)
{
    for (uint32_t i = 0; i < f->first[sequence + 1] - f->first[sequence]; i++)
        if (reaches(f, slot, i, token))
            return true;
    return false;
}

/* Bytes of what the queries of a head see, each once, from the documented layout. */
static uint64_t seen_bytes(const struct fixture *f, bool value, uint32_t sequence,
                           uint32_t head)
{
    const struct ks *s = &f->s;
    const struct cache_side *x = value ? &s->c.v : &s->c.k;
    uint64_t slot = slot_of(f, sequence, head), sum = 0;
    uint32_t bits = store_bits(x->store), r = s->c.residual, length = s->lengths[slot];
    uint32_t coded = value ? length - (length < r ? length : r) : length - (r ? length % r : 0);
    bool kivi = store_is_kivi(x->store);

    for (uint32_t t = 0, group = UINT32_MAX; t < length; t++) {
        if (!is_seen(f, sequence, slot, t))
            continue;
        if (kivi && t >= coded) {
            sum += x->dim * 2;
            continue;
        }
        sum += x->dim * bits / 8;
        if (bits == 8)
            sum += x->scales ? 4 : 0;
        else if (kivi && !value)
            sum += group != t / x->group ? x->dim * 4 : 0;
        else if (bits < 8)
            sum += x->dim / x->group * 4;
        group = t / (x->group | !x->group);
    }
    return sum;
}

static uint64_t useful_flop(const struct fixture *f)
{
    const struct cache_view *c = &f->s.c;
    uint64_t pairs = 0;

    for (uint32_t s = 0; s < c->sequences; s++)
        for (uint32_t h = 0; h < c->heads; h++)
            for (uint32_t i = 0; i < f->first[s + 1] - f->first[s]; i++)
                for (uint32_t t = 0; t < f->s.tokens; t++)
                    pairs += sees(f, slot_of(f, s, h), i, t);
    return pairs * (f->a.q_heads / c->heads) * 2 * (c->k.dim + c->v.dim);
}

static void counted(struct kk *k, const struct fixture *f, bool wgmma)
{
    const struct cache_view *c = &f->s.c;
    struct tally got, want = {.launches = 1};
    uint64_t heads = f->rows * f->a.q_heads;

    (wgmma ? prefill_wgmma_traffic : prefill_traffic)(&f->a, f->first, f->offset, f->s.lengths,
                                                      &want.issued);
    for (uint32_t i = 0; i < c->sequences * c->heads; i++) {
        want.unique_read_bytes[TAG_K] += seen_bytes(f, false, i / c->heads, i % c->heads);
        want.unique_read_bytes[TAG_V] += seen_bytes(f, true, i / c->heads, i % c->heads);
    }
    want.unique_written_bytes[TAG_ACTIVATION] = heads * (2 * c->v.dim + (f->a.lse ? 4 : 0));
    kt_u64(want.issued.written_bytes[TAG_ACTIVATION],
           want.unique_written_bytes[TAG_ACTIVATION]);
    kt_u64(want.issued.useful_flop, useful_flop(f));
    kk_seen(k, &got);
    assert_true(got.unique_read_bytes[TAG_TABLES] <=
                ks_lengths(&f->s) * 4 * (2 + c->max_pages) + (c->sequences + 1) * 4 +
                    (f->slopes ? 4 * f->a.q_heads : 0));
    want.unique_read_bytes[TAG_WEIGHTS] = f->learned ? 2 * f->a.q_heads : 0;
    assert_true(got.unique_read_bytes[TAG_ACTIVATION] <= heads * c->k.dim * 2);
    want.unique_read_bytes[TAG_TABLES] = got.unique_read_bytes[TAG_TABLES];
    want.unique_read_bytes[TAG_ACTIVATION] = got.unique_read_bytes[TAG_ACTIVATION];
    want.unique_read_bytes[TAG_WORK] = got.unique_read_bytes[TAG_WORK];
    if (kk_seen(k, &got))
        kt_u64(got.issued.conversions, want.issued.conversions);
    kk_tally(k, &want);
}

static void run_all(struct kk *k, const struct setting *o, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        struct fixture f;
        print_message("# setting %zu\n", i);
        build(k, &o[i], &f);
        device_tally_reset(k->d);
        if (!kk_ran(k, (o[i].wgmma ? prefill_wgmma_run : prefill_run)(k->d, &f.a)))
            continue;
        accurate(k, &f);
        if (o[i].lse)
            accurate_lse(k, &f);
        counted(k, &f, o[i].wgmma);
    }
}
#define RUN_ALL(k, o) run_all((k), (o), sizeof(o) / sizeof *(o))

/* MHA, GQA, MQA with more query heads than a tile has rows, all head sizes. */
static void heads(void **state)
{
    static const struct setting all[] = {
        {STORE_BF16, STORE_BF16, 128, 0, 1, 2, 8, 70, 0, .page = 16, .lse = true},
        {STORE_BF16, STORE_BF16, 64, 0, 2, 3, 3, 37, 20, .page = 16, .varied = true},
        {STORE_BF16, STORE_BF16, 80, 0, 1, 1, 2, 33, 40, .page = 16},
        {STORE_BF16, STORE_BF16, 96, 0, 1, 2, 6, 30, 7, .page = 7, .lse = true},
        {STORE_BF16, STORE_BF16, 256, 0, 1, 1, 2, 37, 33, .page = 32, .lse = true},
        {STORE_BF16, STORE_BF16, 192, 128, 1, 1, 1, 130, 0, .page = 16, .lse = true},
        {STORE_BF16, STORE_BF16, 112, 8, 1, 1, 2, 17, 3, .page = 1},
        {STORE_BF16, STORE_BF16, 40, 72, 1, 1, 2, 17, 3, .page = 16},
        {STORE_BF16, STORE_BF16, 8, 256, 1, 1, 1, 9, 30, .page = 16, .lse = true},
        {STORE_BF16, STORE_BF16, 200, 24, 1, 1, 3, 20, 30, .page = 16},
        {STORE_BF16, STORE_BF16, 64, 0, 1, 1, 150, 3, 5, .page = 16, .lse = true},
        {STORE_FP16, STORE_FP16, 128, 0, 1, 2, 8, 40, 25, .page = 16, .lse = true},
        {STORE_FP16, STORE_FP16, 64, 0, 1, 1, 4, 20, 0, .page = 16},
        {STORE_FP16, STORE_FP16, 256, 0, 1, 1, 3, 30, 5, .page = 16},
        {STORE_FP16, STORE_FP16, 192, 128, 1, 1, 1, 20, 1, .page = 16},
    };

    RUN_ALL(*state, all);
}

/* Prompts that end at, just before and just after the steps and tiles; ragged batches. */
static void lengths(void **state)
{
    static const struct setting all[] = {
        {STORE_BF16, STORE_BF16, 64, 0, 1, 1, 1, 1, 0, .page = 16, .lse = true},
        {STORE_BF16, STORE_BF16, 64, 0, 1, 1, 1, 1, 63, .page = 16},
        {STORE_BF16, STORE_BF16, 64, 0, 1, 1, 1, 1, 64, .page = 16},
        {STORE_BF16, STORE_BF16, 64, 0, 1, 1, 4, 32, 32, .page = 16},
        {STORE_BF16, STORE_BF16, 64, 0, 1, 1, 4, 33, 31, .page = 16},
        {STORE_BF16, STORE_BF16, 64, 0, 1, 1, 1, 129, 64, .page = 16},
        {STORE_BF16, STORE_BF16, 64, 0, 1, 1, 3, 43, 130, .page = 16},
        {STORE_BF16, STORE_BF16, 64, 0, 5, 2, 4, 50, 40, .page = 16, .varied = true,
         .lse = true},
    };

    RUN_ALL(*state, all);
}

/* Windows, sinks, masked diagonals, chunks that are not stored, and heads with rows of their
 * own. */
static void visible(void **state)
{
    static const struct setting all[] = {
        {STORE_BF16, STORE_BF16, 64, 0, 1, 1, 2, 100, 50, .page = 16, .window = 33,
         .lse = true},
        {STORE_BF16, STORE_BF16, 64, 0, 1, 1, 1, 140, 120, .page = 16, .window = 20},
        {STORE_BF16, STORE_BF16, 64, 0, 3, 2, 4, 60, 90, .page = 8, .window = 20, .sinks = 4,
         .varied = true, .lse = true},
        {STORE_BF16, STORE_BF16, 64, 0, 1, 1, 1, 20, 180, .page = 16, .window = 40,
         .sinks = 70},
        {STORE_BF16, STORE_BF16, 64, 0, 1, 1, 4, 24, 0, .page = 8, .window = 20, .sinks = 9},
        {STORE_BF16, STORE_BF16, 64, 0, 1, 1, 4, 40, 9, .page = 8, .window = 1, .lse = true},
        {STORE_BF16, STORE_BF16, 64, 0, 1, 1, 4, 40, 9, .page = 8, .window = 300},
        {STORE_BF16, STORE_BF16, 64, 0, 2, 1, 4, 50, 0, .page = 16, .hidden = 1, .lse = true},
        {STORE_BF16, STORE_BF16, 64, 0, 1, 1, 4, 1, 0, .page = 16, .hidden = 1, .lse = true},
        {STORE_BF16, STORE_BF16, 64, 0, 1, 1, 4, 60, 30, .page = 16, .hidden = 1, .window = 16},
        {STORE_BF16, STORE_BF16, 64, 0, 1, 1, 4, 9, 0, .page = 16, .hidden = 3, .lse = true},
        {STORE_BF16, STORE_BF16, 64, 0, 1, 1, 4, 50, 30, .page = 16, .unstored = true},
        {STORE_BF16, STORE_BF16, 64, 0, 1, 1, 4, 50, 30, .page = 16, .unstored = true,
         .window = 10, .lse = true},
        {STORE_BF16, STORE_BF16, 128, 0, 2, 4, 8, 20, 60, .page = 16, .ragged = true,
         .lse = true},
        {STORE_INT8, STORE_INT8, 128, 0, 2, 4, 8, 20, 60, .page = 16, .ragged = true,
         .scaled = true},
    };

    RUN_ALL(*state, all);
}

/* Of what a query reaches it sees only what was chosen. */
static void chosen(void **state)
{
    static const struct setting all[] = {
        {STORE_BF16, STORE_BF16, 192, 128, 1, 4, 4, 70, 0, .page = 1, .chosen = 16},
        {STORE_BF16, STORE_BF16, 64, 0, 2, 1, 4, 50, 60, .page = 16, .chosen = 9,
         .varied = true, .lse = true},
        {STORE_BF16, STORE_BF16, 256, 0, 1, 1, 2, 40, 40, .page = 16, .chosen = 20},
        {STORE_FP16, STORE_FP16, 256, 0, 1, 1, 2, 40, 20, .page = 16, .chosen = 20},
        {STORE_FP16, STORE_FP16, 64, 0, 1, 1, 2, 40, 20, .page = 16, .chosen = 20, .hidden = 1},
    };

    RUN_ALL(*state, all);
}

/* Stretches of tokens that see each other alone, capped scores, slopes, learned sinks. */
static void bent(void **state)
{
    static const struct setting all[] = {
        {STORE_BF16, STORE_BF16, 64, 0, 1, 1, 2, 100, 50, .page = 16, .stretch = 40,
         .lse = true},
        {STORE_BF16, STORE_BF16, 128, 0, 1, 2, 4, 130, 0, .page = 16, .stretch = 64},
        {STORE_BF16, STORE_BF16, 64, 0, 3, 1, 4, 60, 30, .page = 8, .stretch = 16,
         .varied = true, .lse = true},
        {STORE_BF16, STORE_BF16, 64, 0, 1, 1, 2, 40, 0, .page = 8, .stretch = 300},
        {STORE_BF16, STORE_BF16, 128, 0, 1, 2, 4, 50, 30, .page = 16, .cap = 2, .lse = true},
        {STORE_BF16, STORE_BF16, 256, 0, 1, 1, 2, 40, 0, .page = 16, .cap = 50},
        {STORE_FP16, STORE_FP16, 64, 0, 1, 1, 4, 40, 9, .page = 16, .slopes = true},
        {STORE_BF16, STORE_BF16, 64, 0, 1, 3, 3, 70, 0, .page = 16, .slopes = true,
         .window = 30, .lse = true},
        {STORE_INT8, STORE_INT8, 64, 0, 1, 1, 2, 40, 9, .page = 16, .slopes = true, .cap = 3,
         .scaled = true},
        {STORE_BF16, STORE_BF16, 64, 0, 1, 1, 8, 60, 20, .page = 16, .learned = true,
         .lse = true},
        {STORE_BF16, STORE_BF16, 64, 0, 2, 2, 16, 50, 70, .page = 16, .learned = true,
         .window = 30, .varied = true, .lse = true},
        {STORE_FP16, STORE_FP16, 128, 0, 1, 1, 3, 40, 0, .page = 16, .learned = true,
         .hidden = 1, .slopes = true, .cap = 9, .lse = true},
    };

    RUN_ALL(*state, all);
}

static void formats(void **state)
{
    static const struct setting all[] = {
        {STORE_FP8, STORE_FP8, 128, 0, 1, 2, 4, 50, 50, .page = 16, .lse = true},
        {STORE_FP8, STORE_FP8, 128, 0, 1, 1, 4, 50, 20, .page = 16, .scaled = true},
        {STORE_INT8, STORE_INT8, 128, 0, 1, 2, 4, 40, 30, .page = 16, .scaled = true,
         .lse = true},
        {STORE_INT8, STORE_INT8, 64, 0, 1, 1, 4, 30, 50, .page = 16},
        {STORE_INT8, STORE_INT8, 256, 0, 1, 1, 2, 30, 50, .page = 16, .scaled = true},
        {STORE_INT4, STORE_INT4, 128, 0, 1, 2, 4, 40, 30, .page = 16, .group = 64},
        {STORE_INT4, STORE_INT4, 80, 0, 1, 1, 4, 20, 50, .page = 16, .group = 80},
        {STORE_INT4, STORE_INT4, 192, 128, 1, 1, 2, 20, 50, .page = 16, .group = 32},
        {STORE_FP8, STORE_INT4, 128, 0, 1, 1, 4, 50, 0, .page = 16, .group = 32},
        {STORE_INT8, STORE_BF16, 128, 0, 1, 1, 4, 50, 0, .page = 16, .scaled = true},
        {STORE_BF16, STORE_FP8, 192, 128, 1, 1, 2, 50, 9, .page = 16, .scaled = true},
        {STORE_KIVI4, STORE_KIVI4, 128, 0, 1, 1, 4, 20, 80, .page = 32, .group = 32,
         .residual = 32},
        {STORE_KIVI2, STORE_KIVI2, 64, 0, 3, 1, 4, 30, 50, .page = 32, .group = 16,
         .residual = 32, .varied = true},
        {STORE_KIVI4, STORE_KIVI4, 256, 0, 1, 1, 4, 10, 55, .page = 32, .group = 32,
         .residual = 32, .window = 8},
    };

    RUN_ALL(*state, all);
}

/* The kernel of sm_90a: every shape it takes, one step and several, all masks. */
static void wgmma(void **state)
{
    static const struct setting all[] = {
        {STORE_BF16, STORE_BF16, 128, 0, 1, 1, 4, 70, 0, .page = 16, .wgmma = true,
         .lse = true},
        {STORE_BF16, STORE_BF16, 128, 0, 1, 1, 2, 70, 200, .page = 7, .wgmma = true},
        {STORE_BF16, STORE_BF16, 64, 0, 2, 2, 4, 40, 300, .page = 16, .wgmma = true,
         .varied = true, .lse = true},
        {STORE_BF16, STORE_BF16, 192, 128, 1, 1, 1, 140, 130, .page = 16, .wgmma = true},
        {STORE_FP16, STORE_FP16, 128, 0, 1, 1, 8, 20, 200, .page = 16, .wgmma = true},
        {STORE_FP16, STORE_FP16, 64, 0, 1, 1, 1, 128, 0, .page = 16, .wgmma = true},
        {STORE_FP16, STORE_FP16, 192, 128, 1, 1, 1, 9, 3, .page = 16, .wgmma = true},
        {STORE_BF16, STORE_BF16, 64, 0, 1, 1, 4, 40, 300, .page = 16, .wgmma = true,
         .window = 150, .sinks = 20, .lse = true},
        {STORE_BF16, STORE_BF16, 64, 0, 1, 1, 4, 60, 0, .page = 16, .wgmma = true, .hidden = 1,
         .lse = true},
        {STORE_BF16, STORE_BF16, 64, 0, 2, 2, 4, 20, 150, .page = 16, .wgmma = true,
         .ragged = true},
        {STORE_BF16, STORE_BF16, 64, 0, 1, 1, 2, 30, 200, .page = 16, .wgmma = true,
         .unstored = true, .window = 20},
        {STORE_BF16, STORE_BF16, 64, 0, 1, 1, 8, 40, 200, .page = 16, .wgmma = true,
         .learned = true, .window = 150, .lse = true},
        {STORE_FP16, STORE_FP16, 128, 0, 2, 2, 6, 50, 90, .page = 16, .wgmma = true,
         .learned = true, .hidden = 1, .varied = true, .lse = true},
        {STORE_BF16, STORE_BF16, 128, 0, 1, 1, 2, 90, 150, .page = 16, .wgmma = true,
         .stretch = 100, .lse = true},
    };

    RUN_ALL(*state, all);
}

static void wgmma_races(void **state)
{
    static const struct setting all[] = {
        {STORE_BF16, STORE_BF16, 64, 0, 1, 1, 2, 70, 330, .page = 16, .wgmma = true},
    };

    RUN_ALL(*state, all);
}

/* A prompt in chunks gives the bits of the prompt in one piece. */
static void chunked(void **state)
{
    struct kk *k = *state;
    static const struct setting all[] = {
        {STORE_BF16, STORE_BF16, 64, 0, 1, 2, 6, 150, 0, .page = 16},
        {STORE_BF16, STORE_BF16, 128, 0, 1, 1, 2, 150, 0, .page = 16, .hidden = 1},
        {STORE_FP8, STORE_FP8, 64, 0, 1, 1, 4, 100, 0, .page = 16, .scaled = true},
    };
    static const uint32_t cuts[] = {0, 1, 17, 64, 90, UINT32_MAX};

    for (size_t n = 0; n < sizeof all / sizeof *all; n++) {
        struct fixture f;
        uint64_t row_bytes, bytes;
        uint8_t *whole, *parts;
        build(k, &all[n], &f);
        row_bytes = 2 * (uint64_t)f.a.q_heads * f.s.c.v.dim;
        bytes = f.rows * row_bytes;
        whole = arena_alloc(k->a, bytes, 16);
        parts = arena_alloc(k->a, bytes, 16);
        if (!kk_ran(k, prefill_run(k->d, &f.a)))
            return;
        kk_get(k, whole, f.a.out, bytes);
        for (int i = 0; cuts[i] < f.rows; i++) {
            uint32_t end = cuts[i + 1] < f.rows ? cuts[i + 1] : (uint32_t)f.rows;
            uint32_t first[] = {0, end - cuts[i]};
            struct prefill_args a = f.a;
            a.first = kk_put(k, TAG_TABLES, first, sizeof first);
            a.offset = kk_put(k, TAG_TABLES, &cuts[i], 4);
            a.longest = first[1] + 100;
            a.q = kk_put(k, TAG_ACTIVATION,
                         f.q_bits + (uint64_t)cuts[i] * f.a.q_heads * f.s.c.k.dim,
                         (uint64_t)first[1] * f.a.q_heads * f.s.c.k.dim * 2);
            a.out = kk_new(k, TAG_ACTIVATION, first[1] * row_bytes);
            kk_ok(k, prefill_run(k->d, &a));
            kk_get(k, parts + cuts[i] * row_bytes, a.out, first[1] * row_bytes);
        }
        assert_memory_equal(parts, whole, bytes);
    }
}

/* And is not picked. */
static void wgmma_refuses(struct kk *k, const struct fixture *f)
{
    struct prefill_args bad[] = {f->a, f->a, f->a, f->a};

    assert_true(prefill_fits_wgmma(&f->a));
    bad[0].c.k.dim = bad[0].c.v.dim = 80;
    bad[1].c.k.store = bad[1].c.v.store = STORE_FP8;
    bad[2].cap = 50;
    bad[3].slopes = kk_new(k, TAG_TABLES, 4 * f->a.q_heads);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        assert_false(prefill_fits_wgmma(&bad[i]));
        kk_refused(k, prefill_wgmma_run(k->d, &bad[i]),
                   "prefill: products of tiles are for 16 bits, heads of 64, 128, or 192 and "
                   "128, no cap, no slopes");
    }
}

static void refuses(void **state)
{
    struct kk *k = *state;
    static const struct setting plain = {STORE_BF16, STORE_BF16, 64, 0, 1,
                                         2,          4,          5,  3, .page = 16};
    static const struct {
        uint32_t q_heads, heads, longest;
        float scale;
        enum store store;
        const char *why;
    } bad[] = {
        {3, 2, 5, 1, STORE_BF16,
         "prefill: the query heads must be a multiple of the K/V heads"},
        {0, 2, 5, 1, STORE_BF16,
         "prefill: the query heads must be a multiple of the K/V heads"},
        {4, 2, 0, 1, STORE_BF16,
         "prefill: the longest chunk must have 1 to 2147483647 rows, counted by query heads"},
        {4, 2, 0x40000000, 1, STORE_BF16,
         "prefill: the longest chunk must have 1 to 2147483647 rows, counted by query heads"},
        {8, 8, 0x20000000, 1, STORE_BF16,
         "prefill: a chunk has at most 4294967295 query heads of tokens"},
        {4, 2, 5, 0, STORE_BF16, "prefill: the scale must be above 0"},
        {4, 2, 5, -1, STORE_BF16, "prefill: the scale must be above 0"},
        {4, 2, 5, NAN, STORE_BF16, "prefill: the scale must be above 0"},
        {65536, 65536, 5, 1, STORE_BF16, "prefill: too many heads"},
        {4, 2, 5, 1, STORE_FP16, "prefill: fp16 is for K and V together"},
    };
    struct fixture f;

    build(k, &plain, &f);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct prefill_args a = f.a;
        a.q_heads = bad[i].q_heads;
        a.c.heads = bad[i].heads;
        a.longest = bad[i].longest;
        a.scale = bad[i].scale;
        a.c.k.store = bad[i].store;
        kk_refused(k, prefill_run(k->d, &a), bad[i].why);
    }
    f.a.chosen = f.s.c.table;
    kk_refused(k, prefill_run(k->d, &f.a),
               "prefill: a selection of at least one token, and no window");
    f.a.chosen = NULL;
    f.a.cap = -1;
    kk_refused(k, prefill_run(k->d, &f.a), "prefill: the cap must not be below 0");
    f.a.cap = 0;
    f.a.chunk_tokens = f.a.window_tokens = 8;
    kk_refused(k, prefill_run(k->d, &f.a), "prefill: a window or chunks, not both");
    f.a.chunk_tokens = f.a.window_tokens = 0;
    wgmma_refuses(k, &f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        kk_test(heads),       kk_reversed(heads), kk_test(lengths), kk_test(visible),
        kk_reversed(visible), kk_test(formats),   kk_test(wgmma),   kk_reversed(wgmma_races),
        kk_test(bent),        kk_reversed(bent),  kk_test(chosen),  kk_reversed(chosen),
        kk_test(chunked),     kk_test(refuses),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
