/* kernel_append: rows land where the layout says, with the codes that a quantizer in double
 * gives, and nothing else is touched; KIVI's parts follow its rules over a prompt and a decode.
 */
#include "kernels/append.h"
#include "tests/kvstore.h"

struct fixture {
    struct ks s;
    struct append_args a;
    uint32_t *sequence, *index;
    double *x[2]; /* K and V rows: [rows][heads][dim] */
};

static struct ks *view(struct kk *k, struct fixture *f, struct cache_view c, bool scaled)
{
    struct ks *s = &f->s;
    uint64_t n;

    *f = (struct fixture){0};
    s->c = c;
    s->tokens = c.max_pages * c.page_tokens;
    n = ks_lengths(s);
    s->lengths = ARENA_NEW(k->a, uint32_t, n);
    for (uint64_t i = 0; i < n; i++)
        s->lengths[i] = s->tokens;
    ks_tables(k, s);
    for (int value = 0; value < 2; value++) {
        ks_pools(k, s, value, scaled);
        ks_upload(k, s, value);
    }
    return s;
}

/* Random 16-bit rows, with a row of zeros and one of equal elements. */
static void *rows(struct kk *k, struct fixture *f, int value, uint64_t n, bool fp16)
{
    uint32_t dim = value ? f->s.c.v.dim : f->s.c.k.dim;
    uint16_t *bits = ARENA_NEW(k->a, uint16_t, n * dim);

    f->x[value] = ARENA_NEW(k->a, double, n *dim);
    for (uint64_t i = 0; i < n * dim; i++) {
        double x = kk_normal(k) * ((double)(i / dim % 3) + 0.5);
        x = i / dim == 1 ? 0 : i / dim == 2 ? -1.5 : x;
        bits[i] = fp16 ? ks_bits_fp16(x) : ks_bits_bf16(x);
        f->x[value][i] = fp16 ? ks_fp16(bits[i]) : ks_bf16(bits[i]);
    }
    return kk_put(k, TAG_ACTIVATION, bits, n * dim * 2);
}

/* `n` rows in random places of the sequences, no place twice. */
static void targets(struct kk *k, struct fixture *f, uint32_t n)
{
    const struct cache_view *c = &f->s.c;
    uint32_t per_row = c->ragged ? c->heads : 1;

    f->sequence = ARENA_NEW(k->a, uint32_t, n);
    f->index = ARENA_NEW(k->a, uint32_t, n * per_row);
    for (uint32_t i = 0; i < n; i++) {
        f->sequence[i] = i % c->sequences;
        for (uint32_t h = 0; h < per_row; h++)
            f->index[i * per_row + h] = (i / c->sequences * 7 + h * 3) % f->s.tokens;
    }
    f->a.rows = n;
    f->a.sequence = kk_put(k, TAG_TABLES, f->sequence, n * 4);
    f->a.index = kk_put(k, TAG_TABLES, f->index, (uint64_t)n * per_row * 4);
}

static void download(struct kk *k, struct ks *s)
{
    for (int value = 0; value < 2; value++) {
        const struct cache_side *c = value ? &s->c.v : &s->c.k;
        struct ks_side *pool = value ? &s->v : &s->k;
        kk_get(k, pool->codes, c->codes, cache_code_bytes(&s->c, value, s->pages));
        if (pool->scales)
            kk_get(k, pool->scales, c->scales, cache_scale_bytes(&s->c, value, s->pages));
        if (pool->full)
            kk_get(k, pool->full, c->full, cache_full_bytes(&s->c, value));
    }
}

/* The most that a stored element may differ from x: half a step of its code, and for grouped
 * codes what the rounding of scale and minimum to bf16 (2^-9 each) cuts off at the ends. */
static double tolerance(const struct cache_side *s, double x, const double *row, uint32_t d)
{
    uint32_t n = store_bits(s->store) < 8 && s->group ? s->group : s->dim;
    const double *group = row + d / n * n;
    double high = group[0], low = group[0], step;

    for (uint32_t i = 1; i < n; i++) {
        high = fmax(high, group[i]);
        low = fmin(low, group[i]);
    }
    switch (s->store) {
    case STORE_BF16:
    case STORE_FP16: return 0;
    case STORE_FP8:
        step = s->scales ? fmax(high, -low) / 448 : (double)s->scale;
        return fmax(fabs(x) / 16, step * ldexp(1, -10)) * 1.0001;
    case STORE_INT8:
        step = s->scales ? fmax(high, -low) / 127 : (double)s->scale;
        return step / 2 * 1.0001;
    case STORE_INT4:
    case STORE_KIVI4:
    case STORE_KIVI2:
    case STORE_DS_MLA: break;
    }
    step = (high - low) / ((1 << store_bits(s->store)) - 1);
    return step / 2 * 1.01 + (high - low + fabs(low)) / 256;
}

