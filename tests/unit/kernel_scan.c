/* kernel_scan: the recurrences against double precision, each written from its definition with
 * whole matrices; a prompt at once and token by token; traffic as the formula says. */
#include "kernels/scan.h"
#include "tests/kvrow.h"

struct data {
    double *q, *k, *v, *rate, *beta, *a_log, *dt_bias, *d, *before;
};

/* An fp32 program rounds after each operation; the other one does not. */
static double rounded(bool naive, double x)
{
    return naive ? (double)(float)x : x;
}

static double softplus(bool naive, double x)
{
    return rounded(naive, log(rounded(naive, 1 + rounded(naive, exp(x)))));
}

static double fading(bool naive, double rate, double dt)
{
    return exp(rounded(naive, -rounded(naive, exp(rate)) * dt));
}

struct token { /* of one head */
    double k[256], q[256], v[256], beta;
};

static void length_one(double *x, uint32_t n, double factor)
{
    double squares = 1e-6;

    for (uint32_t i = 0; i < n; i++)
        squares += x[i] * x[i];
    for (uint32_t i = 0; i < n; i++)
        x[i] *= factor / sqrt(squares);
}

static void token_of(const struct scan_args *a, const struct data *d, uint64_t row, uint32_t h,
                     struct token *t)
{
    uint64_t key = row * a->k_stride + (uint64_t)(h / (a->heads / a->k_heads)) * a->k_dim;
    double root = sqrt(a->k_dim);

    for (uint32_t i = 0; i < a->k_dim; i++) {
        t->k[i] = d->k[key + i] / (a->kind == SCAN_RETENTION ? root : 1);
        t->q[i] = d->q[key + i];
        if (a->kind == SCAN_LIGHTNING) {
            t->k[i] /= 1 + exp(-t->k[i]);
            t->q[i] /= 1 + exp(-t->q[i]);
        }
    }
    for (uint32_t i = 0; i < a->v_dim; i++) {
        t->v[i] = d->v[row * a->v_stride + (uint64_t)h * a->v_dim + i];
        if (a->kind == SCAN_LIGHTNING)
            t->v[i] /= 1 + exp(-t->v[i]);
    }
    if (a->kind == SCAN_GDN || a->kind == SCAN_KDA) {
        length_one(t->k, a->k_dim, 1);
        length_one(t->q, a->k_dim, 1 / root);
        t->beta = 1 / (1 + exp(-d->beta[row * a->beta_stride + h]));
    }
}

/* Of the element (r, c) of the head's matrix. */
static double decay_of(const struct scan_args *a, const struct data *d, uint64_t row,
                       uint32_t h, uint32_t at, bool naive)
{
    const double *rate = d->rate ? d->rate + row * a->rate_stride : NULL;
    uint32_t r = at / a->k_dim, column = h * a->k_dim + at % a->k_dim;

    switch (a->kind) {
    case SCAN_MAMBA1: return fading(naive, d->a_log[at], softplus(naive, rate[r]));
    case SCAN_MAMBA2:
    case SCAN_GDN: return fading(naive, d->a_log[h], softplus(naive, rate[h] + d->dt_bias[h]));
    case SCAN_KDA:
        return fading(naive, d->a_log[h], softplus(naive, rate[column] + d->dt_bias[column]));
    case SCAN_LIGHTNING:
        return exp(rounded(naive, -(double)a->slope * pow(2, -8.0 * (h + 1) / a->heads)));
    case SCAN_RETENTION:
        return pow(rounded(naive, 1 / rounded(naive, 1 + rounded(naive, exp(-rate[h])))),
                   1.0 / 16);
    }
    return 0;
}

