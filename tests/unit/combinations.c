/* Schemes of the three axes together: the rows say what each pass left, and no pass undoes
 * another. */
#include "tests/kvcache.h"

/* LCKV, TinyLlama's shape, then StreamingLLM on the three layers that own a cache. */
static void lckv_streamingllm(void **state)
{
    struct kt *k = *state;
    struct layout *l = kc_layout(k, kc_model(k->a, 22, 32, 4, 64));

    kc_apply(k, l, AXIS_SHARING, "lckv");
    kc_apply(k, l, AXIS_RETENTION, "{scheme: streamingllm, recent: 2000}");
    kt_same(kc_stored(k, l, 8192, 0), "2004 0*19 2004*2");
    kt_u64(kc_bytes(l, 8192, 0), 2004 * 3072);
    kt_u64(kc_bytes(l, 8192, 500), 2004 * 3072);
    /* layer 2 reads layer 21: what that one kept, without its own position */
    kt_u64(row_attended_tokens(&l->rows[1], &l->rows[20], 8192, 10), 2004);
    kt_u64(row_attended_tokens(&l->rows[20], &l->rows[20], 8192, 10), 2005);
    kt_same(kc_passes(k, l), "1 9*20 1");
}

/* CLA halves the layers, KIVI shrinks what is left; both factors hold. */
static void cla_kivi(void **state)
{
    struct kt *k = *state;
    struct layout *l = kc_layout(k, kc_model(k->a, 32, 32, 8, 128));

    kc_apply(k, l, AXIS_SHARING, "cla");
    kc_apply(k, l, AXIS_STORAGE, "kivi2");
    kt_u64(kc_bytes(l, 8192, 0), 16 * 6504448ull);
    kt_same(
        kc_stored(k, l, 8192, 0), /* 8192 in every second layer */
        "8192 0 8192 0 8192 0 8192 0 8192 0 8192 0 8192 0 8192 0 8192 0 8192 0 8192 0 8192 0 "
        "8192 0 8192 0 8192 0 8192 0");
}

/* All three axes: LCKV, StreamingLLM, 4-bit KIVI. 2004 tokens: 2004 mod 128 = 84 K in 16
 * bits, 128 V. */
static void three_axes(void **state)
{
    struct kt *k = *state;
    struct layout *l = kc_layout(k, kc_model(k->a, 22, 32, 4, 64));
    uint64_t key = 1920 * 4 * 32 + 1920 / 32 * 4 * 64 * 4 + 84 * 4 * 64 * 2;
    uint64_t value = 1876 * 4 * (32 + 8) + 128 * 4 * 64 * 2;

    kc_apply(k, l, AXIS_SHARING, "lckv");
    kc_apply(k, l, AXIS_RETENTION, "{scheme: streamingllm, recent: 2000}");
    kc_apply(k, l, AXIS_STORAGE, "kivi4");
    kt_u64(kc_bytes(l, 8192, 0), 3 * (key + value));
    kt_same(l->sharing, "lckv");
    kt_same(l->retention, "streamingllm");
    kt_same(l->storage, "kivi4");
}

/* Four query heads a K/V head at a quarter of the tokens: the release's layout saves
 * nothing. */
static void gqa_pyramidkv(void **state)
{
    struct kt *k = *state;
    struct model *m = kc_model(k->a, 32, 32, 8, 128);
    struct layout *l = kc_layout(k, m);

    kc_says(
        k, l, AXIS_RETENTION, "{scheme: pyramidkv, capacity: 2048}",
        "pyramidkv stores query heads, as its release does: 4 times the rows of 8 K/V heads, so "
        "it saves nothing up to 8192 tokens; layout: kv_head does");
    assert_true(kc_bytes(l, 8192, 0) >= kc_bytes(kc_layout(k, m), 8192, 0));
    l = kc_layout(k, m);
    size_t before = diag_count(k->d);
    kc_apply(k, l, AXIS_RETENTION, "{scheme: pyramidkv, capacity: 2048, layout: kv_head}");
    kt_u64(diag_count(k->d), before);
    assert_true(kc_bytes(l, 8192, 0) * 3 < kc_bytes(kc_layout(k, m), 8192, 0));
    l = kc_layout(k, m);
    kc_says(
        k, l, AXIS_RETENTION, "quest",
        "quest stores query heads, as its release does: 4 times the rows of 8 K/V heads; layout: "
        "kv_head does not");
    /* no warning where every query head has its own K/V head */
    before = diag_count(k->d);
    kc_apply(k, kc_layout(k, kc_model(k->a, 4, 8, 8, 64)), AXIS_RETENTION, "snapkv");
    kt_u64(diag_count(k->d), before);
}

