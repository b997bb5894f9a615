/* Tables of measured steps: interpolation worked out by hand, and every message. */
#include "sim/step.h"

#include "tests/kvplan.h"

#define SPEC                                                                                   \
    "model: meta-llama-3.1-8b\nhardware: {gpu: h100-sxm-80gb}\n"                               \
    "workload: {prompt: 100, output: 10, batch: 4}\n"

static struct step_model *model_of(struct kp *k)
{
    struct step_model *m = ARENA_NEW(k->arena, struct step_model, 1);
    struct step_options opt = {0, NULL};
    bool ok = step_build(k->arena, &k->problem, &opt, k->diag, m);

    if (!ok)
        diag_print(k->diag, 0, true, stderr);
    assert_true(ok);
    return m;
}

static void add_decode(const struct step_model *m, uint64_t n, uint64_t decoded,
                       uint64_t *steps, struct step_batch *b)
{
    for (uint32_t i = 0; i < m->n_stages; i++) {
        struct curve_piece p;
        curve_reads(&m->curves[i], n, decoded, &p);
        step_batch_add(b, i, m->curves[i].n_reads, &p, 1);
        *steps = u64_min(*steps, p.steps);
    }
    b->decodes++;
}

static const char measured[] = "prefill_tokens,decodes,context_tokens,seconds\r\n"
                               "0,8,0,0.010\n0,8,1000,0.012\n0,8,3000,0.014\n"
                               "0,16,0,0.020\n0,16,2000,0.024\n"
                               "\n"
                               "1024,0,0,0.100\n"
                               "1024,8,0,0.110\n1024,8,1000,0.112\n"
                               "1024,16,500,0.130\n";

static const struct step_table *table_of(struct arena *a, const char *text)
{
    struct diag *d = diag_new(a);
    const struct step_table *t = NULL;
    bool ok = step_table_parse(a, "steps.csv", text, strlen(text), d, &t);

    if (!ok)
        diag_print(d, 0, true, stderr);
    assert_true(ok);
    return t;
}

/* Time at one context, from the places. */
static double table_s(const struct step_table *t, double prefill, double decodes,
                      double context)
{
    struct table_place p[TABLE_PLACES];
    uint32_t n = step_table_line(t, prefill, decodes, p), i = n - 1;

    while (i && p[i].from > context)
        i--;
    return p[i].seconds + (context - p[i].from) * p[i].slope;
}

static void table_between_rows(void **state)
{
    (void)state;
    struct arena *a = arena_new();
    const struct step_table *t = table_of(a, measured);

    kt_rel(table_s(t, 0, 8, 0), 0.010, 1e-12);
    kt_rel(table_s(t, 0, 8, 500), 0.011, 1e-12);
    kt_rel(table_s(t, 0, 8, 2000), 0.013, 1e-12);
    kt_rel(table_s(t, 0, 8, 5000), 0.016, 1e-12);  /* on as between the last two */
    kt_rel(table_s(t, 0, 12, 1000), 0.017, 1e-12); /* halfway from 0.012 to 0.022 */
    kt_rel(table_s(t, 0, 24, 0), 0.030, 1e-12);    /* past the largest: on */
    kt_rel(table_s(t, 0, 4, 0), 0.010, 1e-12);     /* halfway to the shortest step */
    kt_rel(table_s(t, 512, 0, 0), 0.055, 1e-12);
    kt_rel(table_s(t, 512, 8, 500), 0.061, 1e-12); /* 0.011 and 0.111 */
    kt_rel(table_s(t, 2048, 8, 0), 0.210, 1e-12);
    kt_rel(table_s(t, 1024, 16, 0), 0.130, 1e-12); /* level before the first */
    kt_rel(table_s(t, 1024, 16, 9e5), 0.130, 1e-12);
    kt_rel(table_s(t, 512, 12, 1000), (0.017 + (0.112 + 0.130) / 2) / 2, 1e-12);
    arena_free(a);
}

/* A noisy table never gives time back. */
static void table_never_falls_below_zero(void **state)
{
    (void)state;
    struct kp *k = kp_build(SPEC);
    struct step_model *m = model_of(k);
    struct step_batch *b = ARENA_NEW(k->arena, struct step_batch, 1);
    struct step_line line;

    m->table = table_of(k->arena, "prefill_tokens,decodes,context_tokens,seconds\n"
                                  "0,1,0,0.5\n0,2,0,0.1\n");
    assert_true(curve_build(k->arena, &k->problem, 0, true, k->diag, &m->curves[0]));
    m->overhead_s = 0.25;
    b->decodes = 3;
    step_prepare(m, b, &line);
    kt_rel(step_sum_s(&line, 4), 1, 1e-12);
    kp_free(k);
}

