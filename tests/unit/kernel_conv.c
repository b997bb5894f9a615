/* kernel_conv: the short convolution against double precision, token by token from a list of
 * everything that came before; prompts and steps leave the same state; traffic as the formula
 * says. */
#include "kernels/conv.h"
#include "tests/kvrow.h"

struct shape {
    uint32_t sequences, tokens, channels, taps, stride;
    bool silu, gates, bias, wide, fp16;
};

static double element(const struct shape *s, const double *x, const double *gate,
                      const double *state, int64_t at, uint32_t c)
{
    if (at < 0)
        return state[(uint64_t)(at + s->taps - 1) * s->channels + c];
    double v = x[(uint64_t)at * s->stride + c];
    if (!s->gates)
        return v;
    v *= gate[(uint64_t)at * s->stride + c];
    return s->fp16 ? ks_round_fp16((float)v) : ks_round_bf16((float)v);
}

struct data {
    double *x, *in, *out, *w, *bias, *state, *want, *after;
};

static void expect(const struct shape *s, const struct data *d)
{
    uint32_t columns = s->taps - 1;

    for (uint32_t q = 0; q < s->sequences; q++) {
        uint64_t at = (uint64_t)q * s->tokens * s->stride;
        const double *x = d->x + at, *in = d->in + at;
        const double *state = d->state + (uint64_t)q * columns * s->channels;
        for (uint32_t c = 0; c < s->channels; c++) {
            for (uint32_t i = 0; i < s->tokens; i++) {
                double y = s->bias ? d->bias[c] : 0;
                for (uint32_t j = 0; j < s->taps; j++)
                    y += d->w[c * s->taps + j] *
                         element(s, x, in, state, (int64_t)i + j - columns, c);
                y = s->silu ? y / (1 + exp(-y)) : y;
                y *= s->gates ? d->out[at + i * s->stride + c] : 1;
                d->want[((uint64_t)q * s->tokens + i) * s->channels + c] = y;
            }
            for (uint32_t j = 0; j < columns; j++)
                d->after[((uint64_t)q * columns + j) * s->channels + c] =
                    element(s, x, in, state, (int64_t)s->tokens + j - columns, c);
        }
    }
}

/* States of all sequences with a gap after each. */
static void *put_state(struct kk *k, const struct shape *s, uint64_t slot, double **x)
{
    uint64_t n = (uint64_t)(s->taps - 1) * s->channels, size = s->wide ? 4 : 2;
    char *slots = arena_alloc(k->a, slot * s->sequences, 16);

    *x = ARENA_NEW(k->a, double, n * s->sequences);
    memset(slots, 0xff, slot * s->sequences);
    for (uint64_t i = 0; i < n * s->sequences; i++) {
        double v = s->fp16 ? ks_round_fp16(kk_normal(k)) : ks_round_bf16(kk_normal(k));
        float wide = (float)v;
        uint16_t half = s->fp16 ? ks_bits_fp16(v) : ks_bits_bf16(v);
        memcpy(slots + i / n * slot + i % n * size, s->wide ? (void *)&wide : (void *)&half,
               size);
        (*x)[i] = v;
    }
    return kk_put(k, TAG_STATE, slots, slot * s->sequences);
}

static void check_state(struct kk *k, const struct shape *s, const struct conv_args *a,
                        const double *want)
{
    uint64_t n = (uint64_t)(s->taps - 1) * s->channels;
    char *slots = arena_alloc(k->a, a->slot_bytes * s->sequences, 16);

    kk_get(k, slots, a->state, a->slot_bytes * s->sequences);
    for (uint64_t i = 0; i < n * s->sequences; i++) {
        const char *at = slots + i / n * a->slot_bytes + i % n * (s->wide ? 4 : 2);
        float wide;
        uint16_t half;
        memcpy(&wide, at, sizeof wide * s->wide);
        memcpy(&half, at, sizeof half);
        assert_true((s->wide ? (double)wide : kr_decoded(half, s->fp16)) == want[i]);
    }
}

