/* llama.cpp's arithmetic: cells by period, buffers against what real servers printed
 * (tests/data/engine_llamacpp.csv, a public source on each row), and the sizes of graphs. */
#include "planner/engine/llamacpp/llamacpp.h"
#include "planner/base/unit.h"
#include "tests/kvplan.h"

#define MIB ((uint64_t)1 << 20)

/* --- cells ----------------------------------------------------------------------------------
 */

/* n_ctx padded to 256, streams, cells of full and sliding layers.
 * source: ggml-org/llama.cpp src/llama-kv-cache-iswa.cpp (02c28f5), src/llama-context.cpp */
static void test_cells(void **state)
{
    static const struct {
        uint64_t n_ctx, window, n_ubatch, n_seq;
        bool unified, swa_full;
        uint64_t want_n_ctx, base, swa, streams;
    } cases[] = {
        {8192, 1024, 512, 1, true, false, 8192, 8192, 1536, 1},
        {8192, 1024, 512, 4, true, false, 8192, 8192, 4608, 1},
        {8192, 1024, 512, 4, false, false, 8192, 2048, 1536, 4},
        {131072, 4096, 512, 1, true, false, 131072, 131072, 4608, 1},
        {8192, 1024, 512, 1, true, true, 8192, 8192, 8192, 1},
        {20000, 0, 512, 1, false, false, 20224, 20224, 20224, 1},
        {1024, 512, 512, 3, false, false, 1536, 512, 512, 3},
        {8192, 128, 128, 1, false, false, 8192, 8192, 256, 1},
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct ck ck = {0};
        struct lcpp_ask ask = {.n_ctx = cases[i].n_ctx,
                               .n_ubatch = cases[i].n_ubatch,
                               .n_seq = cases[i].n_seq,
                               .unified = cases[i].unified,
                               .flash_attn = true,
                               .swa_full = cases[i].swa_full};
        struct lcpp_context c = lcpp_context_of(LCPP_LATENT_ONLY, &ask, &ck);
        kt_u64(c.n_ctx, cases[i].want_n_ctx);
        kt_u64(c.n_ctx_seq, cases[i].base);
        kt_u64(c.streams, cases[i].streams);
        kt_u64(lcpp_cells(&c, cases[i].window, &ck), cases[i].swa);
        assert_false(ck.over);
    }
}

/* The same request, 1000 tokens for 3 sequences, window 100, n_batch 2000, n_ubatch 64, by
 * period: without flash attention the padding was 32 up to November 2025. */
static void test_history(void **state)
{
    static const struct {
        const char *version;
        enum lcpp_rules rules;
        uint64_t n_ctx, streams, cells, swa;
    } cases[] = {
        {"2024-01", LCPP_ONE_POOL, 1024, 1, 1024, 1024},
        {"2025-05", LCPP_SWA_BATCH, 1024, 1, 1024, 1024}, /* min(1024, pad(300 + 1000)) */
        {"2025-06-30", LCPP_SWA_UBATCH, 1024, 1, 1024, 384},
        {"2025-08", LCPP_STREAMS, 1056, 3, 352, 192},
        {"2025-11", LCPP_PAD_256, 1536, 3, 512, 256},
        {"2026-08-18", LCPP_LATENT_ONLY, 1536, 3, 512, 256},
        {NULL, LCPP_LATENT_ONLY, 1536, 3, 512, 256},
    };
    static const char *const bad[] = {"b6000",     "2025",    "2025-13",
                                      "2025-00",   "2025/06", "2025-06-00",
                                      "2025-06-1", "20250-6", "0.19.0"};
    struct lcpp_ask ask = {.n_ctx = 1000, .n_batch = 2000, .n_ubatch = 64, .n_seq = 3};
    enum lcpp_rules rules;

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct ck ck = {0};
        assert_true(lcpp_rules_of(cases[i].version, &rules));
        kt_u64(rules, cases[i].rules);
        struct lcpp_context c = lcpp_context_of(rules, &ask, &ck);
        kt_u64(c.n_batch, 1000);
        kt_u64(c.n_ubatch, 64);
        kt_u64(c.n_ctx, cases[i].n_ctx);
        kt_u64(c.streams, cases[i].streams);
        kt_u64(c.n_ctx_seq, cases[i].cells);
        kt_u64(lcpp_cells(&c, 100, &ck), cases[i].swa);
    }
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_false(lcpp_rules_of(bad[i], &rules));
}

