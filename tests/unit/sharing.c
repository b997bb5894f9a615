/* Sharing schemes against published maps (tests/data/sharing.h), parameter counts and cache
 * sizes, and everything they refuse.
 *
 * Not restated here, because they are not the planner's arithmetic: a headline of the YOCO
 * paper that fixes no model, and DeepSeek V4.1's groups, whose layer kinds are not modelled.
 * FLOPs of whole prompts are in tests/unit/cost.c. */
#include "planner/model/weights.h"
#include "tests/data/sharing.h"
#include "tests/kvcache.h"

static void published_maps(void **state)
{
    struct kt *k = *state;

    for (size_t i = 0; i < sizeof sharing_cases / sizeof *sharing_cases; i++) {
        const struct sharing_case *c = &sharing_cases[i];
        struct model *m = kc_model(k->a, c->layers, c->heads, c->kv_heads, c->head_dim);
        struct layout *l = kc_layout(k, m);
        print_message("%s\n", c->id);
        kc_apply(k, l, AXIS_SHARING, c->spec);
        kt_u64(layout_kv_layers(l), c->kv_layers);
        if (*c->map)
            kt_same(kc_map(k, l), c->map);
        if (*c->passes)
            kt_same(kc_passes(k, l), c->passes);
        if (c->token_bytes)
            kt_u64(kc_bytes(l, 1, 0), c->token_bytes);
        kt_u64(layout_attention_layers(l), c->layers); /* every layer attends */
        for (uint32_t r = 0; r < l->n_rows; r++)
            assert_true(l->rows[r].diagonal_masked ==
                        (l->rows[l->rows[r].source].layer > l->rows[r].layer));
    }
}

static uint64_t parameters(struct kt *k, const struct layout *l)
{
    bool *owns = ARENA_NEW(k->a, bool, l->n_layers);
    struct model m = *l->model;
    struct param_count c;
    struct ck ck = {0};

    for (uint32_t i = 0; i < l->n_layers; i++)
        owns[i] = layout_owns_kv(l, i);
    m.layers = l->layers;
    weights_count(&m, owns, &c, &ck);
    assert_false(ck.over);
    return c.total;
}

/* arXiv:2405.10637v2, the shapes of Table 5; the counts follow from them (untied, RMS
 * norms). */
static void lckv_parameters(void **state)
{
    static const struct {
        uint32_t layers, hidden, ff, heads, kv_heads, dim;
        const char *spec;
        uint64_t parameters;
    } cases[] = {
        {22, 2048, 5632, 32, 4, 64, "none", 1100048384},
        {22, 2048, 5632, 32, 4, 64, "{scheme: lckv, warmup: 2}", 1080125440},
        {22, 2048, 5632, 32, 4, 64, "{scheme: lckv, warmup: 10}", 1088514048},
        {32, 4096, 11008, 32, 32, 128, "none", 6738415616},
        {32, 4096, 11008, 32, 32, 128, "{scheme: lckv, warmup: 2}", 5765337088},
        {32, 4096, 11008, 32, 32, 128, "{scheme: lckv, warmup: 10}", 6033772544},
        {60, 6656, 17920, 52, 52, 128, "none", 32528943616},
    };
    struct kt *k = *state;

    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct model *m =
            kc_model(k->a, cases[i].layers, cases[i].heads, cases[i].kv_heads, cases[i].dim);
        for (uint32_t j = 0; j < m->n_layers; j++)
            m->layers[j].ffn.intermediate = cases[i].ff;
        struct layout *l = kc_layout(k, m);
        kc_apply(k, l, AXIS_SHARING, cases[i].spec);
        kt_u64(parameters(k, l), cases[i].parameters);
    }
}

/* Pythia-160M: two matrices, biases, layer norms, parallel blocks. */
static struct model *pythia(struct arena *a)
{
    struct model *m = kc_model(a, 12, 12, 12, 64);