/* One token of one head; y gets the result. */
static void step(const struct scan_args *a, const struct data *d, uint64_t row, uint32_t h,
                 double *s, bool naive, double *y)
{
    bool delta = a->kind == SCAN_GDN || a->kind == SCAN_KDA;
    struct token t;

    token_of(a, d, row, h, &t);
    for (uint32_t r = 0; r < a->v_dim; r++) {
        double *x = s + (uint64_t)r * a->k_dim, u = t.v[r], seen = 0;
        for (uint32_t c = 0; c < a->k_dim; c++) {
            x[c] = rounded(
                naive, x[c] * rounded(naive, decay_of(a, d, row, h, r * a->k_dim + c, naive)));
            seen = rounded(naive, seen + x[c] * rounded(naive, t.k[c]));
        }
        if (a->kind == SCAN_MAMBA1)
            u = rounded(naive, u * softplus(naive, d->rate[row * a->rate_stride + r]));
        else if (a->kind == SCAN_MAMBA2)
            u = rounded(naive,
                        u * softplus(naive, d->rate[row * a->rate_stride + h] + d->dt_bias[h]));
        else if (delta)
            u = rounded(naive, rounded(naive, t.beta) * rounded(naive, u - seen));
        y[r] = 0;
        for (uint32_t c = 0; c < a->k_dim; c++) {
            x[c] = rounded(naive, x[c] + u * rounded(naive, t.k[c]));
            y[r] = rounded(naive, y[r] + x[c] * t.q[c]);
        }
        if (a->kind == SCAN_MAMBA1 || a->kind == SCAN_MAMBA2)
            y[r] += d->d[a->kind == SCAN_MAMBA1 ? r : h] * t.v[r];
    }
}

static void recur(const struct scan_args *a, const struct data *d, bool naive, double *state,
                  double *out)
{
    uint64_t matrix = (uint64_t)a->v_dim * a->k_dim;

    for (uint32_t i = 0; i < a->sequences * a->heads; i++) {
        double *s = state + i * matrix;
        uint32_t h = i % a->heads;
        memcpy(s, d->before + i * matrix, matrix * sizeof *s);
        for (uint32_t t = 0; t < a->tokens; t++) {
            uint64_t row = (uint64_t)(i / a->heads) * a->tokens + t;
            step(a, d, row, h, s, naive, out + (row * a->heads + h) * a->v_dim);
        }
    }
}

/* --- on the device --------------------------------------------------------------------------
 */

static void *put_state(struct kk *k, const struct scan_args *a, double **x)
{
    uint64_t n = (uint64_t)a->heads * a->v_dim * a->k_dim, size = a->wide ? 4 : 2;
    char *slots = arena_alloc(k->a, a->slot_bytes * a->sequences, 16);

    *x = ARENA_NEW(k->a, double, n * a->sequences);
    memset(slots, 0xff, a->slot_bytes * a->sequences);
    for (uint64_t i = 0; i < n * a->sequences; i++) {
        float wide = (float)kk_normal(k);
        uint16_t half = a->fp16 ? ks_bits_fp16((double)wide) : ks_bits_bf16((double)wide);
        memcpy(slots + i / n * a->slot_bytes + i % n * size,
               a->wide ? (void *)&wide : (void *)&half, size);
        (*x)[i] = a->wide ? (double)wide : kr_decoded(half, a->fp16);
    }
    return kk_put(k, TAG_STATE, slots, a->slot_bytes * a->sequences);
}

static void compare_state(struct kk *k, const struct scan_args *a, const double *want,
                          const double *naive)
{
    uint64_t n = (uint64_t)a->heads * a->v_dim * a->k_dim;
    char *slots = arena_alloc(k->a, a->slot_bytes * a->sequences, 16);
    struct kr_error e = {0, 0};

    kk_get(k, slots, a->state, a->slot_bytes * a->sequences);
    for (uint64_t i = 0; i < n * a->sequences; i++) {
        const char *at = slots + i / n * a->slot_bytes + i % n * (a->wide ? 4 : 2);
        double plain = a->wide   ? naive[i]
                       : a->fp16 ? ks_round_fp16(naive[i])
                                 : ks_round_bf16(naive[i]);
        float wide = 0;
        uint16_t half;
        memcpy(&wide, at, a->wide ? sizeof wide : sizeof half);
        memcpy(&half, at, sizeof half);
        e.ours += pow((a->wide ? (double)wide : kr_decoded(half, a->fp16)) - want[i], 2);
        e.naive += pow(plain - want[i], 2);
    }
    kr_good(&e);
}