static void test_slots(void **state)
{
    struct ck ck = {0};
    struct lcpp_ask ask = {.n_ctx = 8192, .n_seq = 4};
    struct lcpp_context c = lcpp_context_of(LCPP_LATENT_ONLY, &ask, &ck);

    (void)state;
    kt_u64(lcpp_slots(&c, 2048), 4);
    kt_u64(lcpp_slots(&c, 2049), 0);
    ask.unified = true;
    c = lcpp_context_of(LCPP_LATENT_ONLY, &ask, &ck);
    kt_u64(lcpp_slots(&c, 8192), 1);
    kt_u64(lcpp_slots(&c, 2731), 2);
    kt_u64(lcpp_slots(&c, 100), 4);
}

/* --- buffers --------------------------------------------------------------------------------
 */

#define FREE_HARDWARE "hardware: {memory: 4TiB}\n"

/* 32 layers of 1024 + 1024 elements, 8192 cells.
 * source: ggml-org/llama.cpp ggml/src/ggml-common.h (01243c5), common/arg.cpp kv_cache_types */
static void test_cache_types(void **state)
{
    static const struct {
        const char *type;
        uint64_t bytes;
    } cases[] = {
        {"fp16", 1073741824}, {"bf16", 1073741824}, {"q4_0", 301989888},   {"q4_1", 335544320},
        {"q5_1", 402653184},  {"q8_0", 570425344},  {"iq4_nl", 301989888}, {"fp32", 2147483648},
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char yaml[512];
        snprintf(yaml, sizeof yaml,
                 KP_LLAMA3_8B FREE_HARDWARE "engine: {name: llamacpp, max_model_len: 8192, "
                                            "n_seq: 1}\ncache: {format: %s}\n",
                 cases[i].type);
        struct kp *k = kp_build(yaml);
        const struct budget *b = &k->problem.stages[0].budget;
        kt_u64(b->k_bytes + b->v_bytes, cases[i].bytes);
        kt_u64(b->kv_pool_bytes, cases[i].bytes);
        kp_free(k);
    }
}

/* Mamba-2: 3 x (8192 + 2 x 8 x 128) + 128 x 8192 elements in fp32, whatever the cache type.
 * source: ggml-org/llama.cpp src/llama-hparams.cpp (01b77b5) */
static void test_states(void **state)
{
    (void)state;
    struct kp *k = kp_build(
        "model: {layers: 2, hidden_size: 4096, vocab_size: 1000, ssm: {kind: mamba2, heads: 128, "
        "head_dim: 64, state_dim: 128, groups: 8, conv_kernel: 4}}\n" FREE_HARDWARE
        "engine: {name: llamacpp, n_seq: 3, max_model_len: 4096}\n");
    kt_u64(k->problem.whole.state_bytes, 2 * 4 * (30720 + 1048576));
    kt_u64(k->problem.stages[0].budget.state_bytes, 3 * 2 * 4 * (30720 + 1048576));
    kt_u64(k->problem.stages[0].budget.kv_pool_bytes, 0);
    kp_free(k);
}

#define MLA_MODEL                                                                               \
    "model: {layers: 3, hidden_size: 512, intermediate_size: 512, vocab_size: 1000, heads: 4, " \
    "mla: {q_lora_rank: 64, kv_lora_rank: 512, nope_dim: 128, rope_dim: 64, v_dim: 128}%s}\n"

/* A latent is 576 wide; V was kept beside it, 512 wide, up to January 2026; an indexer's keys
 * have the type of K. */
static void test_latents(void **state)
{
    static const struct {
        const char *index, *version;
        uint64_t k, v;
    } cases[] = {
        {"", "2026-01", 3 * 576 * 2 * 1024, 0},
        {"", "2025-12", 3 * 576 * 2 * 1024, 3 * 512 * 2 * 1024},
        {", indexer: {heads: 8, dim: 128, top_k: 64}", "2026-01", 3 * 704 * 2 * 1024, 0},
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char yaml[600];
        snprintf(yaml, sizeof yaml,
                 MLA_MODEL FREE_HARDWARE
                 "engine: {name: llamacpp, max_model_len: 1024, n_seq: 1, "
                 "version: \"%s\"}\n",
                 cases[i].index, cases[i].version);
        struct kp *k = kp_build(yaml);
        kt_u64(k->problem.stages[0].budget.k_bytes, cases[i].k);
        kt_u64(k->problem.stages[0].budget.v_bytes, cases[i].v);
        kp_free(k);
    }
}

