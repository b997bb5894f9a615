/* The roofline against timings of single kernels that others published (tests/data/kernels.csv,
 * where the sources are): the error of each kind of work, and of a whole decode layer with its
 * launches. The efficiencies of the two cards are medians over the same collections, so that
 * this tells how well one figure a kind serves all shapes; it is not an independent check of
 * the bandwidths. The all-reduces are. Then the figures behind them: the link between cards,
 * the bytes of activations. */
#include <stdio.h>

#include "planner/base/unit.h"
#include "tests/kvplan.h"

enum { ROWS_MAX = 100, COLUMNS = 6 };

struct row {
    char gpu[40], model[24], kind[16];
    uint64_t rows, keys;
    double us;
};

struct table {
    struct row rows[ROWS_MAX];
    size_t n;
};

static void copy(char *to, size_t n, const char *from)
{
    assert_true(snprintf(to, n, "%s", from) < (int)n);
}

static void read_row(char *line, struct table *t)
{
    struct row *r = &t->rows[t->n];
    char *field[COLUMNS];
    size_t n = 0;

    assert_true(t->n < ROWS_MAX);
    for (char *at = line; at && n < COLUMNS; n++) {
        field[n] = at;
        at = strchr(at, ',');
        if (at)
            *at++ = '\0';
    }
    kt_u64(n, COLUMNS);
    copy(r->gpu, sizeof r->gpu, field[0]);
    copy(r->model, sizeof r->model, field[1]);
    copy(r->kind, sizeof r->kind, field[2]);
    kt_u64(unit_parse_u64(field[3], &r->rows), UNIT_OK);
    kt_u64(unit_parse_u64(field[4], &r->keys), UNIT_OK);
    kt_u64(unit_parse_double(field[5], &r->us), UNIT_OK);
    t->n++;
}

static void read_table(struct arena *a, struct table *t)
{
    char *line = kt_slurp(a, "tests/data/kernels.csv");
    bool titles = true;

    t->n = 0;
    assert_non_null(line);
    while (*line) {
        char *end = strchr(line, '\n');
        assert_non_null(end);
        *end = '\0';
        if (*line != '#' && !titles)
            read_row(line, t);
        else if (*line != '#')
            titles = false;
        line = end + 1;
    }
}

static struct kp *card(const char *gpu, const char *model)
{
    char text[512];

    snprintf(text, sizeof text, "model: %s\nhardware: {gpu: %s}\n", model, gpu);
    return kp_build(text);
}

static enum op op_of(const char *kind)
{
    static const struct {
        const char *kind;
        enum op op;
    } ops[] = {{"qkv", OP_QKV},
               {"output", OP_OUT},
               {"mlp", OP_MLP},
               {"head", OP_HEAD},
               {"elementwise", OP_ELEMENTWISE}};

    for (size_t i = 0; i < sizeof ops / sizeof *ops; i++)
        if (!strcmp(kind, ops[i].kind))
            return ops[i].op;
    return N_OPS;
}

/* Microseconds of a layer's op when `rows` tokens go through the products. Few tokens are
 * sequences that decode, many a prompt. */
static double product_us(const struct kp *k, enum op op, uint64_t rows)
{
    const struct work *w = &k->problem.whole_work;
    struct op_tally t = {{0}, {0}};
    double s[N_OPS], layers = op == OP_HEAD ? 1 : w->layers;

    if (rows > 256 || op == OP_ELEMENTWISE)
        work_prefill(w, &k->problem.whole, rows, 1, 0, &t);
    else
        work_decode(w, &k->problem.whole, 16, 0, rows, &t);
    roofline_seconds(&t, &k->problem.machine, 0, 0, s);
    return s[op] / layers * 1e6;
}

static double decode_us(const struct kp *k, uint64_t sequences, uint64_t keys)
{
    const struct work *w = &k->problem.whole_work;
    struct op_tally t = {{0}, {0}};
    double s[N_OPS];

    work_decode(w, &k->problem.whole, keys, 0, sequences, &t);
    roofline_seconds(&t, &k->problem.machine, 0, 0, s);
    return (s[OP_SCORES] + s[OP_VALUES]) / w->layers * 1e6;
}