static void close_rows(struct fixture *f, uint64_t *written)
{
    struct ks *s = &f->s;
    const struct cache_view *c = &s->c;

    for (uint32_t i = 0; i < 2 * f->a.rows * c->heads; i++) {
        int value = i % 2;
        uint32_t h = i / 2 % c->heads, r = i / 2 / c->heads;
        const struct cache_side *side = value ? &c->v : &c->k;
        uint32_t at = f->index[c->ragged ? r * c->heads + h : r];
        const double *row = f->x[value] + ((uint64_t)r * c->heads + h) * side->dim;
        for (uint32_t d = 0; d < side->dim; d++) {
            double got = ks_value(s, value, f->sequence[r], h, at, d);
            if (!(fabs(got - row[d]) <= tolerance(side, row[d], row, d)))
                print_error("side %d row %u head %u element %u: %g for %g\n", value, r, h, d,
                            got, row[d]);
            assert_true(fabs(got - row[d]) <= tolerance(side, row[d], row, d));
        }
        written[value] += side->dim * store_bits(side->store) / 8;
        if (store_bits(side->store) == 8)
            written[value] += side->scales ? 4 : 0;
        else if (store_bits(side->store) < 8)
            written[value] += side->dim / side->group * 4;
    }
}

static void counted(struct kk *k, const struct fixture *f, const uint64_t *written)
{
    struct tally got, want = {.launches = 1};

    kk_seen(k, &got);
    append_traffic(&f->a, f->sequence, f->index, f->s.lengths, &want.issued);
    want.unique_written_bytes[TAG_K] = written[0];
    want.unique_written_bytes[TAG_V] = written[1];
    want.unique_read_bytes[TAG_ACTIVATION] =
        (uint64_t)f->a.rows * f->s.c.heads * (f->s.c.k.dim + f->s.c.v.dim) * 2;
    want.unique_read_bytes[TAG_TABLES] = got.unique_read_bytes[TAG_TABLES];
    kk_tally(k, &want);
}

static void one(struct kk *k, struct cache_view c, bool scaled)
{
    struct fixture f;
    struct ks *s = view(k, &f, c, scaled);
    bool fp16 = c.k.store == STORE_FP16;
    uint64_t written[2] = {0, 0};
    enum { ROWS = 9 };

    targets(k, &f, ROWS);
    f.a.c = s->c;
    f.a.k = rows(k, &f, 0, (uint64_t)ROWS * c.heads, fp16);
    f.a.v = rows(k, &f, 1, (uint64_t)ROWS * c.heads, fp16);
    device_tally_reset(k->d);
    kk_ok(k, append_run(k->d, &f.a));
    download(k, s);
    close_rows(&f, written);
    counted(k, &f, written);
}

static struct cache_side side(enum store s, uint32_t dim, uint32_t group)
{
    return (struct cache_side){.store = s, .dim = dim, .group = group, .scale = 0.0625f};
}

static void formats(void **state)
{
    static const struct {
        enum store store;
        uint32_t dim, group;
        bool scaled, ragged;
    } all[] = {
        {STORE_BF16, 128, 0, false, false},   {STORE_FP16, 64, 0, false, false},
        {STORE_BF16, 80, 0, false, true},     {STORE_FP8, 128, 0, false, false},
        {STORE_FP8, 128, 0, true, false},     {STORE_INT8, 256, 0, true, true},
        {STORE_INT8, 64, 0, false, false},    {STORE_INT4, 128, 32, false, false},
        {STORE_INT4, 128, 64, false, true},   {STORE_INT4, 80, 80, false, false},
        {STORE_INT4, 256, 256, false, false},
    };

    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        struct cache_view c = {.k = side(all[i].store, all[i].dim, all[i].group),
                               .v = side(all[i].store, all[i].dim, all[i].group),
                               .sequences = 2,
                               .heads = 3,
                               .page_tokens = 8,
                               .max_pages = 5,
                               .ragged = all[i].ragged};
        print_message("# format %zu\n", i);
        one(*state, c, all[i].scaled);
    }
}

/* fp8: every code is found again from its own value, beyond the range it is clamped, and ties
 * go to the even neighbour. */
