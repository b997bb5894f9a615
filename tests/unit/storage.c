/* Storage schemes: bytes of rows against figures of the official codes, and what they
 * refuse.
 *
 * Palu is not offered: what its kernels cache depends on ranks that only a decomposed
 * checkpoint has. */
#include "tests/kvcache.h"

/* Bytes of one layer of `tokens` in a format. */
static uint64_t stored(struct kt *k, uint32_t kv_heads, uint32_t dim, const char *spec,
                       uint64_t tokens)
{
    struct layout *l = kc_layout(k, kc_model(k->a, 5, kv_heads, kv_heads, dim));
    const struct cache_row *r =
        &l->rows[2]; /* a middle layer: turboquant spares the outer ones */
    struct ck ck = {0};

    kc_apply(k, l, AXIS_STORAGE, spec);
    uint64_t bytes = row_bytes(r, tokens, tokens, &ck);
    assert_false(ck.over);
    return bytes;
}

static void published_bytes(void **state)
{
    static const struct {
        uint32_t kv_heads, dim;
        const char *spec;
        uint64_t tokens, bytes;
        const char *source;
    } cases[] = {
        {8, 128, "bf16", 1, 4096, "arithmetic"},
        {8, 128, "fp16", 1, 4096, "arithmetic"},
        {8, 128, "fp32", 1, 8192, "arithmetic"},
        {8, 128, "int8", 1, 2048, "arithmetic"},
        {8, 128, "fp8_e4m3", 1, 2048, "arithmetic"},
        {8, 128, "fp8-e5m2", 1, 2048, "arithmetic"},
        {8, 128, "fp8", 1, 2048, "vllm@001cabc kv_cache_interface.py"},
        {8, 128, "int8_per_token_head", 1, 2112, "vllm@001cabc kv_cache_interface.py"},
        {8, 128, "fp8_per_token_head", 1, 2112, "vllm@001cabc kv_cache_interface.py"},
        {8, 128, "nvfp4", 1, 2 * 8 * 72, "vllm@001cabc: 4.5 bits"},
        {8, 128, "mxfp4", 1, 2 * 8 * 68, "OCP Microscaling 1.0: 17 bytes for 32"},
        {8, 128, "int4", 1, 2 * 8 * (64 + 8), "arithmetic: two groups of 64, 4 bytes each"},
        {8, 80, "int4", 1, 2 * 8 * (40 + 8), "arithmetic: a partial group has a scale too"},
        {8, 128, "{scheme: int4, group: 0}", 1, 2 * 8 * 68, "arithmetic: one group a head"},
        {8, 128, "{scheme: int8_grouped, group: 32, zero_bytes: 0}", 1, 2 * 8 * (128 + 8),
         "arithmetic"},
        {8, 128, "{scheme: kivi2}", 8192, 6504448, "KIVI@876b4d2, state machine replayed"},
        {8, 128, "{scheme: kivi4}", 8192, 10665984, "KIVI@876b4d2, state machine replayed"},
        {32, 128, "{scheme: kivi2, residual: 32}", 4096, 12795904, "KIVI@876b4d2"},
        {8, 128, "{scheme: kivi2}", 100, 409600, "KIVI@876b4d2: nothing is quantized yet"},
        {32, 128, "kvquant2", 1, 2736, "KVQuant@57a2383 modeling_llama.py"},
        {32, 128, "kvquant3", 1, 3776, "KVQuant@57a2383 modeling_llama.py"},
        {32, 128, "kvquant4", 1, 2 * (32 * 64 + 336) + 64, "the same rule"},
        {32, 128, "{scheme: kvquant2, first_few_fp16: 4}", 10, 6 * 2736 + 4 * 16384,
         "the same rule"},
        {8, 128, "quarot4", 1024, 1114112, "QuaRot@5008669 quarot/transformers/kv_cache.py"},
        {8, 128, "f16", 8192, 1073741824 / 32, "llama.cpp, ggml-common.h"},
        {8, 128, "bf16", 8192, 1073741824 / 32, "llama.cpp, ggml-common.h"},
        {8, 128, "q8_0", 1, 2 * 1088, "llama.cpp, ggml-common.h"},
        {8, 128, "q5_0", 1, 2 * 704, "llama.cpp, ggml-common.h"},
        {8, 128, "q4_0", 8192, 301989888 / 32, "llama.cpp, ggml-common.h"},
        {8, 128, "q4_1", 8192, 335544320 / 32, "llama.cpp, ggml-common.h"},
        {8, 128, "q5_1", 8192, 402653184 / 32, "llama.cpp, ggml-common.h"},
        {8, 128, "iq4_nl", 8192, 301989888 / 32, "llama.cpp, ggml-common.h"},
        {2, 80, "q4_0", 1, 2 * 5 * 18, "blocks run over the heads: 160 elements are 5"},
        {1, 64, "turboquant_k8v4", 1, 100, "vllm@1471680 turboquant/config.py"},
        {1, 128, "turboquant_k8v4", 1, 196, "vllm@1471680 turboquant/config.py"},
        {1, 64, "turboquant_4bit_nc", 1, 70, "vllm@1471680 turboquant/config.py"},
        {1, 96, "turboquant_4bit_nc", 1, 102, "vllm@1471680 turboquant/config.py"},
        {1, 128, "turboquant_4bit_nc", 1, 134, "vllm@1471680 turboquant/config.py"},
        {1, 64, "turboquant_k3v4_nc", 1, 62, "vllm@1471680 turboquant/config.py"},
        {1, 128, "turboquant_k3v4_nc", 1, 118, "vllm@1471680 turboquant/config.py"},
        {1, 128, "turboquant_3bit_nc", 1, 102, "vllm@1471680 turboquant/config.py"},
        {1, 40, "turboquant_k3v4_nc", 1, 42, "17 + 24, rounded up to even"},
    };
    struct kt *k = *state;

    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        print_message("%s %s\n", cases[i].spec, cases[i].source);
        kt_u64(stored(k, cases[i].kv_heads, cases[i].dim, cases[i].spec, cases[i].tokens),
               cases[i].bytes);
    }
}

