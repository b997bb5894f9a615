/* The layout itself: rows of every kind of layer, sharing, head groups, windows, and the
 * tokens and bytes of a row. Figures without a comment are counted by hand in the test. */
#include "tests/kvcache.h"

static void plain_rows(void **state)
{
    struct kt *k = *state;
    struct layout *l = kc_layout(k, kc_model(k->a, 4, 32, 8, 128));
    struct ck ck = {0};

    kt_u64(l->n_rows, 4);
    kt_u64(layout_kv_layers(l), 4);
    kt_u64(layout_attention_layers(l), 4);
    kt_same(l->sharing, "none");
    kt_same(l->storage, "bf16");
    kt_u64(l->exit_layer, 4);
    for (uint32_t i = 0; i < 4; i++) {
        const struct cache_row *r = &l->rows[i];
        kt_u64(r->source, i);
        kt_u64(r->readers, 1);
        kt_u64(row_bytes(r, 0, 1, &ck), 2 * 8 * 128 * 2);
        kt_u64(row_stored_tokens(r, 100, 28), 128);
        kt_u64(row_peak_tokens(r, 100, 28), 128);
        kt_u64(row_attended_tokens(r, r, 100, 28), 129);
        kt_u64(row_stored_tokens(r, 0, 0), 0);
    }
    assert_false(ck.over);
}

/* DeepSeek V3: 576 elements a token and layer, 1152 bytes, 70272 over 61 layers. V3.2 adds
 * an indexer key of 132 bytes (deepseek-ai/DeepSeek-V3 and V3.2-Exp, inference/model.py). */
static void latent_rows(void **state)
{
    struct kt *k = *state;
    struct model *m = kc_mla(k->a, 61);

    kt_u64(kc_bytes(kc_layout(k, m), 1, 0), 70272);
    for (uint32_t i = 0; i < 61; i++) {
        m->layers[i].attn.index_dim = 128;
        m->layers[i].attn.index_heads = 64;
        m->layers[i].attn.index_topk = 2048;
    }
    struct layout *l = kc_layout(k, m);
    struct ck ck = {0};
    kt_u64(l->n_rows, 122);
    kt_u64(kc_bytes(l, 1, 0), 70272 + 61 * 132);
    kt_u64(row_bytes(&l->rows[1], 0, 1, &ck), 132);
    kt_u64(row_attended_tokens(&l->rows[0], &l->rows[0], 131072, 0), 2048);
    kt_u64(row_attended_tokens(&l->rows[1], &l->rows[1], 131072, 0), 131073);
    kt_u64(l->rows[0].score_dim, 576);
    kt_u64(l->rows[0].value_dim, 512);
    kt_u64(l->rows[0].prefill_score_dim, 192);
    kt_u64(l->rows[0].prefill_value_dim, 128);
    kt_u64(l->rows[1].q_heads, 64);
    kt_u64(layout_kv_layers(l), 61);
    m->layers[3].attn.index_shared =
        true; /* takes the selection of a layer below: no key of its own */
    kt_u64(kc_layout(k, m)->n_rows, 121);
}

/* Per-sequence states, elements and bytes as vLLM's mamba_utils@02d7108 has them for one
 * rank. */
static void state_rows(void **state)
{
    static const struct {
        struct state s;
        uint64_t conv, elems, bytes;
    } cases[] = {
        {{.kind = STATE_GDN,
          .k_heads = 16,
          .k_dim = 128,
          .v_heads = 32,
          .v_dim = 128,
          .conv_kernel = 4,
          .fp32_state = true},
         24576,
         524288,
         2146304},
        {{.kind = STATE_KDA,
          .heads = 32,
          .head_dim = 128,
          .conv_kernel = 4,
          .fp32_state = true},
         36864,
         524288,
         2170880},
        {{.kind = STATE_MAMBA2,
          .heads = 128,
          .head_dim = 64,
          .groups = 8,
          .state_dim = 128,
          .conv_kernel = 4,
          .fp32_state = true},
         30720,
         1048576,
         4255744},
        {{.kind = STATE_MAMBA1, .inner = 8192, .state_dim = 16, .conv_kernel = 4},
         24576,
         131072,
         311296},
        {{.kind = STATE_LIGHTNING, .heads = 64, .head_dim = 128}, 0, 1048576, 2097152},
        {{.kind = STATE_RETENTION, .heads = 24, .head_dim = 128}, 0, 393216, 786432},
        {{.kind = STATE_SHORTCONV, .conv_kernel = 3}, 2 * 8 * 64, 0, 4 * 8 * 64},
    };
    struct kt *k = *state;
    struct ck ck = {0};

    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct model *m = kc_model(k->a, 1, 8, 8, 64);
        m->layers[0].attn.mixer = MIXER_NONE;
        m->layers[0].state = cases[i].s;
        struct layout *l = kc_layout(k, m);
        kt_u64(l->n_rows, 1);
        kt_u64(l->rows[0].conv_elems, cases[i].conv);
        kt_u64(l->rows[0].state_elems, cases[i].elems);
        kt_u64(row_state_bytes(&l->rows[0], &ck), cases[i].bytes);
        kt_u64(row_stored_tokens(&l->rows[0], 100, 0), 0);
        kt_u64(row_bytes(&l->rows[0], 0, 100, &ck), 0);
        kt_u64(layout_kv_layers(l), 0);
        kt_u64(layout_attention_row(l, 0), UINT32_MAX);
    }
    struct model *m = kc_model(k->a, 1, 8, 8, 64);
    m->layers[0].state = (struct state){.kind = STATE_GMU, .inner = 64};
    kt_u64(kc_layout(k, m)->n_rows, 1); /* the attention; a gated memory unit keeps nothing */
    m->layers[0].state.kind = STATE_MAMBA1; /* Falcon-H1: both in one layer */
    struct layout *l = kc_layout(k, m);
    kt_u64(l->n_rows, 2);
    kt_u64(row_state_bytes(&l->rows[0], &ck), 0);
}