/* The last 2,048 tokens of a prompt: the FLOP of all of it less that of what comes before. */
static double prompt_us(const struct kp *k, uint64_t rows, uint64_t before)
{
    const struct work *w = &k->problem.whole_work;
    struct op_tally all = {{0}, {0}}, first = {{0}, {0}};
    double s[N_OPS];

    work_prefill(w, &k->problem.whole, before + rows, 1, 0, &all);
    work_prefill(w, &k->problem.whole, before, 1, 0, &first);
    for (int op = 0; op < N_OPS; op++)
        all.flop[op] -= first.flop[op];
    roofline_seconds(&all, &k->problem.machine, 0, 0, s);
    return (s[OP_SCORES] + s[OP_VALUES]) / w->layers * 1e6;
}

static double all_reduce_us(const struct kp *k, uint64_t bytes)
{
    const struct gpu *g = &k->problem.gpu;

    return ((double)bytes / g->peer_bytes_per_s + g->peer_latency_s) * 1e6;
}

static double predicted_us(const struct kp *k, const struct row *r)
{
    if (!strcmp(r->kind, "decode"))
        return decode_us(k, r->rows, r->keys);
    if (!strcmp(r->kind, "prompt"))
        return prompt_us(k, r->rows, r->keys);
    if (!strcmp(r->kind, "all_reduce"))
        return all_reduce_us(k, r->rows);
    assert_true(op_of(r->kind) < N_OPS);
    return product_us(k, op_of(r->kind), r->rows);
}

static double absolute(double v)
{
    return v < 0 ? -v : v;
}

/* What is held: the mean of the absolute relative errors over rows from `least` rows on. */
struct bound {
    const char *gpu, *kind;
    uint64_t least, most;
    double mean;
};

static const struct bound bounds[] = {
    {"rtx-4090", "qkv", 0, 64, 0.03},
    {"rtx-4090", "qkv", 1024, 2048, 0.02},
    {"rtx-4090", "output", 0, 64, 0.15},
    {"rtx-4090", "output", 1024, 2048, 0.02},
    {"rtx-4090", "mlp", 0, 64, 0.01},
    {"rtx-4090", "mlp", 256, 256, 0.03},
    {"rtx-4090", "mlp", 1024, 2048, 0.03},
    {"rtx-4090", "head", 0, 64, 0.05},
    {"rtx-4090", "elementwise", 1024, 2048, 0.25},
    {"rtx-4090", "decode", 0, 256, 0.11},
    {"rtx-4090", "prompt", 2048, 2048, 0.05},
    {"rtx-pro-6000-blackwell-server", "qkv", 0, 64, 0.02},
    {"rtx-pro-6000-blackwell-server", "qkv", 1024, 2048, 0.06},
    {"rtx-pro-6000-blackwell-server", "output", 0, 64, 0.05},
    {"rtx-pro-6000-blackwell-server", "output", 1024, 2048, 0.07},
    {"rtx-pro-6000-blackwell-server", "mlp", 0, 64, 0.02},
    {"rtx-pro-6000-blackwell-server", "mlp", 256, 256, 0.06}, /* where the two sides meet */
    {"rtx-pro-6000-blackwell-server", "mlp", 1024, 2048, 0.08},
    {"rtx-pro-6000-blackwell-server", "head", 0, 64, 0.06},
    {"rtx-pro-6000-blackwell-server", "elementwise", 1024, 2048, 0.18},
    {"rtx-pro-6000-blackwell-server", "decode", 0, 256, 0.08},
    {"rtx-pro-6000-blackwell-server", "prompt", 2048, 2048, 0.07},
    {"rtx-pro-6000-blackwell-server", "all_reduce", 0, UINT64_MAX, 0.07},
};

static void check_bound(const struct table *t, const struct bound *b)
{
    double sum = 0, absolutes = 0;
    size_t n = 0;

    for (size_t i = 0; i < t->n; i++) {
        const struct row *r = &t->rows[i];
        if (strcmp(r->gpu, b->gpu) != 0 || strcmp(r->kind, b->kind) != 0 ||
            r->rows < b->least || r->rows > b->most)
            continue;
        struct kp *k = card(r->gpu, r->model);
        double error = predicted_us(k, r) / r->us - 1;
        sum += error;
        absolutes += absolute(error);
        n++;
        kp_free(k);
    }
    assert_true(n > 0);
    print_message(
        "%-30s %-12s %2zu rows: mean error %+6.1f %%, mean of the absolute %5.1f %%\n", b->gpu,
        b->kind, n, sum / (double)n * 100, absolutes / (double)n * 100);
    assert_true(absolutes / (double)n <= b->mean);
}