static void put_all(struct kk *k, struct scan_args *a, struct data *d)
{
    uint64_t rows = (uint64_t)a->sequences * a->tokens, heads = a->heads;
    bool each = a->kind == SCAN_MAMBA1, delta = a->kind == SCAN_GDN || a->kind == SCAN_KDA;
    uint64_t rates = each ? a->v_dim : a->kind == SCAN_KDA ? heads * a->k_dim : heads;

    a->q = kr_random(k, TAG_ACTIVATION, rows * a->k_stride, a->fp16, &d->q);
    a->k = kr_random(k, TAG_ACTIVATION, rows * a->k_stride, a->fp16, &d->k);
    a->v = kr_random(k, TAG_ACTIVATION, rows * a->v_stride, a->fp16, &d->v);
    a->rate_stride = (uint32_t)rates + 8;
    if (a->kind != SCAN_LIGHTNING)
        a->rate = kr_random(k, TAG_ACTIVATION, rows * a->rate_stride, a->fp16, &d->rate);
    a->beta_stride = (uint32_t)heads + 3;
    if (delta)
        a->beta = kr_random(k, TAG_ACTIVATION, rows * a->beta_stride, a->fp16, &d->beta);
    if (a->kind <= SCAN_KDA)
        a->a_log = kr_random(k, TAG_WEIGHTS, each ? (uint64_t)a->v_dim * a->k_dim : heads,
                             a->fp16, &d->a_log);
    if (delta || a->kind == SCAN_MAMBA2)
        a->dt_bias = kr_random(k, TAG_WEIGHTS, rates, a->fp16, &d->dt_bias);
    if (a->kind <= SCAN_MAMBA2)
        a->d = kr_random(k, TAG_WEIGHTS, each ? a->v_dim : heads, a->fp16, &d->d);
    a->state = put_state(k, a, &d->before);
    a->out = kk_new(k, TAG_ACTIVATION, 2 * rows * heads * a->v_dim);
}

static void unique(const struct scan_args *a, uint64_t *read, uint64_t *written)
{
    uint64_t rows = 2 * (uint64_t)a->sequences * a->tokens, heads = a->heads;
    uint64_t state = a->sequences * heads * a->v_dim * a->k_dim * (a->wide ? 4 : 2);
    uint64_t rates = a->kind == SCAN_MAMBA1      ? a->v_dim
                     : a->kind == SCAN_KDA       ? heads * a->k_dim
                     : a->kind == SCAN_LIGHTNING ? 0
                                                 : heads;
    bool delta = a->kind == SCAN_GDN || a->kind == SCAN_KDA;

    read[TAG_STATE] = written[TAG_STATE] = state;
    read[TAG_ACTIVATION] = rows * (2 * (uint64_t)a->k_heads * a->k_dim + heads * a->v_dim +
                                   rates + (delta ? heads : 0));
    written[TAG_ACTIVATION] = rows * heads * a->v_dim;
    if (a->kind == SCAN_MAMBA1)
        read[TAG_WEIGHTS] = 2 * (uint64_t)a->v_dim * (a->k_dim + 1);
    else if (a->kind <= SCAN_KDA)
        read[TAG_WEIGHTS] = 2 * (heads + rates + (delta ? 0 : heads));
}

static void scan_of(struct kk *k, struct scan_args a)
{
    uint64_t n = (uint64_t)a.sequences * a.tokens * a.heads * a.v_dim;
    uint64_t matrix = (uint64_t)a.heads * a.v_dim * a.k_dim, size = a.sequences * matrix;
    double *state[2], *out[2];
    struct kr_error e = {0, 0};
    struct data d = {.q = NULL};
    struct traffic t = {0};
    uint64_t read[N_TAGS] = {0}, written[N_TAGS] = {0};

    a.k_stride = a.k_heads * a.k_dim + 8;
    a.v_stride = a.heads * a.v_dim + 16;
    a.slot_bytes = matrix * (a.wide ? 4 : 2) + 48;
    a.slope = 0.7f;
    put_all(k, &a, &d);
    for (int naive = 0; naive < 2; naive++) {
        state[naive] = ARENA_NEW(k->a, double, size);
        out[naive] = ARENA_NEW(k->a, double, n);
        recur(&a, &d, naive, state[naive], out[naive]);
    }
    device_tally_reset(k->d);
    kk_ok(k, scan_run(k->d, &a));
    kr_compare(k, a.out, n, a.fp16, out[0], out[1], &e);
    kr_good(&e);
    compare_state(k, &a, state[0], state[1]);
    scan_traffic(&a, &t);
    unique(&a, read, written);
    kr_counted(k, &t, read, written);
}