static void convolve(struct kk *k, struct shape s)
{
    uint64_t rows = (uint64_t)s.sequences * s.tokens, n = rows * s.channels;
    uint64_t state = (uint64_t)(s.taps - 1) * s.channels * (s.wide ? 4 : 2);
    struct data d = {
        .want = ARENA_NEW(k->a, double, n),
        .after = ARENA_NEW(k->a, double, (uint64_t)s.sequences *(s.taps - 1) * s.channels)};
    struct conv_args a = {.sequences = s.sequences,
                          .tokens = s.tokens,
                          .channels = s.channels,
                          .taps = s.taps,
                          .x_stride = s.stride,
                          .slot_bytes = state + 32,
                          .silu = s.silu,
                          .wide = s.wide,
                          .fp16 = s.fp16};
    struct traffic t = {0};
    uint64_t read[N_TAGS] = {0}, written[N_TAGS] = {0};

    a.x = kr_random(k, TAG_ACTIVATION, rows * s.stride, s.fp16, &d.x);
    d.in = d.x;
    if (s.gates) {
        a.gate_in = kr_random(k, TAG_ACTIVATION, rows * s.stride, s.fp16, &d.in);
        a.gate_out = kr_random(k, TAG_ACTIVATION, rows * s.stride, s.fp16, &d.out);
    }
    a.weight = kr_random(k, TAG_WEIGHTS, (uint64_t)s.channels * s.taps, s.fp16, &d.w);
    a.bias = s.bias ? kr_random(k, TAG_WEIGHTS, s.channels, s.fp16, &d.bias) : NULL;
    a.state = put_state(k, &s, a.slot_bytes, &d.state);
    a.out = kk_new(k, TAG_ACTIVATION, 2 * n);
    expect(&s, &d);
    device_tally_reset(k->d);
    kk_ok(k, conv_run(k->d, &a));
    kr_close(k, a.out, n, s.fp16, d.want);
    check_state(k, &s, &a, d.after);
    conv_traffic(&a, &t);
    read[TAG_STATE] = written[TAG_STATE] = state * s.sequences;
    read[TAG_WEIGHTS] = 2 * (uint64_t)s.channels * (s.taps + s.bias);
    read[TAG_ACTIVATION] = 2 * n * (s.gates ? 3 : 1);
    written[TAG_ACTIVATION] = 2 * n;
    kr_counted(k, &t, read, written);
}

/* Steps, prompts shorter than the filter, of one tile, and of several. */
static void lengths(void **state)
{
    static const uint32_t tokens[] = {1, 2, 3, 5, 16, 17, 50};

    for (size_t i = 0; i < sizeof tokens / sizeof *tokens; i++)
        for (uint32_t taps = 2; taps <= 4; taps++)
            convolve(*state, (struct shape){2, tokens[i], 24, taps, 32, true, false, true,
                                            tokens[i] % 2, taps == 3});
}

static void gated(void **state)
{
    convolve(*state, (struct shape){3, 1, 40, 3, 120, false, true, false, false, false});
    convolve(*state, (struct shape){1, 39, 40, 3, 120, false, true, false, false, false});
    convolve(*state, (struct shape){2, 21, 16, 4, 16, true, true, true, true, true});
}

static void many_channels(void **state)
{
    convolve(*state, (struct shape){2, 33, 1536, 4, 1536, true, false, false, false, false});
}

static void refuses(void **state)
{
    struct kk *k = *state;
    struct conv_args good = {.sequences = 1, .tokens = 1, .channels = 8, .x_stride = 8};
    struct conv_args a = good;

    a.channels = 12;
    kk_refused(k, conv_run(k->d, &a), "conv: at least one token, of a multiple of 8 channels");
    a = good;
    a.channels = 16;
    kk_refused(k, conv_run(k->d, &a), "conv: rows of x overlap");
    a = good;
    a.taps = 5;
    kk_refused(k, conv_run(k->d, &a), "conv: filters of 2 to 4 taps");
    a.taps = 4;
    a.slot_bytes = 24;
    kk_refused(k, conv_run(k->d, &a), "conv: states are aligned to 16 bytes");
    a.slot_bytes = 16;
    a.gate_in = &a;
    kk_refused(k, conv_run(k->d, &a), "conv: a gate on both sides or on none");
    a.gate_in = NULL;
    a.tokens = a.sequences = UINT32_MAX;
    kk_refused(k, conv_run(k->d, &a), "conv: at most 2^31 blocks of threads at once");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        kk_test(lengths),   kk_reversed(lengths),   kk_test(gated),
        kk_reversed(gated), kk_test(many_channels), kk_test(refuses),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