static void fp8_values(void **state)
{
    struct kk *k = *state;
    struct cache_view c = {.k = side(STORE_FP8, 256, 0),
                           .v = side(STORE_FP8, 256, 0),
                           .sequences = 1,
                           .heads = 1,
                           .page_tokens = 1,
                           .max_pages = 1};
    struct fixture f;
    struct ks *s = view(k, &f, c, false);
    uint16_t bits[2][256];
    uint8_t want[256];

    for (uint32_t i = 0; i < 256; i++) {
        uint8_t code = (i & 0x7f) == 0x7f ? (uint8_t)(i - 1) : (uint8_t)i;
        double next = ks_e4m3((uint8_t)((code & 0x7e) == 0x7e ? code : code + 1));
        bits[0][i] = ks_bits_bf16(ks_e4m3(code)); /* exact: 4 bits of mantissa */
        bits[1][i] = ks_bits_bf16((ks_e4m3(code) + next) / 2);
        want[i] = (uint8_t)(code + ((code & 1) && (code & 0x7e) != 0x7e));
        if ((i & 0x7f) == 0x7f)
            bits[0][i] = ks_bits_bf16(i & 0x80 ? -1e5 : 1e5);
    }
    bits[0][0x80] = 0x8000;
    s->c.k.scale = s->c.v.scale = 1;
    f.a.c = s->c;
    f.a.rows = 1;
    f.a.k = kk_put(k, TAG_ACTIVATION, bits[0], 512);
    f.a.v = kk_put(k, TAG_ACTIVATION, bits[1], 512);
    f.a.sequence = f.a.index = kk_put(k, TAG_TABLES, (uint32_t[]){0}, 4);
    kk_ok(k, append_run(k->d, &f.a));
    download(k, s);
    for (uint32_t i = 0; i < 256; i++) {
        uint8_t code = (i & 0x7f) == 0x7f ? (uint8_t)(i - 1) : (uint8_t)i;
        kt_u64(ks_code(s->k.codes, s->table[0], &s->c.k, i), code);
        kt_u64(ks_code(s->v.codes, s->table[0], &s->c.v, i) & 0x7f, want[i] & 0x7f);
    }
}

enum { KIVI_HEADS = 2, KIVI_DIM = 64, KIVI_R = 32, KIVI_G = 16, KIVI_TOKENS = 128 };

struct kivi {
    struct fixture f;
    double *x[2]; /* [tokens][heads][dim] of the one sequence */
    void *rows[2];
};

static void set_length(struct kk *k, struct kivi *v, uint32_t n)
{
    v->f.s.lengths[0] = n;
    kk_ok(k, device_upload(k->d, (void *)(uintptr_t)v->f.s.c.lengths, &n, 4));
}

static void pack(struct kk *k, struct kivi *v, bool value, uint32_t first, uint32_t count,
                 bool prompt)
{
    struct pack_args p = {.c = v->f.s.c,
                          .value = value,
                          .first = first,
                          .count = count,
                          .rows = prompt ? v->rows[value] : NULL,
                          .source_tokens = prompt ? KIVI_TOKENS : 0};
    struct tally got, want = {.launches = count ? 1 : 0};
    enum tag tag = value ? TAG_V : TAG_K;
    uint64_t elems = (uint64_t)count * KIVI_HEADS * KIVI_DIM;

    device_tally_reset(k->d);
    kk_ok(k, pack_run(k->d, &p));
    if (count)
        pack_traffic(&p, &want.issued);
    kk_seen(k, &got);
    want.unique_written_bytes[tag] = want.issued.written_bytes[tag];
    want.unique_read_bytes[prompt ? TAG_ACTIVATION : tag] = 2 * elems;
    want.unique_read_bytes[TAG_TABLES] = got.unique_read_bytes[TAG_TABLES];
    kk_tally(k, &want);
    /* codes, and 4 bytes for 16 elements either way */
    kt_u64(want.issued.written_bytes[tag],
           elems * store_bits(v->f.s.c.k.store) / 8 + elems / KIVI_G * 4);
}

static void kivi_close(struct kk *k, struct kivi *v, uint32_t n)
{
    struct ks *s = &v->f.s;
    double levels = (1 << store_bits(s->c.k.store)) - 1;

    download(k, s);
    for (uint32_t i = 0; i < 2 * n * KIVI_HEADS * KIVI_DIM; i++) {
        bool value = i % 2;
        uint32_t d = i / 2 % KIVI_DIM, h = i / 2 / KIVI_DIM % KIVI_HEADS;
        uint32_t t = i / 2 / KIVI_DIM / KIVI_HEADS;
        uint32_t coded = value ? n - (n < KIVI_R ? n : KIVI_R) : n - n % KIVI_R;
        double got = ks_value(s, value, 0, h, t, d), high = -1e9, low = 1e9;
        for (uint32_t j = 0; j < KIVI_G; j++) {
            uint32_t tj = value ? t : t / KIVI_G * KIVI_G + j;
            uint32_t dj = value ? d / KIVI_G * KIVI_G + j : d;
            double x =
                tj < n ? v->x[value][((uint64_t)tj * KIVI_HEADS + h) * KIVI_DIM + dj] : 0;
            high = fmax(high, x);
            low = fmin(low, x);
        }
        double x = v->x[value][((uint64_t)t * KIVI_HEADS + h) * KIVI_DIM + d];
        double allowed = (high - low) / levels / 2 * 1.01 + (high - low + fabs(low)) / 256;
        if (!(fabs(got - x) <= (t < coded ? allowed : 0)))
            print_error("side %d token %u of %u head %u element %u: %g for %g\n", value, t, n,
                        h, d, got, x);
        assert_true(fabs(got - x) <= (t < coded ? allowed : 0));
    }
}