/* The context of decodes grows by one each a step, that of a moving chunk by the chunk. */
static void table_in_steps(void **state)
{
    (void)state;
    struct kp *k = kp_build(SPEC);
    struct step_model *m = model_of(k);
    struct step_batch *b = ARENA_NEW(k->arena, struct step_batch, 1);
    struct step_line line;
    uint64_t steps = CURVE_FOREVER;
    double sum = 0;

    m->table = table_of(k->arena, measured);
    assert_true(curve_build(k->arena, &k->problem, 0, true, k->diag, &m->curves[0]));
    for (int i = 0; i < 8; i++)
        add_decode(m, 50, 30, &steps, b);
    kt_u64(steps, CURVE_FOREVER);
    step_prepare(m, b, &line);
    for (uint64_t i = 0; i < 700; i++) { /* contexts 640, 648, ... 6232: past 1000 and 3000 */
        kt_rel(step_sum_s(&line, i), sum, 1e-9);
        sum += table_s(m->table, 0, 8, 640 + 8.0 * (double)i);
        kt_u64(step_count(&line, sum * (1 - 1e-9), 1000), i + 1);
    }
    b->chunks[0] = (struct step_chunk){9000, 100, 256, false};
    b->n_chunks = 1;
    b->stride = true;
    step_prepare(m, b, &line);
    for (uint64_t i = 0; i < 30; i++) {
        double context = 640 + 100 + (8.0 + 256.0) * (double)i;
        kt_rel(step_sum_s(&line, i + 1) - step_sum_s(&line, i),
               table_s(m->table, 256, 8, context), 1e-9);
    }
    kp_free(k);
}

static void bad_tables(void **state)
{
#define HEAD "prefill_tokens,decodes,context_tokens,seconds\n"
    static const char *const bad[][2] = {
        {"", "steps.csv: error: is empty; a table of steps starts with "
             "prefill_tokens,decodes,context_tokens,seconds\n"},
        {"tokens,seconds\n", "steps.csv:1:1: error: a table of steps starts with "
                             "prefill_tokens,decodes,context_tokens,seconds\n"},
        {HEAD, "steps.csv:1:1: error: there is no row below the header\n"},
        {HEAD "0 1\n",
         "steps.csv:2:2: error: a comma is needed after prefill_tokens, found ' '\n"},
        {HEAD "0,1;\n", "steps.csv:2:4: error: a comma is needed after decodes, found ';'\n"},
        {HEAD "0,1,2\n",
         "steps.csv:2:6: error: a comma is needed after context_tokens, found the "
         "end of the line\n"},
        {HEAD "0,1,x,2\n",
         "steps.csv:2:5: error: context_tokens must be a whole number, found 'x'\n"},
        {HEAD "0,1,2,1 \n",
         "steps.csv:2:8: error: the end of the line is due after seconds, found ' '\n"},
        {HEAD "0,1,2,0\n", "steps.csv:2:1: error: a step takes more than 0 s\n"},
        {HEAD "0,1,2,0.1\n0,1,3,0.1\n0,1,2,0.2\n",
         "steps.csv:4:1: error: the same step as in line 2\n"},
        {HEAD "0,1,2,0.1\n8,2,2,0.1\n",
         "steps.csv: error: no row of 0 prefill_tokens and 2 decodes: every combination of "
         "their values is needed\n"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct arena *a = arena_new();
        struct diag *d = diag_new(a);
        const struct step_table *t;
        assert_false(step_table_parse(a, "steps.csv", bad[i][0], strlen(bad[i][0]), d, &t));
        kt_u64((uint64_t)diag_exit(d), 3);
        kt_printed(d, bad[i][1]);
        arena_free(a);
    }
}

/* One more than a place, an axis and a file may have: rows whose numbered column counts up. */
static void too_much(void **state)
{
    static const struct {
        int column, rows;
        const char *says;
    } cases[] = {
        {2, 65, "steps.csv:66:1: error: more than 64 rows of 8 prefill_tokens and 4 decodes\n"},
        {0, 65, "steps.csv:66:1: error: more than 64 different values of prefill_tokens\n"},
        {1, 65, "steps.csv:66:1: error: more than 64 different values of decodes\n"},
        {2, 100000, "steps.csv:2:1: error: a table of steps has at most 1048576 bytes\n"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct arena *a = arena_new();
        struct diag *d = diag_new(a);
        const struct step_table *t;
        size_t room = (size_t)cases[i].rows * 40 + sizeof HEAD, used = sizeof HEAD - 1;
        char *text = ARENA_NEW(a, char, room);
        memcpy(text, HEAD, sizeof HEAD);
        for (int k = 0; k < cases[i].rows; k++) {
            int v[] = {8, 4, 0};
            v[cases[i].column] = k;
            used +=
                (size_t)snprintf(text + used, room - used, "%d,%d,%d,0.1\n", v[0], v[1], v[2]);
        }
        assert_false(step_table_parse(a, "steps.csv", text, used, d, &t));
        kt_printed(d, cases[i].says);
        arena_free(a);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(table_between_rows), cmocka_unit_test(table_never_falls_below_zero),
        cmocka_unit_test(table_in_steps),     cmocka_unit_test(bad_tables),
        cmocka_unit_test(too_much),
    };
    return cmocka_run_group_tests_name("sim_step_table", tests, NULL, NULL);
}