    m->vocab = 50304;
    m->norm = NORM_LAYER;
    for (uint32_t i = 0; i < 12; i++) {
        struct attention *t = &m->layers[i].attn;
        t->q_bias = t->k_bias = t->v_bias = t->o_bias = true;
        m->layers[i].ffn = (struct ffn){.intermediate = 3072, .bias = true};
    }
    return m;
}

/* zaydzuhri/pythia-mlkv@c2ad065, convert_to_mlkv.py and README: width and parameters after
 * widening. */
static void mlkv_parameters(void **state)
{
    static const struct {
        uint32_t m, g, width;
        uint64_t widened, plain;
    } cases[] = {
        {12, 4, 3584, 162316800, 152873472}, {4, 12, 3584, 162316800, 152873472},
        {12, 1, 3777, 162332940, 149329920}, {4, 3, 3777, 162332940, 149329920},
        {4, 1, 3819, 162320132, 148542464},  {1, 1, 3835, 162319940, 148247168},
    };
    struct kt *k = *state;

    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct layout *wide = kc_layout(k, pythia(k->a)), *plain = kc_layout(k, pythia(k->a));
        kc_apply(k, wide, AXIS_SHARING,
                 arena_printf(k->a,
                              "{scheme: mlkv, kv_layers: %u, kv_heads: %u, widen_mlp: true}",
                              cases[i].m, cases[i].g));
        kc_apply(k, plain, AXIS_SHARING,
                 arena_printf(k->a, "{scheme: mlkv, kv_layers: %u, kv_heads: %u}", cases[i].m,
                              cases[i].g));
        kt_u64(wide->layers[5].ffn.intermediate, cases[i].width);
        kt_u64(parameters(k, wide), cases[i].widened);
        kt_u64(parameters(k, plain), cases[i].plain);
        assert_true(wide->retrofit && plain->retrofit);
    }
    /* a gated MLP has three matrices: a third each. 11 * 12 heads * 98432 / 12 / 768 = 1410
     * -> 470 */
    struct model *m = kc_model(k->a, 12, 12, 12, 64);
    struct layout *l = kc_layout(k, m);
    kc_apply(k, l, AXIS_SHARING, "{scheme: mlkv, kv_layers: 1, kv_heads: 12, widen_mlp: true}");
    kt_u64(l->layers[0].ffn.intermediate, 3072 + 470);
}

/* arXiv:2405.05254 sec 4.1: 26 layers, 24 heads, 8 K/V heads of 128. */
static void yoco(void **state)
{
    struct kt *k = *state;
    struct model *m = kc_model(k->a, 26, 24, 8, 128);
    struct layout *l = kc_layout(k, m);
    uint64_t states = 0;
    struct ck ck = {0};

    kt_u64(kc_bytes(l, 1, 0), 106496);
    kc_apply(k, l, AXIS_SHARING, "yoco");
    kt_same(kc_map(k, l), "0*13 14*13");
    kt_same(kc_passes(k, l), "1*26");
    kt_u64(kc_bytes(l, 1, 0), 4096);
    kt_u64(l->exit_layer, 13);
    kt_u64(layout_kv_layers(l), 1);
    for (uint32_t i = 0; i < l->n_rows; i++)
        states += row_state_bytes(&l->rows[i], &ck);
    kt_u64(states, 10223616);
    assert_true(l->retrofit);

    l = kc_layout(k, m);
    kc_apply(k, l, AXIS_SHARING, "{scheme: yoco, self_decoder: sliding_window}");
    kt_same(kc_map(k, l), "1 2 3 4 5 6 7 8 9 10 11 12 13 14*13");
    /* full multi-head width below: 13 * 2 * 3072 * 1024 * 2, and one global bank */
    kt_u64(kc_bytes(l, 1024, 0), 13ull * 2 * 3072 * 1024 * 2 + 4096 * 1024);
    kt_u64(kc_bytes(l, 4096, 0), 13ull * 2 * 3072 * 1024 * 2 + 4096 * 4096);
}