/* Transposed V is as wide as the widest layer where widths differ: 2 x 64 beside 4 x 64. */
static void test_transposed_v(void **state)
{
    static const char model[] =
        "model: {layers: 2, hidden_size: 256, intermediate_size: 512, vocab_size: 1000, heads: 4, "
        "head_dim: 64, kv_heads: 4, layer_kinds: {wide: {}, narrow: {kv_heads: 2}}, layer_types: "
        "[wide, narrow]}\n" FREE_HARDWARE;
    static const uint64_t want[] = {1024 * (256 + 256) * 2, 1024 * (256 + 128) * 2};

    (void)state;
    for (int flash = 0; flash < 2; flash++) {
        char yaml[600];
        snprintf(yaml, sizeof yaml,
                 "%sengine: {name: llamacpp, max_model_len: 1024, n_seq: 1, flash_attn: %s}\n",
                 model, flash ? "true" : "false");
        struct kp *k = kp_build(yaml);
        kt_u64(k->problem.stages[0].budget.k_bytes, 1024 * (256 + 128) * 2);
        kt_u64(k->problem.stages[0].budget.v_bytes, want[flash]);
        kp_free(k);
    }
}

/* --- what servers printed -------------------------------------------------------------------
 */

enum column {
    ID,
    MODEL,
    N_CTX,
    N_BATCH,
    N_UBATCH,
    N_SEQ,
    UNIFIED,
    FLASH,
    K_TYPE,
    V_TYPE,
    K_BYTES,
    V_BYTES,
    POOL_BYTES,
    STATE_BYTES,
    COMPUTE_BYTES,
    TOLERANCE,
    SOURCE,
    N_COLUMNS
};

/* Cuts a line at its semicolons, in place. */
static void split(char *line, char *out[N_COLUMNS])
{
    int n = 0;

    out[n++] = line;
    for (char *p = line; *p; p++) {
        if (*p != ';')
            continue;
        *p = '\0';
        assert_true(n < N_COLUMNS);
        out[n++] = p + 1;
    }
    assert_int_equal(n, N_COLUMNS);
}

static size_t add_key(char *to, size_t room, const char *key, const char *value)
{
    return *value ? (size_t)snprintf(to, room, ", %s: %s", key, value) : 0;
}

/* The rest of the line that begins with `name;`. */
static const char *model_of(const char *models, const char *name)
{
    size_t n = strlen(name);

    for (const char *line = models; line; line = strchr(line, '\n')) {
        line += *line == '\n';
        if (!strncmp(line, name, n) && line[n] == ';')
            return line + n + 1;
    }
    fail_msg("no model %s", name);
    return "";
}

static void row_yaml(const char *models, char *const f[N_COLUMNS], char *to, size_t room)
{
    static const struct {
        enum column c;
        const char *key;
    } keys[] = {{N_CTX, "max_model_len"}, {N_BATCH, "n_batch"},    {N_UBATCH, "n_ubatch"},
                {N_SEQ, "n_seq"},         {UNIFIED, "kv_unified"}, {FLASH, "flash_attn"}};
    const char *model = model_of(models, f[MODEL]);
    size_t n = 0;

    n += (size_t)snprintf(to + n, room - n,
                          "model: {%.*s}\n" FREE_HARDWARE "engine: {name: llamacpp",
                          (int)strcspn(model, "\n"), model);
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++)
        n += add_key(to + n, room - n, keys[i].key, f[keys[i].c]);
    n += (size_t)snprintf(to + n, room - n, "}\n");
    if (*f[K_TYPE])
        snprintf(to + n, room - n, "cache: {k: %s, v: %s}\n", f[K_TYPE], f[V_TYPE]);
}

static void within(const char *id, const char *what, uint64_t got, const char *want,
                   uint64_t tol)
{
    uint64_t w;

    if (!*want)
        return;
    assert_int_equal(unit_parse_u64(want, &w), UNIT_OK);
    if ((got > w ? got - w : w - got) > tol)
        fail_msg("%s %s: got %llu, want %s within %llu", id, what, (unsigned long long)got,
                 want, (unsigned long long)tol);
}

