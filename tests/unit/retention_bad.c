/* What eviction schemes refuse or warn of, message by message. */
#include "tests/kvcache.h"

static void l2norm_skips(void **state)
{
    static const struct {
        const char *skip, *kept;
    } cases[] = {
        {"", "100*2 50*2"},
        {", skip_layers: []", "50*4"},
        {", skip_layers: [0, 3, 99]", "100 50*2 100"},
        {", skip_layers: 2", "50*2 100 50"},
    };
    struct kt *k = *state;

    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct layout *l = kc_layout(k, kc_model(k->a, 4, 8, 8, 64));
        kc_apply(k, l, AXIS_RETENTION,
                 arena_printf(k->a, "{scheme: l2norm, keep_ratio: 0.5, prune_after: 0%s}",
                              cases[i].skip));
        kt_same(kc_stored(k, l, 100, 0), cases[i].kept);
        kt_u64(l->rows[3].keep.copies_in_prefill, 0);
    }
    struct layout *l = kc_layout(k, kc_model(k->a, 4, 8, 8, 64));
    kc_apply(k, l, AXIS_RETENTION, "{scheme: l2norm, sorted_copies: true}");
    kt_u64(l->rows[3].keep.copies_in_prefill, 1);
    kc_refused(k, l, AXIS_RETENTION, "{scheme: l2norm, skip_layers: {a: 1}}",
               "skip_layers needs layer numbers, counted from 0");
    assert_false(kc_try(k, l, AXIS_RETENTION, "{scheme: l2norm, skip_layers: [x]}", NULL));
    /* the first layer skipped: only the default list yields to sharing */
    l = kc_layout(k, kc_model(k->a, 4, 8, 8, 64));
    kc_apply(k, l, AXIS_SHARING, "{map: [1, 2, 1, 2]}");
    kc_says(k, l, AXIS_RETENTION, "l2norm",
            "l2norm: layer 4 reads the cache of layer 2, so it sees what that one keeps");
    kc_refused(
        k, l, AXIS_RETENTION, "{scheme: l2norm, skip_layers: [0]}",
        "l2norm: layer 3 reads the cache of layer 1, but skip_layers names only one of them");
    kc_apply(k, l, AXIS_RETENTION, "{scheme: l2norm, skip_layers: [0, 2]}");
}

static void latents_are_refused(void **state)
{
    static const char *const specs[] = {
        "l2norm",  "snapkv", "pyramidkv", "h2o",          "adakv", "headkv",  "cake",
        "chunkkv", "quest",  "think",     "duoattention", "knorm", "keydiff", "decoding-press",
    };
    struct kt *k = *state;
    struct model *m = kc_mla(k->a, 61);
    struct layout *l;

    for (size_t i = 0; i < sizeof specs / sizeof *specs; i++)
        kc_refused(
            k, kc_layout(k, m), AXIS_RETENTION, specs[i],
            arena_printf(k->a,
                         "%s ranks the keys of K/V heads; 61 layers (1 to 61) keep a latent, "
                         "which has none",
                         specs[i]));
    /* positions and whole tokens can be dropped, and the indexer's keys with them */
    m->layers[0].attn.index_dim = 128;
    l = kc_layout(k, m);
    kc_apply(k, l, AXIS_RETENTION, "tova");
    kt_u64(row_stored_tokens(&l->rows[0], 8192, 0), 2048);
    kt_u64(row_stored_tokens(&l->rows[1], 8192, 0), 2048);
    l = kc_layout(k, m);
    kc_apply(k, l, AXIS_RETENTION, "streamingllm");
    kt_u64(row_stored_tokens(&l->rows[0], 8192, 0), 516);
}

static void refusals(void **state)
{
    static const struct {
        const char *spec, *message;
    } cases[] = {
        {"{scheme: snapkv, capacity: 32}",
         "snapkv: a window of 32 leaves nothing of a capacity of 32"},
        {"{scheme: pyramidkv, capacity: 8}",
         "pyramidkv: a window of 8 leaves nothing of a capacity of 8"},
        {"{scheme: adakv, capacity: 8}",
         "adakv: a window of 32 leaves nothing of a capacity of 8"},
        {"{scheme: cake, capacity: 8}",
         "cake: a window of 32 leaves nothing of a capacity of 8"},
        {"{scheme: cake, capacity: 32}",
         "cake: a window of 32 leaves nothing of a capacity of 32"},
        {"{scheme: h2o, capacity: 8}", "h2o: a window of 32 leaves nothing of a capacity of 8"},
        {"{scheme: h2o, capacity: 100, mode: mask}",
         "h2o: capacity is KVCache-Factory's; it has no mode and no ratios"},
        {"{scheme: h2o, mode: flexgen}", "h2o: mode flexgen needs heavy_ratio"},
        {"{scheme: h2o, heavy: 0, recent: 0}",
         "h2o: heavy and recent are both 0, nothing would be kept"},
        {"{scheme: pyramidkv, variant: kvpress}",
         "pyramidkv: variant kvpress needs compression_ratio"},
        {"{scheme: pyramidkv, compression_ratio: 0.5}",
         "pyramidkv: compression_ratio belongs to variant kvpress; the others take capacity"},
        {"{scheme: streamingllm, capacity: 100, compression_ratio: 0.5}",
         "streamingllm: give one of capacity and compression_ratio"},
        {"{scheme: l2norm, capacity: 100, compression_ratio: 0.5}",
         "l2norm: give one of capacity and compression_ratio"},
        {"{scheme: knorm, compression_ratio: 1}", "knorm: compression_ratio must be below 1"},
        {"{scheme: cake, preferences: [1, 2]}",
         "cake: preferences needs one number for each of the 4 layers that own a cache, not all 0"},
        {"{scheme: cake, preferences: [0, 0, 0, 0]}",
         "cake: preferences needs one number for each of the 4 layers that own a cache, not all 0"},
        {"{scheme: adakv, capacity: 132, head_counts: [1, 2]}",
         "adakv: head_counts sum to 3, not to heads * (capacity - window) = 200"},
        {"{scheme: adakv, capacity: 132, head_counts: [100, 100]}",
         "adakv: head_counts has 2 heads, layer 1 stores 8 (layout: kv_head takes one a K/V head)"},
    };
    struct kt *k = *state;
    struct model *m = kc_model(k->a, 4, 8, 8, 64);

    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        kc_refused(k, kc_layout(k, m), AXIS_RETENTION, cases[i].spec, cases[i].message);
    kc_make_hybrid(m, 5); /* no attention at all */
    kc_refused(k, kc_layout(k, m), AXIS_RETENTION, "snapkv",
               "snapkv drops cached tokens, but no layer of this model has attention");
    /* a store that its own layer does not read cannot be told apart by heads */
    struct layout *l = kc_layout(k, kc_model(k->a, 2, 2, 2, 64));
    kc_apply(k, l, AXIS_SHARING, "{map: [2, 1]}");
    kc_refused(
        k, l, AXIS_RETENTION, "duoattention",
        "duoattention: layer 1 keeps a cache that only other layers read; its heads cannot be "
        "told apart");
    kc_refused(
        k, l, AXIS_RETENTION,
        "{scheme: adakv, capacity: 132, head_counts: [100, 100], layout: kv_head}",
        "adakv: layer 1 keeps a cache that only other layers read; its heads cannot be told "
        "apart");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        kt_test(l2norm_skips),
        kt_test(latents_are_refused),
        kt_test(refusals),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