/* google-deepmind/gemma@7691fd4: layers above the own ones read the last own layer of their
 * kind. */
static struct model *gemma(struct arena *a, uint32_t layers, uint32_t pattern, uint32_t shared,
                           const uint32_t dims[4])
{
    struct model *m = kc_model(a, layers, 8, dims[0], dims[1]);
    uint32_t own = layers - shared;

    for (uint32_t i = 0; i < layers; i++) {
        struct attention *t = &m->layers[i].attn;
        bool global = (i + 1) % pattern == 0;
        if (global) {
            t->kv_heads = dims[2];
            t->k_dim = t->v_dim = dims[3];
        } else {
            t->mixer = MIXER_SLIDING;
            t->window_tokens = shared ? 512 : 1024;
        }
        if (i >= own) {
            uint32_t last_global = own / pattern * pattern - 1;
            t->kv_source = global ? last_global : own - 1 - (last_global == own - 1);
        }
    }
    return m;
}

static const struct {
    uint32_t layers, pattern, shared, heads;
    uint32_t dims[4]; /* local heads and width, global heads and width */
    uint32_t kv_layers;
    uint64_t window, global_bytes, local_bytes, at_32k;
    const char *map;
} gemmas[] = {
    {35,
     5,
     15,
     8,
     {2, 256, 2, 256},
     20,
     512,
     8192,
     16777216,
     285212672,
     "1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 19*4 20 19*4 20 19*4 20"},
    {30,
     5,
     10,
     8,
     {2, 256, 2, 256},
     20,
     512,
     8192,
     16777216,
     285212672,
     "1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 19*4 20 19*4 20"},
    {35,
     5,
     20,
     8,
     {1, 256, 1, 512},
     15,
     512,
     6144,
     6291456,
     207618048,
     "1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 14*4 15 14*4 15 14*4 15 14*4 15"},
    {60, 6, 0, 32, {16, 256, 4, 512}, 60, 1024, 81920, 838860800, 3523215360, NULL},
};

static void gemma_native(void **state)
{
    struct kt *k = *state;

    for (size_t i = 0; i < sizeof gemmas / sizeof *gemmas; i++) {
        struct model *m =
            gemma(k->a, gemmas[i].layers, gemmas[i].pattern, gemmas[i].shared, gemmas[i].dims);
        for (uint32_t j = 0; j < m->n_layers; j++)
            m->layers[j].attn.heads = gemmas[i].heads;
        struct layout *l = kc_layout(k, m);
        uint64_t w = gemmas[i].window;
        if (gemmas[i].map)
            kt_same(kc_map(k, l), gemmas[i].map);
        kt_u64(layout_kv_layers(l), gemmas[i].kv_layers);
        kt_u64(kc_bytes(l, w + 1, 0) - kc_bytes(l, w, 0), gemmas[i].global_bytes);
        kt_u64(kc_bytes(l, w, 0) - w * gemmas[i].global_bytes, gemmas[i].local_bytes);
        kt_u64(kc_bytes(l, 32768, 0), gemmas[i].at_32k);
        kt_same(kc_passes(k, l), arena_printf(k->a, "1*%u", gemmas[i].layers));
        kc_apply(k, l, AXIS_SHARING, "native");
        assert_false(l->retrofit);
        kt_same(l->sharing, "native");
    }
}