/* The pyramid of a shared model runs over the layers that own a cache. */
static void cla_pyramidkv(void **state)
{
    struct kt *k = *state;
    struct layout *l = kc_layout(k, kc_model(k->a, 8, 8, 8, 64));
    struct layout *small = kc_layout(k, kc_model(k->a, 4, 8, 8, 64));

    kc_apply(k, l, AXIS_SHARING, "cla");
    kc_says(k, l, AXIS_RETENTION, "{scheme: pyramidkv, capacity: 128}",
            "pyramidkv: the pyramid runs over the 4 layers that own a cache");
    kc_apply(k, small, AXIS_RETENTION, "{scheme: pyramidkv, capacity: 128}");
    for (uint32_t i = 0; i < 8; i += 2)
        kt_u64(row_stored_tokens(&l->rows[i], 4096, 0),
               row_stored_tokens(&small->rows[i / 2], 4096, 0));
}

/* Hybrid models: every layer with both (Falcon-H1), and one attention layer in four
 * (Qwen3-Next). */
static void lasagna_on_hybrids(void **state)
{
    struct kt *k = *state;
    struct model *m = kc_model(k->a, 8, 8, 2, 64);
    struct layout *l;

    for (uint32_t i = 0; i < 8; i++)
        m->layers[i].state = (struct state){.kind = STATE_MAMBA2,
                                            .heads = 8,
                                            .head_dim = 64,
                                            .groups = 1,
                                            .state_dim = 128,
                                            .conv_kernel = 4};
    l = kc_layout(k, m);
    kt_u64(l->n_rows, 16);
    kc_apply(k, l, AXIS_SHARING, "{scheme: lasagna-bottom, kv_layers: 4}");
    kt_same(kc_map(k, l), "1*2 3*2 5*2 7*2");
    kt_u64(kc_bytes(l, 100, 0), 4 * 100 * 512);
    struct ck ck = {0};
    uint64_t states = 0;
    for (uint32_t i = 0; i < l->n_rows; i++)
        states += row_state_bytes(&l->rows[i], &ck);
    kt_u64(states, 8 * ((512 + 256) * 3 * 2 + 512 * 128 * 2)); /* as without sharing */

    m = kc_model(k->a, 16, 8, 2, 64);
    kc_make_hybrid(m, 4);
    l = kc_layout(k, m);
    kc_apply(k, l, AXIS_SHARING, "{scheme: lasagna-bottom, kv_layers: 2}");
    kt_same(kc_map(k, l), "0*3 4 0*3 4 0*3 12 0*3 12");
    kc_apply(k, l, AXIS_RETENTION, "{scheme: snapkv, capacity: 256}");
    kc_apply(k, l, AXIS_STORAGE, "q8_0");
    kt_u64(kc_bytes(l, 8192, 0), 2 * 256 * 2 * 544); /* 8 query heads: 16 blocks a row */
}

/* A latent kept by its owner alone, pruned by position, in 656 bytes. */
static void cla_on_latents(void **state)
{
    struct kt *k = *state;
    struct layout *l = kc_layout(k, kc_mla(k->a, 60));

    kc_apply(k, l, AXIS_SHARING, "{scheme: cla, factor: 3}");
    kc_apply(k, l, AXIS_RETENTION, "{scheme: streamingllm, sinks: 0, recent: 1000}");
    kc_apply(k, l, AXIS_STORAGE, "fp8_ds_mla");
    kt_u64(kc_bytes(l, 5000, 0), 20ull * 1000 * 656);
}

/* Heads split after sharing: readers split with their store. */
static void cla_duoattention(void **state)
{
    struct kt *k = *state;
    struct layout *l = kc_layout(k, kc_model(k->a, 4, 16, 4, 64));

    kc_apply(k, l, AXIS_SHARING, "cla");
    kc_apply(k, l, AXIS_RETENTION, "{scheme: duoattention, sinks: 1, recent: 9}");
    kt_same(kc_stored(k, l, 100, 0), "100 10 0*2 100 10 0*2");
    kc_apply(k, l, AXIS_STORAGE, "fp8");
    kt_u64(kc_bytes(l, 100, 0), 2 * (100 + 10) * 2 * 128);
    kt_u64(row_attended_tokens(&l->rows[2], &l->rows[0], 100, 0), 101);
    kt_u64(row_attended_tokens(&l->rows[3], &l->rows[1], 100, 0), 11);
}