/* A step, a few tokens, and more than stand in shared memory at once. */
static void lengths(struct kk *k, struct scan_args a)
{
    static const uint32_t tokens[] = {1, 3, 21};

    for (size_t i = 0; i < sizeof tokens / sizeof *tokens; i++) {
        a.tokens = tokens[i];
        a.sequences = tokens[i] == 21 ? 1 : 2;
        a.wide = i != 1;
        scan_of(k, a);
    }
}

static void mamba1(void **state)
{
    lengths(*state,
            (struct scan_args){
                .kind = SCAN_MAMBA1, .heads = 1, .k_heads = 1, .k_dim = 16, .v_dim = 200});
    lengths(*state,
            (struct scan_args){
                .kind = SCAN_MAMBA1, .heads = 1, .k_heads = 1, .k_dim = 64, .v_dim = 40});
}

static void mamba2(void **state)
{
    lengths(*state,
            (struct scan_args){
                .kind = SCAN_MAMBA2, .heads = 4, .k_heads = 1, .k_dim = 128, .v_dim = 64});
    lengths(*state,
            (struct scan_args){
                .kind = SCAN_MAMBA2, .heads = 4, .k_heads = 2, .k_dim = 16, .v_dim = 136});
    lengths(*state,
            (struct scan_args){
                .kind = SCAN_MAMBA2, .heads = 1, .k_heads = 1, .k_dim = 256, .v_dim = 40});
}

static void delta(void **state)
{
    lengths(*state, (struct scan_args){
                        .kind = SCAN_GDN, .heads = 4, .k_heads = 2, .k_dim = 128, .v_dim = 64});
    lengths(*state, (struct scan_args){
                        .kind = SCAN_GDN, .heads = 2, .k_heads = 2, .k_dim = 16, .v_dim = 24});
    lengths(*state,
            (struct scan_args){
                .kind = SCAN_KDA, .heads = 2, .k_heads = 2, .k_dim = 128, .v_dim = 128});
    lengths(*state, (struct scan_args){
                        .kind = SCAN_KDA, .heads = 3, .k_heads = 3, .k_dim = 16, .v_dim = 16});
}

static void linear(void **state)
{
    struct scan_args a = {
        .kind = SCAN_LIGHTNING, .heads = 4, .k_heads = 4, .k_dim = 32, .v_dim = 32};

    lengths(*state, a);
    a.fp16 = true;
    lengths(*state, a);
    a.kind = SCAN_RETENTION;
    a.k_dim = a.v_dim = 64;
    lengths(*state, a);
}

static void refuses(void **state)
{
    struct kk *k = *state;
    struct scan_args good = {.kind = SCAN_MAMBA2,
                             .sequences = 1,
                             .tokens = 1,
                             .heads = 2,
                             .k_heads = 1,
                             .k_dim = 16,
                             .v_dim = 16},
                     a = good;

    a.sequences = 65536;
    kk_refused(k, scan_run(k->d, &a),
               "scan: 1 to 65535 sequences of at least one token and head");
    a = good;
    a.k_dim = 48;
    kk_refused(k, scan_run(k->d, &a), "scan: keys of 16, 32, 64, 128 or 256 elements");
    a = good;
    a.v_dim = 12;
    kk_refused(k, scan_run(k->d, &a), "scan: values of a multiple of 8 elements");
    a = good;
    a.k_heads = 4;
    kk_refused(k, scan_run(k->d, &a), "scan: heads are a multiple of those of keys");
    a = good;
    a.kind = SCAN_MAMBA1;
    kk_refused(k, scan_run(k->d, &a), "scan: Mamba-1 has one head of all channels");
    a = good;
    a.v_stride = 12;
    kk_refused(k, scan_run(k->d, &a), "scan: rows of a multiple of 8 elements");
    a = good;
    a.slot_bytes = 24;
    kk_refused(k, scan_run(k->d, &a), "scan: states are aligned to 16 bytes");
    a = good;
    a.heads = 1u << 31;
    kk_refused(k, scan_run(k->d, &a), "scan: at most 2^31 blocks of threads a sequence");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        kk_test(mamba1), kk_reversed(mamba1), kk_test(mamba2), kk_reversed(mamba2),
        kk_test(delta),  kk_reversed(delta),  kk_test(linear), kk_test(refuses),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