static void heads(void **state)
{
    struct kt *k = *state;
    struct model *m = kc_model(k->a, 4, 32, 8, 128);
    struct layout *l = kc_layout(k, m);

    kc_apply(k, l, AXIS_SHARING, "mha");
    kt_u64(kc_bytes(l, 1, 0), 4ull * 2 * 32 * 128 * 2);
    assert_true(l->retrofit);
    kc_apply(k, l, AXIS_SHARING, "mqa");
    kt_u64(kc_bytes(l, 1, 0), 4ull * 2 * 1 * 128 * 2);
    kc_apply(k, l, AXIS_SHARING, "{scheme: gqa, kv_heads: 4}");
    kt_u64(kc_bytes(l, 1, 0), 4ull * 2 * 4 * 128 * 2);
    l = kc_layout(k, m);
    kc_apply(k, l, AXIS_SHARING, "{scheme: gqa, kv_heads: 8}"); /* as shipped */
    assert_false(l->retrofit);
    m->layers[1].attn.kv_source = 0; /* the model's own sharing stays */
    l = kc_layout(k, m);
    kc_apply(k, l, AXIS_SHARING, "mqa");
    kt_same(kc_map(k, l), "1*2 3 4");
    kc_refused(k, l, AXIS_SHARING, "gqa", "gqa needs kv_heads");
    kc_refused(k, l, AXIS_SHARING, "{scheme: mqa, kv_heads: 4}",
               "mqa fixes kv_heads; use gqa to choose them");
    kc_refused(k, l, AXIS_SHARING, "{scheme: gqa, kv_heads: 5}",
               "gqa: 5 K/V heads do not divide the 32 heads of layer 3");
    kc_refused(k, l, AXIS_SHARING, "{scheme: gqa, kv_heads: 64}",
               "gqa: 64 K/V heads do not divide the 32 heads of layer 4");
    kc_refused(k, kc_layout(k, kc_mla(k->a, 2)), AXIS_SHARING, "mqa",
               "mqa: layer 2 keeps a latent, which has no heads");
}

/* Sums of passes from the iteration plan (whyNLP/LCKV@dd21716 models/utils.py, run). */
static void sums_of_passes(void **state)
{
    static const struct {
        uint32_t layers;
        const char *spec;
        uint64_t sum;
    } cases[] = {
        {22, "{scheme: lckv, warmup: 2}", 182},
        {22, "{scheme: lckv, warmup: 10}", 118},
        {22, "{scheme: sandwich-middle, kv_layers: 3}", 102},
        {22, "{scheme: sandwich-middle, kv_layers: 11}", 70},
        {22, "{scheme: lasagna-middle, kv_layers: 11}", 22},
        {12, "{scheme: sandwich-top, kv_layers: 3}", 92},
        {12, "{scheme: sandwich-middle, kv_layers: 3}", 52},
        {32, "{scheme: lckv, warmup: 2}", 272},
        {32, "{scheme: lckv, warmup: 10}", 208},
        {22, "{scheme: lckv, warmup: 2, forward_passes: 0, backward_passes: 1}", 22},
        {22, "{scheme: lckv, warmup: 2, forward_passes: 3, backward_passes: 1}", 20 * 4 + 2},
    };
    struct kt *k = *state;

    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct layout *l = kc_layout(k, kc_model(k->a, cases[i].layers, 8, 8, 64));
        uint64_t sum = 0;
        kc_apply(k, l, AXIS_SHARING, cases[i].spec);
        for (uint32_t j = 0; j < l->n_layers; j++)
            sum += l->passes[j];
        kt_u64(sum, cases[i].sum);
    }
    struct layout *l = kc_layout(k, kc_model(k->a, 8, 8, 8, 64));
    assert_false(l->sequential_prefill);
    kc_apply(k, l, AXIS_SHARING, "{scheme: lckv, sequential: true}");
    assert_true(l->sequential_prefill);
}