/* Parameters that ask for nothing change nothing. */
static void identities(void **state)
{
    static const struct {
        enum scheme_axis axis;
        const char *spec;
    } cases[] = {
        {AXIS_SHARING, "{scheme: cla, factor: 1}"},
        {AXIS_SHARING, "{scheme: pizza-top, kv_layers: 8}"},
        {AXIS_SHARING, "{scheme: sandwich-bottom, kv_layers: 8}"},
        {AXIS_SHARING, "{scheme: lasagna-top, kv_layers: 8}"},
        {AXIS_SHARING, "{scheme: mlkv, kv_layers: 8}"},
        {AXIS_SHARING, "{scheme: mlkv, kv_layers: 8, kv_heads: 8, widen_mlp: true}"},
        {AXIS_SHARING, "{map: [1, 2, 3, 4, 5, 6, 7, 8]}"},
        {AXIS_SHARING, "mha"},
        {AXIS_RETENTION, "{scheme: l2norm, keep_ratio: 1, schedule: every_step}"},
        {AXIS_RETENTION, "{scheme: snapkv, capacity: 1M}"},
        {AXIS_RETENTION, "{scheme: streamingllm, recent: 1M}"},
        {AXIS_RETENTION, "{scheme: h2o, heavy: 1M, recent: 1M}"},
        {AXIS_RETENTION, "{scheme: tova, capacity: 1M}"},
        {AXIS_RETENTION, "{scheme: pyramidkv, capacity: 1M}"},
        {AXIS_RETENTION, "{scheme: knorm, compression_ratio: 0}"},
        {AXIS_RETENTION, "{scheme: think, ratio: 0}"},
        {AXIS_RETENTION, "{scheme: duoattention, full_heads: 64}"},
        {AXIS_RETENTION, "{scheme: chunkkv, compression_ratio: 0}"},
        {AXIS_STORAGE, "bf16"},
        {AXIS_STORAGE, "{scheme: kvquant4, first_few_fp16: 1M}"},
    };
    struct kt *k = *state;

    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct model *m = kc_model(k->a, 8, 8, 8, 64);
        struct layout *l = kc_layout(k, m), *plain = kc_layout(k, m);
        print_message("%s\n", cases[i].spec);
        kc_apply(k, l, cases[i].axis, cases[i].spec);
        assert_false(l->retrofit);
        for (uint64_t n = 0; n < 5000; n += 613) {
            kt_u64(kc_bytes(l, n, 0), kc_bytes(plain, n, 0));
            kt_u64(kc_bytes(l, n, 77), kc_bytes(plain, n, 77));
        }
        kt_same(kc_passes(k, l), kc_passes(k, plain));
        for (uint32_t j = 0; j < 8; j++)
            kt_u64(l->layers[j].ffn.intermediate, m->layers[j].ffn.intermediate);
    }
}

/* A storage pass changes no token, a retention pass no owner and no format. */
static void axes_are_apart(void **state)
{
    struct kt *k = *state;

    for (size_t i = 0; scheme_at(i); i++) {
        const struct scheme *s = scheme_at(i);
        struct layout *l = kc_layout(k, kc_model(k->a, 8, 8, 8, 64));
        kc_apply(k, l, AXIS_SHARING, "{scheme: sandwich-middle, kv_layers: 5}");
        kc_apply(k, l, AXIS_RETENTION, "{scheme: pyramidkv, capacity: 64}");
        const char *map = kc_map(k, l), *tokens = kc_stored(k, l, 3000, 9);
        if (s->axis == AXIS_SHARING || s->unsupported || strstr(s->names[0], "ds_mla"))
            continue;
        if (s->axis == AXIS_RETENTION) {
            l = kc_layout(k, kc_model(k->a, 8, 8, 8, 64));
            kc_apply(k, l, AXIS_SHARING, "{scheme: sandwich-middle, kv_layers: 5}");
            kc_apply(k, l, AXIS_RETENTION, s->names[0]);
            for (uint32_t r = 0; r < l->n_rows; r++)
                kt_same(l->rows[r].k_format.name, "bf16");
        } else {
            kc_apply(k, l, AXIS_STORAGE, s->names[0]);
            kt_same(kc_stored(k, l, 3000, 9), tokens);
        }
        kt_same(kc_map(k, l), map);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        kt_test(lckv_streamingllm), kt_test(cla_kivi),         kt_test(three_axes),
        kt_test(gqa_pyramidkv),     kt_test(cla_pyramidkv),    kt_test(lasagna_on_hybrids),
        kt_test(cla_on_latents),    kt_test(cla_duoattention), kt_test(identities),
        kt_test(axes_are_apart),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