static void test_kinds(void **state)
{
    struct table t;

    (void)state;
    struct arena *a = arena_new();
    read_table(a, &t);
    for (size_t i = 0; i < sizeof bounds / sizeof *bounds; i++)
        check_bound(&t, &bounds[i]);
    arena_free(a);
}

/* One layer of a decode step of 64 sequences, everything it runs, against the roofline with its
 * nine launches, which stand for the small kernels and for what products and attention take
 * over their bytes. */
static void check_decode_layer(const struct table *t, const char *gpu, double bound)
{
    double measured_us = 0, predicted = 0, s[N_OPS];
    uint64_t keys = 0;
    struct kp *k = NULL;
    struct op_tally tally = {{0}, {0}};

    for (size_t i = 0; i < t->n; i++) {
        const struct row *r = &t->rows[i];
        if (strcmp(r->gpu, gpu) != 0 || r->rows != 64 || !strcmp(r->kind, "head") ||
            (!strcmp(r->kind, "decode") && keys))
            continue;
        k = k ? k : card(r->gpu, r->model);
        keys = r->keys ? r->keys : keys;
        measured_us += r->us;
    }
    assert_non_null(k);
    const struct work *w = &k->problem.whole_work;
    work_decode(w, &k->problem.whole, keys, 0, 64, &tally);
    predicted = roofline_seconds(&tally, &k->problem.machine,
                                 (double)KERNELS_PER_LAYER * w->layers, 0, s) -
                s[OP_HEAD];
    predicted *= 1e6 / w->layers;
    print_message("%-30s decode layer: %.0f us predicted, %.0f measured\n", gpu, predicted,
                  measured_us);
    kt_rel(predicted, measured_us, bound);
    kp_free(k);
}

static void test_decode_layers(void **state)
{
    struct table t;

    (void)state;
    struct arena *a = arena_new();
    read_table(a, &t);
    check_decode_layer(&t, "rtx-4090", 0.05);
    check_decode_layer(&t, "rtx-pro-6000-blackwell-server", 0.05);
    arena_free(a);
}

/* What an all-reduce gets: asked, else a quarter of the host link without NVLink (15.92 of
 * 63.02 GB/s), asked or not; one GPU has no peer. */
static void test_peer_link(void **state)
{
    static const struct {
        const char *hardware;
        double bytes_per_s;
    } cases[] = {
        {"{gpu: rtx-4090, count: 2, peer_link: 20GB/s}", 20e9},
        {"{gpu: rtx-4090, count: 2, link: 25GB/s}", 25e9 * 15.92 / 63.02},
        {"{gpu: rtx-4090, count: 2, link: 25GB/s, peer_link: 20GB/s}", 20e9},
        {"{gpu: rtx-4090, count: 2}", 16e9 * 16 * 128 / 130 / 8 * 15.92 / 63.02},
        {"{gpu: rtx-pro-6000-server, count: 2, link: 25GB/s}", 15.92e9},
        {"{gpu: h100, count: 2, link: 25GB/s}", 360e9},
        {"{gpu: h100, count: 2, peer_link: 400GB/s}", 400e9},
        {"{gpu: {memory: 24GiB, bandwidth: 1TB/s, bf16: 100TFLOPS}, count: 2, link: 63.02GB/s}",
         15.92e9},
        {"{gpu: rtx-4090, peer_link: 20GB/s}", 0},
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char text[400];
        snprintf(text, sizeof text, KP_LLAMA3_8B "hardware: %s\n%s", cases[i].hardware,
                 cases[i].bytes_per_s > 0 ? "parallel: {tp: 2}\n" : "");
        struct kp *k = kp_build(text);
        kt_rel(k->problem.machine.peer_bytes_per_s + 1, cases[i].bytes_per_s + 1, 1e-9);
        kp_free(k);
    }
    struct kp *k =
        kp_try(KP_LLAMA3_8B "hardware: {gpu: rtx-4090, count: 2, peer_link: 20GB}\n");
    assert_false(k->ok);
    kp_says(k, "'peer_link' in hardware: expected a rate such as 936GB/s, found '20GB'");
    kp_free(k);
}

/* Activations of a prompt token and layer in bytes of 2, by hand: two norms read and write
 * hidden; RoPE reads and writes queries and keys, once more with a norm of them; the activation
 * reads gate and up and writes one. None in a decode step. */