/* Where the groups cannot be equal. */
static void remainders(void **state)
{
    static const struct {
        const char *spec, *map;
    } cases[] = {
        {"{scheme: lasagna-bottom, kv_layers: 4}", "1*2 3*3 6*2 8*3"},
        {"{scheme: lasagna-bottom, kv_layers: 4, remainder: first}", "1 2*3 5*3 8*3"},
        {"{scheme: lasagna-bottom, kv_layers: 4, remainder: last}", "1*3 4*3 7*3 10"},
        {"{scheme: lasagna-middle, kv_layers: 4, remainder: last}", "2*3 5*3 8*3 10"},
        {"{scheme: lasagna-top, kv_layers: 4, remainder: first}", "1 4*3 7*3 10*3"},
        {"{scheme: lasagna-bottom, kv_layers: 10}", "1 2 3 4 5 6 7 8 9 10"},
        {"{scheme: lasagna-bottom, kv_layers: 1}", "1*10"},
        {"{scheme: cla, factor: 3, remainder: last}", "1*3 4*3 7*3 10"},
        {"{scheme: cla, factor: 100}", "1*10"},
        {"{scheme: cla, factor: 1}", "1 2 3 4 5 6 7 8 9 10"},
        {"{scheme: pizza-middle, kv_layers: 1}", "5*10"},
        {"{scheme: sandwich-top, kv_layers: 10}", "1 2 3 4 5 6 7 8 9 10"},
        {"{scheme: lckv, warmup: 0}", "10*10"},
        {"{scheme: lckv, warmup: 3}", "1 9*8 10"},
    };
    struct kt *k = *state;

    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct layout *l = kc_layout(k, kc_model(k->a, 10, 8, 8, 64));
        kc_apply(k, l, AXIS_SHARING, cases[i].spec);
        kt_same(kc_map(k, l), cases[i].map);
    }
    kt_diag(k->d, "lckv: warmup 3 keeps 2 layers, half at each end", 0);
    kt_diag(k->d, "lasagna-top is the plain rule", 0);
}

static void hybrids_count_attention_layers(void **state)
{
    struct kt *k = *state;
    struct model *m = kc_model(k->a, 12, 8, 8, 64);

    kc_make_hybrid(m, 4); /* attention in layers 4, 8, 12 */
    struct layout *l = kc_layout(k, m);
    kc_says(k, l, AXIS_SHARING, "{scheme: lasagna-bottom, kv_layers: 1}",
            "lasagna-bottom counts the 3 layers with attention, of 12");
    kt_same(kc_map(k, l), "0*3 4 0*3 4 0*3 4");
    l = kc_layout(k, m);
    kc_apply(k, l, AXIS_SHARING, "{map: [0, 0, 0, 4, 0, 0, 0, 12, 0, 0, 0, 12]}");
    kt_same(kc_map(k, l), "0*3 4 0*3 12 0*3 12");
    /* what lies in between is repeated too */
    kt_same(kc_passes(k, l), "1*7 9*5");
    kc_refused(
        k, l, AXIS_SHARING, "{scheme: lckv, warmup: 4}",
        "lckv: warmup 4 leaves no layer to condense; the model has 3 layers with attention");
    kc_refused(k, l, AXIS_SHARING, "{scheme: pizza-top, kv_layers: 4}",
               "pizza-top: kv_layers is 4, but the model has 3 layers with attention");
    kc_refused(k, l, AXIS_SHARING, "{map: [1, 0, 0, 4, 0, 0, 0, 8, 0, 0, 0, 0]}",
               "map: layer 1 has no attention, write 0 for it");
    kc_refused(k, l, AXIS_SHARING, "{map: [0, 0, 0, 4, 0, 0, 0, 8, 0, 0, 0, 0]}",
               "map: layer 12 has attention, so 0 is not for it");
    kc_refused(k, l, AXIS_SHARING, "{map: [0, 0, 0, 4, 0, 0, 0, 7, 0, 0, 0, 12]}",
               "layer 8 cannot read the cache of layer 7: layer 7 has no attention");
    kc_apply(k, l, AXIS_SHARING, "{layer_types: '0_1_2_3_4_5_6_3_8_9_10_3'}");
    kt_same(kc_map(k, l), "0*3 4 0*3 4 0*3 4");
    kc_refused(k, l, AXIS_SHARING, "{layer_types: '3_1_2_3_4_5_6_3_8_9_10_3'}",
               "map: layer 1 has no attention, write its own number for it");
    kc_refused(k, l, AXIS_SHARING, "yoco", "yoco: layer 1 is not a plain attention layer");
    kc_make_hybrid(m, 13);
    l = kc_layout(k, m);
    kc_refused(k, l, AXIS_SHARING, "lckv",
               "lckv shares K/V, but no layer of this model has attention");
    kc_refused(k, l, AXIS_SHARING, "mqa",
               "mqa sets K/V heads, but no layer of this model has attention");
}