/* A prompt of n, then tokens one at a time, as a program would drive the kernels. */
static void kivi_life(struct kk *k, enum store store, uint32_t n)
{
    struct cache_view c = {.k = side(store, KIVI_DIM, KIVI_G),
                           .v = side(store, KIVI_DIM, KIVI_G),
                           .sequences = 1,
                           .heads = KIVI_HEADS,
                           .page_tokens = 32,
                           .max_pages = KIVI_TOKENS / 32,
                           .residual = KIVI_R};
    struct kivi v;
    uint32_t index[KIVI_TOKENS], zero[KIVI_TOKENS] = {0};

    view(k, &v.f, c, false);
    for (int value = 0; value < 2; value++) {
        v.rows[value] = rows(k, &v.f, value, (uint64_t)KIVI_TOKENS * KIVI_HEADS, false);
        v.x[value] = v.f.x[value];
    }
    for (uint32_t i = 0; i < KIVI_TOKENS; i++)
        index[i] = i;
    set_length(k, &v, n);
    v.f.a = (struct append_args){.c = v.f.s.c,
                                 .k = v.rows[0],
                                 .v = v.rows[1],
                                 .rows = n,
                                 .sequence = kk_put(k, TAG_TABLES, zero, sizeof zero),
                                 .index = kk_put(k, TAG_TABLES, index, sizeof index)};
    kk_ok(k, append_run(k->d, &v.f.a));
    pack(k, &v, false, 0, n - n % KIVI_R, true);
    pack(k, &v, true, 0, n - (n < KIVI_R ? n : KIVI_R), true);
    kivi_close(k, &v, n);
    for (uint32_t t = n; t < n + 40; t++) {
        /* the value that leaves the full part makes room for the new token's */
        if (t >= KIVI_R)
            pack(k, &v, true, t - KIVI_R, 1, false);
        set_length(k, &v, t + 1);
        struct append_args one = v.f.a;
        one.rows = 1;
        one.index += t;
        one.k = (const char *)v.rows[0] + (uint64_t)t * KIVI_HEADS * KIVI_DIM * 2;
        one.v = (const char *)v.rows[1] + (uint64_t)t * KIVI_HEADS * KIVI_DIM * 2;
        kk_ok(k, append_run(k->d, &one));
        if ((t + 1) % KIVI_R == 0)
            pack(k, &v, false, t + 1 - KIVI_R, KIVI_R, false);
        if (t % 7 == 0 || (t + 1) % KIVI_R < 2)
            kivi_close(k, &v, t + 1);
    }
}

static void kivi(void **state)
{
    kivi_life(*state, STORE_KIVI4, 20);
    kivi_life(*state, STORE_KIVI2, 64);
    kivi_life(*state, STORE_KIVI2, 75);
}

static void refuses(void **state)
{
    struct kk *k = *state;
    struct append_args a = {.c = {.k = {.dim = 9}}, .rows = 1};
    struct pack_args p = {.c = {.k = side(STORE_BF16, 64, 0),
                                .v = side(STORE_KIVI4, 64, 32),
                                .sequences = 1,
                                .heads = 1,
                                .page_tokens = 32,
                                .max_pages = 1,
                                .residual = 32},
                          .count = 8};

    kk_refused(k, append_run(k->d, &a),
               "append: a head has a multiple of 8 elements, up to 256");
    kk_refused(k, pack_run(k->d, &p), "pack: only KIVI has rows to pack");
    p.c.k = side(STORE_KIVI2, 64, 32);
    kk_refused(k, pack_run(k->d, &p), "pack: K is packed in whole groups of tokens");
    p.value = true;
    p.rows = &p;
    p.source_tokens = 7;
    kk_refused(k, pack_run(k->d, &p), "pack: more tokens than the source has");
    p.c.ragged = true;
    kk_refused(k, pack_run(k->d, &p), "pack: ragged rows cannot be packed");
    a.c = p.c;
    a.rows = UINT32_MAX;
    kk_refused(k, append_run(k->d, &a), "append: at most 2^31 rows of heads at once");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        kk_test(formats), kk_reversed(formats), kk_test(fp8_values),
        kk_test(kivi),    kk_test(refuses),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