/* Exact to the printed digit; compute buffers within 10 % or 50 MiB. */
static void check_row(const char *models, char *const f[N_COLUMNS])
{
    char yaml[1024];
    uint64_t tol, compute = 0;

    row_yaml(models, f, yaml, sizeof yaml);
    struct kp *k = kp_build(yaml);
    const struct budget *b = &k->problem.stages[0].budget;
    assert_int_equal(unit_parse_u64(f[TOLERANCE], &tol), UNIT_OK);
    within(f[ID], "K", b->k_bytes, f[K_BYTES], tol);
    within(f[ID], "V", b->v_bytes, f[V_BYTES], tol);
    within(f[ID], "pool", b->kv_pool_bytes, f[POOL_BYTES], tol);
    within(f[ID], "state", k->problem.whole.state_bytes, f[STATE_BYTES], tol);
    if (*f[COMPUTE_BYTES])
        assert_int_equal(unit_parse_u64(f[COMPUTE_BYTES], &compute), UNIT_OK);
    within(f[ID], "compute", b->workspace_bytes, f[COMPUTE_BYTES],
           u64_max(compute / 10, 50 * MIB));
    kp_free(k);
}

static void test_printed(void **state)
{
    struct arena *a = arena_new();
    char *text = kt_slurp(a, "tests/data/engine_llamacpp.csv");
    const char *models = kt_slurp(a, "tests/data/engine_llamacpp_models.csv");
    int rows = 0;

    (void)state;
    for (char *line = text, *end; line && *line; line = end ? end + 1 : NULL) {
        char *f[N_COLUMNS];
        end = strchr(line, '\n');
        if (end)
            *end = '\0';
        if (line[0] == '#' || !strncmp(line, "id;", 3))
            continue;
        split(line, f);
        check_row(models, f);
        rows++;
    }
    kt_u64((uint64_t)rows, 47);
    arena_free(a);
}

/* --- compute buffers ------------------------------------------------------------------------
 */

/* MiB as printed by servers of those months: scores + mask + four streams, or the logits of a
 * micro-batch; Pythia's fused product is three streams wide instead of one. Since 2026 only the
 * sampled rows have logits: what is left is the feed-forward, 2 x (4096 + 14336) x 512 x 4 with
 * the mask in fp16. */
static void test_compute(void **state)
{
    static const struct {
        const char *model, *engine;
        double mib;
    } cases[] = {
        {KP_LLAMA7B, "max_model_len: 32768, flash_attn: false", 2048 + 64 + 32},
        {KP_LLAMA7B, "max_model_len: 2048, flash_attn: false", 128 + 4 + 32},
        {KP_LLAMA3_8B, "max_model_len: 8192, flash_attn: true, version: 2024-06", 266.5},
        {KP_LLAMA3_8B, "max_model_len: 8192, flash_attn: false, version: 2024-06", 560},
        {KP_LLAMA3_8B, "max_model_len: 8192", 72 + 8},
        {"model: {layers: 32, hidden_size: 2560, vocab_size: 50304, heads: 32, kv_heads: 32, "
         "head_dim: 80, intermediate_size: 10240, family: gpt_neox}\n",
         "max_model_len: 2048, flash_attn: false", 128 + 4 + 6 * 5},
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char yaml[512];
        snprintf(yaml, sizeof yaml,
                 "%s" FREE_HARDWARE "engine: {name: llamacpp, n_seq: 1, %s}\n", cases[i].model,
                 cases[i].engine);
        struct kp *k = kp_build(yaml);
        kt_u64(k->problem.stages[0].budget.workspace_bytes,
               (uint64_t)(cases[i].mib * (double)MIB));
        kp_says(k, "compute buffer as a lower bound");
        kp_free(k);
    }
}

/* Experts: up and gate of 8 x 768, or up with the outputs of 8 x 2048, a token. */
static void test_compute_experts(void **state)
{
    (void)state;
    struct kp *k =
        kp_build("model: {layers: 2, hidden_size: 2048, vocab_size: 1000, heads: 32, "
                 "kv_heads: 4, head_dim: 128, moe: {experts: 128, top_k: 8, "
                 "intermediate_size: 768}}\n" FREE_HARDWARE
                 "engine: {name: llamacpp, n_seq: 1, max_model_len: 1024}\n");
    kt_u64(k->problem.stages[0].budget.workspace_bytes,
           512 * 4 * (2 * 2048 + 8 * 768 + 8 * 2048) + 1024 * 512 * 2);
    kp_free(k);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_cells),        cmocka_unit_test(test_history),
        cmocka_unit_test(test_slots),        cmocka_unit_test(test_cache_types),
        cmocka_unit_test(test_states),       cmocka_unit_test(test_latents),
        cmocka_unit_test(test_transposed_v), cmocka_unit_test(test_printed),
        cmocka_unit_test(test_compute),      cmocka_unit_test(test_compute_experts),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