/* A latent can be shared: CLA on MLA. */
static void latents(void **state)
{
    struct kt *k = *state;
    struct layout *l = kc_layout(k, kc_mla(k->a, 4));

    kc_apply(k, l, AXIS_SHARING, "cla");
    kt_same(kc_map(k, l), "1*2 3*2");
    kt_u64(kc_bytes(l, 1, 0), 2 * 1152);
    kc_refused(k, l, AXIS_SHARING, "yoco", "yoco: layer 4 keeps a latent, not K/V heads");
    kc_refused(k, l, AXIS_SHARING, "{scheme: mlkv, kv_layers: 2}",
               "mlkv: layer 1 keeps a latent, which has no heads");
}

static void sliding_layers(void **state)
{
    struct kt *k = *state;
    struct model *m = kc_model(k->a, 4, 8, 8, 64);
    struct layout *l;

    /* window of the marked layers: given, or the model's */
    l = kc_layout(k, m);
    kc_apply(k, l, AXIS_SHARING, "{layer_types: '0_1s_1s_3', window: 128}");
    kt_same(kc_stored(k, l, 1000, 0), "1000 128 0 1000");
    m->layers[3].attn.mixer = MIXER_SLIDING;
    m->layers[3].attn.window_tokens = 64;
    l = kc_layout(k, m);
    kc_apply(k, l, AXIS_SHARING, "{layer_types: '0_1s_1s_3'}");
    kt_same(kc_stored(k, l, 1000, 0), "1000 64 0 1000");
    /* no mark: the model's windows stay, and a reader keeps its own */
    l = kc_layout(k, m);
    kc_apply(k, l, AXIS_SHARING, "{layer_types: '0_1_2_2'}");
    kt_same(kc_stored(k, l, 1000, 0), "1000*3 0");
    kt_u64(l->rows[3].window_tokens, 64);
}