/* KIVI: bits an element far beyond the residual are b + 32 / G. */
static void kivi_bits(void **state)
{
    static const struct {
        uint32_t bits, group;
        double want;
    } cases[] = {{2, 32, 3},   {4, 32, 5},     {2, 64, 2.5},
                 {4, 64, 4.5}, {2, 128, 2.25}, {4, 128, 4.25}};
    struct kt *k = *state;

    for (size_t i = 0; i < 6; i++) {
        const char *spec =
            arena_printf(k->a, "{scheme: kivi%u, group: %u}", cases[i].bits, cases[i].group);
        uint64_t more = stored(k, 8, 128, spec, 1 << 20) - stored(k, 8, 128, spec, 1 << 19);
        kt_rel(8.0 * (double)more / (2.0 * 8 * 128 * (1 << 19)), cases[i].want, 0);
    }
}

/* Keys fold in whole residuals, values one by one. */
static void kivi_tails(void **state)
{
    struct kt *k = *state;
    struct layout *l = kc_layout(k, kc_model(k->a, 1, 1, 1, 64));
    struct ck ck = {0};

    kc_apply(k, l, AXIS_STORAGE, "{scheme: kivi4, residual: 64}");
    struct cache_row key = l->rows[0], value = key;
    key.v_dim = 0;
    value.k_dim = 0;
    kt_u64(row_bytes(&key, 0, 63, &ck), 63 * 128);
    kt_u64(row_bytes(&key, 0, 64, &ck), 64 * 32 + 2 * 64 * 4);
    kt_u64(row_bytes(&key, 0, 127, &ck), 64 * 32 + 2 * 64 * 4 + 63 * 128);
    kt_u64(row_bytes(&value, 0, 64, &ck), 64 * 128);
    kt_u64(row_bytes(&value, 0, 65, &ck), 64 * 128 + 32 + 2 * 4);
}

/* huggingface/transformers@004999d: 1256 + 44 of 1300, 138 + 0 of 138. */
static void hf_quantized(void **state)
{
    struct kt *k = *state;
    struct layout *l = kc_layout(k, kc_model(k->a, 1, 1, 1, 128));
    struct ck ck = {0};

    kc_apply(k, l, AXIS_STORAGE, "hf_quantized");
    kt_u64(row_bytes(&l->rows[0], 1000, 1300, &ck), 2 * (1256 * (64 + 8) + 44 * 256));
    kt_u64(row_bytes(&l->rows[0], 10, 138, &ck), 2 * 138 * (64 + 8));
    kt_u64(row_bytes(&l->rows[0], 10, 137, &ck), 2 * (10 * (64 + 8) + 127 * 256));
    l = kc_layout(k, kc_model(k->a, 1, 1, 1, 128));
    kc_apply(k, l, AXIS_STORAGE, "{scheme: hf_quantized, nbits: 3, group: 128}");
    kt_u64(row_bytes(&l->rows[0], 1, 1, &ck), 2 * (48 + 4));
}

/* deepseek-ai/FlashMLA@9241ae3: 656 bytes; vllm@001cabc: 352; each over 61 layers. */
static void latents(void **state)
{
    static const struct {
        const char *spec;
        uint64_t bytes;
    } cases[] = {
        {"bf16", 70272},
        {"fp8_ds_mla", 40016},
        {"nvfp4_ds_mla", 21472},
        {"fp8", 61 * 576},
        {"fp8_per_token_head", 61 * 580},
        {"q8_0", 61 * 576 / 32 * 34},
    };
    struct kt *k = *state;
    struct model *m = kc_mla(k->a, 61);

    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct layout *l = kc_layout(k, m);
        kc_apply(k, l, AXIS_STORAGE, cases[i].spec);
        kt_u64(kc_bytes(l, 1, 0), cases[i].bytes);
        m->layers[5].attn.index_dim = 128; /* the indexer's key keeps its own 132 bytes */
        l = kc_layout(k, m);
        kc_apply(k, l, AXIS_STORAGE, cases[i].spec);
        kt_u64(kc_bytes(l, 1, 0), cases[i].bytes + 132);
        m->layers[5].attn.index_dim = 0;
    }
}