static void windows(void **state)
{
    struct kt *k = *state;
    struct model *m = kc_model(k->a, 3, 8, 8, 64);

    m->layers[1].attn.mixer = MIXER_SLIDING;
    m->layers[1].attn.window_tokens = 512;
    m->layers[2].attn.mixer = MIXER_CHUNKED;
    m->layers[2].attn.window_tokens = 100;
    struct layout *l = kc_layout(k, m);
    const struct cache_row *s = &l->rows[1], *c = &l->rows[2];
    kt_u64(row_stored_tokens(s, 500, 5), 505);
    kt_u64(row_stored_tokens(s, 5000, 5), 512);
    kt_u64(row_unpruned_tokens(s, 5000), 512);
    kt_u64(row_attended_tokens(s, s, 5000, 0), 512);
    kt_u64(row_attended_tokens(s, s, 511, 0), 512);
    kt_u64(row_attended_tokens(s, s, 510, 0), 511);
    kt_u64(row_stored_tokens(c, 5000, 0), 100);
    kt_u64(row_attended_tokens(c, c, 5000, 0), 1); /* the first of a new chunk */
    kt_u64(row_attended_tokens(c, c, 5000, 99), 100);
    kt_u64(row_attended_tokens(c, c, 0, 42), 43);
}

/* A store is as wide as the widest window of its readers (sharing facts, W_j = max of w_i). */
static void windows_of_shared_stores(void **state)
{
    struct kt *k = *state;
    struct model *m = kc_model(k->a, 3, 8, 8, 64);

    for (uint32_t i = 0; i < 2; i++) {
        m->layers[i].attn.mixer = MIXER_SLIDING;
        m->layers[i].attn.window_tokens = 100 * (i + 1);
    }
    struct layout *l = kc_layout(k, m);
    assert_true(layout_share(l, 1, 0, k->d));
    layout_settle(l);
    kt_u64(l->rows[0].store_window_tokens, 200);
    kt_u64(row_stored_tokens(&l->rows[0], 1000, 0), 200);
    kt_u64(row_attended_tokens(&l->rows[0], &l->rows[0], 1000, 0), 100);
    kt_u64(row_attended_tokens(&l->rows[1], &l->rows[0], 1000, 0), 200);
    kt_u64(row_stored_tokens(&l->rows[1], 1000, 0), 0);
    assert_true(layout_share(l, 2, 0, k->d)); /* a full layer reads it: everything stays */
    layout_settle(l);
    kt_u64(row_stored_tokens(&l->rows[0], 1000, 0), 1000);
    kt_u64(layout_kv_layers(l), 1);
    assert_true(layout_owns_kv(l, 0));
    assert_false(layout_owns_kv(l, 1));
}

static void diagonals(void **state)
{
    struct kt *k = *state;
    struct model *m = kc_model(k->a, 3, 8, 8, 64);
    struct layout *l = kc_layout(k, m);

    assert_true(layout_share(l, 0, 2, k->d));
    layout_settle(l);
    assert_true(l->rows[0].diagonal_masked);
    assert_false(l->rows[2].diagonal_masked);
    kt_u64(row_attended_tokens(&l->rows[0], &l->rows[2], 10, 0), 10);
    kt_u64(row_attended_tokens(&l->rows[2], &l->rows[2], 10, 0), 11);
    kt_same(kc_passes(k, l), "9*3");
    m->force_no_diagonal = true; /* released LCKV checkpoints */
    l = kc_layout(k, m);
    for (uint32_t i = 0; i < 3; i++)
        assert_true(l->rows[i].diagonal_masked);
}