static void refusals(void **state)
{
    struct kt *k = *state;
    struct model *m = kc_model(k->a, 4, 8, 4, 64);
    struct layout *l = kc_layout(k, m);

    kc_refused(k, l, AXIS_SHARING, "{scheme: map}", "give one of map and layer_types");
    kc_refused(k, l, AXIS_SHARING, "{map: [1, 1, 1, 1], layer_types: '0_0_0_0'}",
               "give one of map and layer_types");
    kc_refused(k, l, AXIS_SHARING, "{map: [1, 1, 1]}",
               "map needs one number a layer: 4, here are 3");
    kc_refused(k, l, AXIS_SHARING, "{map: 7}", "map needs one number a layer: 4, here are 1");
    kc_refused(k, l, AXIS_SHARING, "{map: [1, 1, 3, 0]}",
               "map: layer 4 has attention, so 0 is not for it");
    assert_false(
        kc_try(k, l, AXIS_SHARING, "{map: [1, 1, 5, x]}", NULL)); /* both are reported */
    kc_refused(k, l, AXIS_SHARING, "{layer_types: '0_0'}",
               "layer_types names 2 layers, the model has 4");
    kc_refused(k, l, AXIS_SHARING, "{layer_types: '0_0_0_0_0'}",
               "layer_types names 5 layers, the model has 4");
    kc_refused(k, l, AXIS_SHARING, "{layer_types: '0_0_0_9'}",
               "layer_types: layer 3 (0-based) reads layer 9, but the last is 3");
    kc_refused(k, l, AXIS_SHARING, "{layer_types: '0_x_0_0'}",
               "layer_types: word 2 is not a layer number, with or without s");
    kc_refused(k, l, AXIS_SHARING, "{layer_types: '0_1_'}",
               "layer_types: word 3 is not a layer number, with or without s");
    kc_refused(k, l, AXIS_SHARING, "{layer_types: '0_1sx_2_3'}",
               "layer_types: word 2 is not a layer number, with or without s");
    kc_refused(k, l, AXIS_SHARING, "{layer_types: '0_99999999999999_2_3'}",
               "layer_types: word 2 is not a layer number, with or without s");
    kc_refused(k, l, AXIS_SHARING, "{layer_types: '0_1s_1s_3'}",
               "layer_types marks layers with s and the model has no window: give window");
    kc_refused(k, l, AXIS_SHARING, "{layer_types: '0_1_1_3', window: 64}",
               "window is given, but no layer is marked s");
    kc_refused(k, l, AXIS_SHARING, "{scheme: lasagna-top, kv_layers: 3, remainder: last}",
               "lasagna-top: 4 layers in 3 groups have no single short group; use remainder: "
               "spread");
    kc_refused(k, l, AXIS_SHARING, "{scheme: sandwich-top, kv_layers: 5}",
               "sandwich-top: kv_layers is 5, but the model has 4 layers with attention");
    kc_refused(k, l, AXIS_SHARING, "{scheme: lasagna-top, kv_layers: 5}",
               "lasagna-top: kv_layers is 5, but the model has 4 layers with attention");
    kc_refused(k, l, AXIS_SHARING, "{scheme: mlkv, kv_layers: 5}",
               "mlkv: kv_layers is 5, but the model has 4 layers with attention");
    kc_refused(k, l, AXIS_SHARING, "{scheme: mlkv, kv_layers: 2, kv_heads: 3}",
               "mlkv: 3 K/V heads do not divide the 8 heads of layer 4");
    m->layers[1].ffn.intermediate = 0;
    m->layers[2].ffn.intermediate = UINT32_MAX;
    l = kc_layout(k, m);
    kc_refused(k, l, AXIS_SHARING, "{scheme: mlkv, kv_layers: 2, widen_mlp: true}",
               "mlkv: layer 2 has no dense MLP to widen");
    kt_diag(k->d, "mlkv: the widened MLP of layer 3 is too large", 0);
    kc_refused(k, kc_layout(k, kc_model(k->a, 5, 8, 8, 64)), AXIS_SHARING, "yoco",
               "yoco halves the layers; this model has 5");
}

/* Every layer that cannot be shared is named. */
static void other_widths(void **state)
{
    struct kt *k = *state;
    struct model *m = kc_model(k->a, 4, 8, 4, 64);

    m->layers[1].attn.kv_heads = m->layers[3].attn.kv_heads = 2;
    struct layout *l = kc_layout(k, m);
    kc_refused(
        k, l, AXIS_SHARING, "cla",
        "layer 2 cannot read the cache of layer 1: it needs 2 heads of 64 + 64 elements, "
        "layer 1 keeps 4 of 64 + 64");
    kt_diag(k->d, "layer 4 cannot read the cache of layer 3", 0);
    kc_says(k, kc_layout(k, m), AXIS_SHARING, "native",
            "this model shares no K/V: every layer keeps its own");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        kt_test(published_maps),
        kt_test(lckv_parameters),
        kt_test(mlkv_parameters),
        kt_test(yoco),
        kt_test(gemma_native),
        kt_test(heads),
        kt_test(sums_of_passes),
        kt_test(remainders),
        kt_test(hybrids_count_attention_layers),
        kt_test(latents),
        kt_test(sliding_layers),
        kt_test(refusals),
        kt_test(other_widths),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