/* The first and last two layers of a model that attends everywhere stay in 16 bits. */
static void turboquant_layers(void **state)
{
    struct kt *k = *state;
    struct model *m = kc_model(k->a, 32, 8, 8, 128);
    struct layout *l = kc_layout(k, m);

    kc_apply(k, l, AXIS_STORAGE, "turboquant_4bit_nc");
    for (uint32_t i = 0; i < 32; i++) {
        bool outer = i < 2 || i >= 30;
        kt_same(l->rows[i].k_format.name, outer ? "bf16" : "turboquant_4bit_nc");
    }
    kt_u64(kc_bytes(l, 1, 0), 4 * 4096 + 28 * 8 * 134);
    l = kc_layout(k, m);
    kc_apply(k, l, AXIS_STORAGE, "{scheme: turboquant_4bit_nc, skip_layers: 0}");
    kt_u64(kc_bytes(l, 1, 0), 32 * 8 * 134);
    kc_make_hybrid(m, 4);
    l = kc_layout(k, m);
    kc_apply(k, l, AXIS_STORAGE, "turboquant_4bit_nc");
    kt_u64(kc_bytes(l, 1, 0), 8 * 8 * 134);
}

static void apply_side(struct kt *k, struct layout *l, const char *spec, unsigned sides)
{
    struct scheme_use use;

    assert_true(kc_bind(k, AXIS_STORAGE, spec, &use));
    use.sides = sides;
    assert_true(use.scheme->apply(&use, l, k->d));
}

static void refused_side(struct kt *k, struct layout *l, const char *spec, unsigned sides,
                         const char *message)
{
    struct scheme_use use;

    assert_true(kc_bind(k, AXIS_STORAGE, spec, &use));
    use.sides = sides;
    assert_false(use.scheme->apply(&use, l, k->d));
    kt_diag(k->d, message, 0);
}

static void keys_and_values_apart(void **state)
{
    struct kt *k = *state;
    struct layout *l = kc_layout(k, kc_model(k->a, 1, 8, 8, 128));

    apply_side(k, l, "q8_0", STORE_K);
    kt_same(l->storage, "q8_0/bf16");
    apply_side(k, l, "q4_0", STORE_V);
    kt_same(l->storage, "q8_0/q4_0");
    kt_u64(kc_bytes(l, 1, 0), 1088 + 576);
    apply_side(k, l, "fp8", STORE_K | STORE_V);
    kt_same(l->storage, "fp8");
    refused_side(
        k, l, "turboquant_k8v4", STORE_K,
        "turboquant_k8v4 stores K and V together: ask for it with cache.format, not with k "
        "or v");
    l = kc_layout(k, kc_mla(k->a, 1));
    apply_side(k, l, "fp8", STORE_V);
    kt_diag(k->d, "fp8 for v changes nothing: latents (MLA) have no values of their own", 0);
    kt_u64(kc_bytes(l, 1, 0), 1152);
    apply_side(k, l, "fp8", STORE_K);
    kt_u64(kc_bytes(l, 1, 0), 576);
    refused_side(k, l, "fp8_ds_mla", STORE_V, "fp8_ds_mla stores K and V together");
}

static void refusals(void **state)
{
    struct kt *k = *state;
    struct model *m = kc_model(k->a, 2, 1, 1, 80);
    struct layout *l = kc_layout(k, m);

    kc_refused(k, l, AXIS_STORAGE, "q8_0",
               "q8_0 stores blocks of 32 elements; layer 2 has rows of 80 for K");
    kt_diag(k->d, "q8_0 stores blocks of 32 elements; layer 1 has rows of 80 for V", 0);
    kc_refused(k, l, AXIS_STORAGE, "{scheme: kivi2, group: 32, residual: 100}",
               "kivi2: residual 100 is not a multiple of group 32");
    kc_refused(k, l, AXIS_STORAGE, "fp8_ds_mla",
               "fp8_ds_mla stores MLA latents; layer 2 keeps K/V heads");
    kc_refused(k, kc_layout(k, kc_mla(k->a, 2)), AXIS_STORAGE, "turboquant_k8v4",
               "turboquant_k8v4 packs K and V heads; layer 1 keeps a latent");
    kc_apply(k, l, AXIS_RETENTION, "think");
    kc_refused(k, l, AXIS_STORAGE, "kivi4",
               "kivi4 cannot store keys of two widths (layer 1, think)");
    kc_refused(k, l, AXIS_STORAGE, "turboquant_k8v4",
               "turboquant_k8v4 cannot store keys of two widths (layer 1, think)");
    kc_apply(k, l, AXIS_STORAGE, "fp8");
    kc_make_hybrid(m, 3);
    kc_refused(k, kc_layout(k, m), AXIS_STORAGE, "fp8_ds_mla",
               "fp8_ds_mla stores MLA latents; this model has none");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        kt_test(published_bytes),       kt_test(kivi_bits), kt_test(kivi_tails),
        kt_test(hf_quantized),          kt_test(latents),   kt_test(turboquant_layers),
        kt_test(keys_and_values_apart), kt_test(refusals),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