static void test_activations_moved(void **state)
{
    static const struct {
        const char *keys;
        double layer; /* elements a token */
    } cases[] = {
        {"", 4.0 * 512 + 2 * (8 + 2) * 64 + 3 * 1024},
        {", qk_norm: head", 4.0 * 512 + 4 * (8 + 2) * 64 + 3 * 1024},
        {", mlp: plain", 4.0 * 512 + 2 * (8 + 2) * 64 + 2 * 1024},
        {", moe: {experts: 16, top_k: 2, intermediate_size: 128}",
         4.0 * 512 + 2 * (8 + 2) * 64 + 3 * 2 * 128},
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char text[400];
        snprintf(text, sizeof text,
                 "model: {layers: 6, hidden_size: 512, %s heads: 8, kv_heads: 2, head_dim: 64, "
                 "vocab_size: 100%s}\nhardware: {memory: 1GiB, count: 2}\nparallel: {tp: 2}\n",
                 strstr(cases[i].keys, "moe") ? "" : "intermediate_size: 1024,", cases[i].keys);
        struct kp *k = kp_build(text);
        const struct stage *s = &k->problem.stages[0];
        struct op_tally t = {{0}, {0}}, d = {{0}, {0}}, half = {{0}, {0}};
        work_prefill(&k->problem.whole_work, &k->problem.whole, 10, 3, 0, &t);
        kt_rel(t.bytes[OP_ELEMENTWISE], 10 * 3 * 6 * 2 * cases[i].layer, 1e-12);
        kt_rel(t.flop[OP_ELEMENTWISE] + 1, 1, 1e-12);
        work_decode(&k->problem.whole_work, &k->problem.whole, 10, 0, 3, &d);
        kt_rel(d.bytes[OP_ELEMENTWISE] + 1, 1, 1e-12);
        /* norms are on every rank, the rest is divided */
        work_prefill(&s->work, &s->fold, 10, 3, 0, &half);
        kt_rel(half.bytes[OP_ELEMENTWISE],
               10 * 3 * 6 * 2 * (4.0 * 512 + (cases[i].layer - 4.0 * 512) / 2), 1e-12);
        kp_free(k);
    }
}

/* The same of whole models, by hand. DeepSeek-V3 rotates 64 of each of 128 query heads and of
 * the one key, has 3 dense layers of 18432 and 58 with 8 + 1 experts of 2048; OPT learns its
 * positions and has an MLP of two matrices; an upward map counts every pass, keys where they
 * are made. */
static void test_activations_of_models(void **state)
{
    (void)state;
    struct kp *k = kp_build("model: DeepSeek-V3\nhardware: {memory: 2000GiB}\n");
    kt_rel(k->problem.whole_work.move_bytes[0],
           2.0 * (61 * (4 * 7168 + 2 * 129 * 64) + 3 * 3 * 18432.0 + 58 * 3 * 9 * 2048.0),
           1e-12);
    kp_free(k);
    k = kp_build(
        "model: {layers: 12, hidden_size: 768, intermediate_size: 3072, heads: 12, "
        "kv_heads: 12, head_dim: 64, vocab_size: 100, mlp: plain, position_rows: 2048}\n"
        "hardware: {memory: 1GiB}\n");
    kt_rel(k->problem.whole_work.move_bytes[0], 2.0 * 12 * (4 * 768 + 2 * 3072), 1e-12);
    kp_free(k);
    k = kp_build(KP_LLAMA7B "hardware: {memory: 80GiB}\n"
                            "cache: {sharing: {scheme: lckv, warmup: 2}}\n");
    double passes = 0, made = 0;
    for (uint32_t i = 0; i < 32; i++) {
        passes += k->problem.layout.passes[i];
        made += layout_owns_kv(&k->problem.layout, i) ? k->problem.layout.passes[i] : 0;
    }
    kt_rel(passes, 272, 1e-12);
    kt_rel(k->problem.whole_work.move_bytes[0] + k->problem.whole_work.move_bytes[1],
           2 * (passes * (4 * 4096 + 2 * 4096 + 3 * 11008.0) + made * 2 * 4096), 1e-12);
    kp_free(k);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_kinds),
        cmocka_unit_test(test_decode_layers),
        cmocka_unit_test(test_peer_link),
        cmocka_unit_test(test_activations_moved),
        cmocka_unit_test(test_activations_of_models),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