static void share_refuses(void **state)
{
    struct kt *k = *state;
    struct model *m = kc_model(k->a, 6, 8, 4, 64);

    m->layers[1].attn.kv_heads = 2;
    m->layers[2] = kc_mla(k->a, 1)->layers[0];
    m->layers[2].attn.kv_source = 2;
    m->layers[3].attn.mixer = MIXER_CHUNKED;
    m->layers[3].attn.window_tokens = 64;
    m->layers[4].attn.mixer = MIXER_NONE;
    m->layers[4].state.kind = STATE_SHORTCONV;
    struct layout *l = kc_layout(k, m);
    uint32_t map[] = {1, 2, 3, 0, UINT32_MAX, UINT32_MAX};
    assert_false(layout_share_map(l, map, k->d));
    assert_false(layout_share(l, 4, 0, k->d));
    assert_false(layout_share(l, 0, 4, k->d));
    assert_false(layout_share(l, 0, 9, k->d));
    kt_printed(
        k->d,
        "kvbudget: error: layer 1 cannot read the cache of layer 2: it needs 4 heads of 64 + 64 "
        "elements, layer 2 keeps 2 of 64 + 64\n"
        "kvbudget: error: layer 2 cannot read the cache of layer 3: one keeps K/V heads, the other a "
        "latent\n"
        "kvbudget: error: layer 3 cannot read the cache of layer 4: one keeps K/V heads, the other a "
        "latent\n"
        "kvbudget: error: layer 4 cannot read the cache of layer 1: only one of them attends in "
        "chunks\n"
        "kvbudget: error: layer 6 has attention but no source in the map\n"
        "kvbudget: error: layer 5 has no attention that could read a cache\n"
        "kvbudget: error: layer 1 cannot read the cache of layer 5: layer 5 has no attention\n"
        "kvbudget: error: layer 1 reads layer 10, but there are 6 layers\n");
}

/* A split keeps heads, sources and bytes; readers split with their store. */
static void split_heads(void **state)
{
    struct kt *k = *state;
    struct layout *l = kc_layout(k, kc_model(k->a, 3, 32, 8, 64));
    uint64_t before;

    assert_true(layout_share(l, 0, 2, k->d));
    layout_settle(l);
    before = kc_bytes(l, 100, 0);
    kt_u64(layout_split_heads(l, 2, 3), 3);
    layout_settle(l);
    kt_u64(l->n_rows, 5);
    static const uint32_t layer[] = {0, 0, 1, 2, 2}, group[] = {0, 1, 0, 0, 1};
    static const uint32_t source[] = {3, 4, 2, 3, 4}, kv[] = {3, 5, 8, 3, 5};
    static const uint32_t q[] = {12, 20, 32, 12, 20};
    for (uint32_t i = 0; i < 5; i++) {
        kt_u64(l->rows[i].layer, layer[i]);
        kt_u64(l->rows[i].group, group[i]);
        kt_u64(l->rows[i].source, source[i]);
        kt_u64(l->rows[i].kv_heads, kv[i]);
        kt_u64(l->rows[i].stored_heads, kv[i]);
        kt_u64(l->rows[i].q_heads, q[i]);
    }
    kt_u64(kc_bytes(l, 100, 0), before);
    kt_u64(layout_kv_layers(l), 2);
    kt_u64(layout_attention_layers(l), 3);
    for (uint32_t i = 0; i < 4; i++) /* room grows */
        layout_split_heads(l, l->n_rows - 1, 1);
    layout_settle(l);
    kt_u64(kc_bytes(l, 100, 0), before);
    kt_u64(l->rows[l->n_rows - 1].group, 5);
}

static void native_sharing(void **state)
{
    struct kt *k = *state;
    struct model *m = kc_model(k->a, 4, 8, 8, 64);

    m->layers[3].attn.kv_source = 1;
    struct layout *l = kc_layout(k, m);
    kt_same(l->sharing, "native");
    kt_same(kc_map(k, l), "1 2 3 2");
    m->layers[3].attn.kv_source = 7;
    assert_false(layout_new(k->a, m, k->d, l));
    kt_diag(k->d, "layer 4 reads layer 8, but there are 4 layers", 0);
}

static void names(void **state)
{
    (void)state;
    kt_same(stream_name(STREAM_KV), "kv");
    kt_same(stream_name(STREAM_LATENT), "latent");
    kt_same(stream_name(STREAM_INDEX), "index");
    kt_same(stream_name(STREAM_STATE), "state");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        kt_test(plain_rows),
        kt_test(latent_rows),
        kt_test(state_rows),
        kt_test(windows),
        kt_test(windows_of_shared_stores),
        kt_test(diagonals),
        kt_test(share_refuses),
        kt_test(split_heads),
        kt_test(native_sharing),
        kt_test(names),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
