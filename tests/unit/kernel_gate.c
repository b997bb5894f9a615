/* kernel_gate: norms over groups with a gate before or after, against double precision; traffic
 * as the formula says. */
#include "kernels/gate.h"
#include "tests/kvrow.h"

struct data {
    double *x, *gate, *weight, *want;
};

static void expect(const struct gate_args *a, const struct data *d)
{
    for (uint64_t i = 0; i < (uint64_t)a->rows * a->width; i++) {
        uint64_t row = i / a->width, c = i % a->width, first = i - c % a->group;
        uint64_t at = row * (a->x_stride ? a->x_stride : a->width);
        double squares = 0, gate = 1, g[2];
        for (uint64_t j = first; j < first + a->group; j++) {
            double z = a->gate ? d->gate[row * a->gate_stride + j % a->width] : 0;
            double f = a->gate ? (a->sigmoid ? 1 : z) / (1 + exp(-z)) : 1;
            squares += pow(d->x[at + j % a->width] * (a->before ? f : 1), 2);
            gate = j == i ? f : gate;
        }
        g[0] = a->norm ? 1 / sqrt(squares / a->group + (double)a->epsilon) : 1;
        g[1] = a->weight ? d->weight[c % a->weight_width] : 1;
        d->want[i] = d->x[at + c] * gate * g[0] * g[1];
    }
}

static void gate_of(struct kk *k, struct gate_args a)
{
    uint64_t n = (uint64_t)a.rows * a.width;
    uint64_t all = (uint64_t)a.rows * (a.x_stride ? a.x_stride : a.width);
    bool gated = a.gate_stride > 0, in_place = a.group % 16 == 0 && !a.x_stride;
    struct data d = {.want = ARENA_NEW(k->a, double, n)};
    struct traffic t = {0};
    uint64_t read[N_TAGS] = {0}, written[N_TAGS] = {0};

    a.epsilon = 1e-5f;
    a.x = kr_random(k, TAG_ACTIVATION, all, a.fp16, &d.x);
    a.gate =
        gated ? kr_random(k, TAG_ACTIVATION, (uint64_t)a.rows * a.gate_stride, a.fp16, &d.gate)
              : NULL;
    a.weight =
        a.weight_width ? kr_random(k, TAG_WEIGHTS, a.weight_width, a.fp16, &d.weight) : NULL;
    a.out = in_place ? (void *)(uintptr_t)a.x : kk_new(k, TAG_ACTIVATION, 2 * n);
    expect(&a, &d);
    device_tally_reset(k->d);
    kk_ok(k, gate_run(k->d, &a));
    kr_close(k, a.out, n, a.fp16, d.want);
    gate_traffic(&a, &t);
    read[TAG_ACTIVATION] = 2 * n * (gated ? 2 : 1);
    read[TAG_WEIGHTS] = 2 * (uint64_t)a.weight_width;
    written[TAG_ACTIVATION] = 2 * n;
    kr_counted(k, &t, read, written);
}

static void all_kinds(void **state)
{
    static const struct gate_args cases[] = {
        {.rows = 3,
         .width = 4096,
         .group = 1024,
         .gate_stride = 4104,
         .weight_width = 4096,
         .norm = true,
         .before = true},
        {.rows = 2,
         .width = 2568,
         .group = 2568,
         .gate_stride = 2568,
         .weight_width = 2568,
         .norm = true,
         .sigmoid = true},
        {.rows = 5,
         .width = 512,
         .group = 128,
         .gate_stride = 512,
         .weight_width = 128,
         .norm = true},
        {.rows = 3,
         .width = 192,
         .group = 24,
         .gate_stride = 200,
         .weight_width = 24,
         .norm = true,
         .sigmoid = true,
         .fp16 = true},
        {.rows = 3, .width = 96, .group = 48, .weight_width = 96, .norm = true},
        {.rows = 3, .width = 96, .group = 8, .norm = true, .gate_stride = 96},
        {.rows = 4, .width = 3080, .group = 3080, .gate_stride = 3080, .counted = true},
        {.rows = 1, .width = 8, .group = 8, .gate_stride = 16, .sigmoid = true},
        {.rows = 5, .width = 48, .group = 48, .x_stride = 80},
        {.rows = 5, .width = 16, .group = 16, .x_stride = 80, .weight_width = 16, .norm = true},
    };

    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        gate_of(*state, cases[i]);
}

static void refuses(void **state)
{
    struct kk *k = *state;
    struct gate_args good = {.rows = 1, .width = 32, .group = 16}, a = good;

    a.group = 12;
    kk_refused(k, gate_run(k->d, &a),
               "gate: at least one row, of groups of a multiple of 8 elements");
    a.group = 24;
    kk_refused(k, gate_run(k->d, &a),
               "gate: at least one row, of groups of a multiple of 8 elements");
    a = good;
    a.weight = &a;
    a.weight_width = 24;
    kk_refused(k, gate_run(k->d, &a),
               "gate: weights of a multiple of 8 elements that divides the width");
    a = good;
    a.gate = &a;
    a.gate_stride = 24;
    kk_refused(k, gate_run(k->d, &a),
               "gate: gates of at least the width, a multiple of 8 elements");
    a = good;
    a.x_stride = 24;
    kk_refused(k, gate_run(k->d, &a),
               "gate: rows of x of at least the width, a multiple of 8 elements");
    a = good;
    a.rows = UINT32_MAX;
    kk_refused(k, gate_run(k->d, &a), "gate: at most 2^31 groups at once");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        kk_test(all_kinds),
        kk_reversed(all_kinds),
        kk_test(refuses),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
