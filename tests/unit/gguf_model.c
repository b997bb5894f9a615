/* GGUF files as models: shapes from keys and tensors, exact bytes, split files, and every
 * refusal with its message. */
#include "tests/kvgguf.h"
#include "tests/kvmodel.h"

#include "planner/model/from_gguf.h"
#include "planner/model/from_store.h"

enum { F32, F16, Q8_0 = 8, Q4_K = 12 };

/* Two layers of 256, 4 heads over 2 K/V heads of 64, an MLP of 512, q4_K with f32 norms. */
static struct kgm *llama(struct kt *t)
{
    struct kgm *m = ARENA_NEW(t->a, struct kgm, 1);
    char name[64];

    kgm_string(m, "general.architecture", "llama");
    kgm_string(m, "general.name", "Tiny");
    kgm_key(m, "llama.block_count", 2);
    kgm_key(m, "llama.embedding_length", 256);
    kgm_key(m, "llama.context_length", 4096);
    kgm_key(m, "llama.attention.head_count", 4);
    kgm_key(m, "llama.attention.head_count_kv", 2);
    kgm_tensor(m, "token_embd.weight", Q8_0, 256, 1000, 1);
    kgm_tensor(m, "output.weight", Q8_0, 256, 1000, 1);
    kgm_tensor(m, "output_norm.weight", F32, 256, 1, 1);
    for (int i = 0; i < 2; i++) {
#define T(suffix, type, a, b)                                                                  \
    (snprintf(name, sizeof name, "blk.%d." suffix, i), kgm_tensor(m, name, type, a, b, 1))
        T("attn_norm.weight", F32, 256, 1);
        T("attn_q.weight", Q4_K, 256, 256);
        T("attn_k.weight", Q4_K, 256, 128);
        T("attn_v.weight", Q8_0, 256, 128);
        T("attn_output.weight", Q4_K, 256, 256);
        T("ffn_norm.weight", F32, 256, 1);
        T("ffn_gate.weight", Q4_K, 256, 512);
        T("ffn_up.weight", Q4_K, 256, 512);
        T("ffn_down.weight", Q4_K, 512, 256);
#undef T
    }
    return m;
}

static const char *in(struct kt *t, const char *folder, const char *file)
{
    return arena_printf(t->a, "%s/%s", folder, file);
}

static void test_llama(void **state)
{
    struct kt *t = *state;
    char *folder = kt_folder(t->a);
    struct kgm *file = llama(t);
    struct model m;

    kgm_write(file, in(t, folder, "tiny.gguf"));
    assert_true(model_from_weights(t->a, in(t, folder, "tiny.gguf"), NULL, t->d, &m));
    kt_folder_remove(folder);
    kt_same(m.name, "Tiny");
    kt_same(m.model_type, "llama");
    kt_u64(m.n_layers, 2);
    kt_u64(m.vocab, 1000);
    assert_false(m.tied);
    kt_u64(m.layers[1].attn.kv_heads, 2);
    kt_u64(m.layers[1].attn.k_dim, 64);
    kt_u64(m.layers[1].ffn.intermediate, 512);
    assert_true(m.layers[1].ffn.gated);
    kt_u64(m.layers[1].norms, 2);
    kt_same(m.quant.format->name, "q4_k");
    kt_same(m.quant.embed->name, "q8_0");
    kt_same(m.quant.head->name, "q8_0");
    kt_same(m.dtype, "fp16");
    assert_non_null(strstr(km_written(t, &m), "  embed_format: q8_0\n  head_format: q8_0\n"));
    /* 2 tables of 1000 x 256 in q8_0; a layer of 655,360 - 32,768 in q4_K, 32,768 in q8_0,
     * 512 norms; 256 more */
    kt_u64(m.weights_bytes, 2 * 272000 + 2 * (557056 / 256 * 144 + 34816 + 2048) + 1024);
    kt_u64(m.weights_bytes, file->bytes);
    kt_u64(km_count(&m).total, 2 * 256000 + 2 * (557056 + 32768 + 512) + 256);
    kt_u64(m.layers[0].vector_params + m.layers[0].matrix_params, 0);
    kt_printed(t->d, arena_printf(t->a,
                                  "%s/tiny.gguf: note: 21 tensors in the file hold 1245440 "
                                  "bytes of weights, most of them q4_k\n",
                                  folder));
    km_round_trip(t, &m);
}

/* Per-layer heads, biases, norms of q and k, experts, and parts nobody knows. */
static void test_mixture(void **state)
{
    struct kt *t = *state;
    static const uint32_t kv[] = {2, 0};
    char *folder = kt_folder(t->a);
    struct kgm *file = ARENA_NEW(t->a, struct kgm, 1);
    struct model m;

    kgm_string(file, "general.architecture", "qwen3moe");
    kgm_key(file, "qwen3moe.block_count", 2);
    kgm_key(file, "qwen3moe.embedding_length", 64);
    kgm_key(file, "qwen3moe.attention.head_count", 4);
    kgm_list(file, "qwen3moe.attention.head_count_kv", kv, 2);
    kgm_key(file, "qwen3moe.attention.key_length", 32);
    kgm_key(file, "qwen3moe.attention.value_length", 32);
    kgm_key(file, "qwen3moe.expert_used_count", 2);
    kgm_tensor(file, "token_embd.weight", F16, 64, 100, 1);
    kgm_tensor(file, "output_norm.weight", F32, 64, 1, 1);
    kgm_tensor(file, "strange.weight", F16, 64, 1000, 1);
    kgm_tensor(file, "blk.0.attn_norm.weight", F32, 64, 1, 1);
    kgm_tensor(file, "blk.0.attn_q.weight", F16, 64, 128, 1);
    kgm_tensor(file, "blk.0.attn_q.bias", F32, 128, 1, 1);
    kgm_tensor(file, "blk.0.attn_q_norm.weight", F32, 32, 1, 1);
    kgm_tensor(file, "blk.0.attn_k_norm.weight", F32, 32, 1, 1);
    kgm_tensor(file, "blk.0.attn_k.weight", F16, 64, 64, 1);
    kgm_tensor(file, "blk.0.attn_v.weight", F16, 64, 64, 1);
    kgm_tensor(file, "blk.0.attn_output.weight", F16, 128, 64, 1);
    kgm_tensor(file, "blk.0.ffn_gate_inp.weight", F32, 64, 8, 1);
    kgm_tensor(file, "blk.0.ffn_gate_exps.weight", F16, 64, 48, 8);
    kgm_tensor(file, "blk.0.ffn_up_exps.weight", F16, 64, 48, 8);
    kgm_tensor(file, "blk.0.ffn_down_exps.weight", F16, 48, 64, 8);
    kgm_tensor(file, "blk.0.scale", F32, 7, 1, 1);
    kgm_tensor(file, "blk.1.attn_q.weight", F16, 64, 128, 1);
    kgm_tensor(file, "blk.1.ffn_up.weight", F16, 64, 96, 1);
    kgm_tensor(file, "blk.1.ffn_down.weight", F16, 96, 64, 1);
    kgm_write(file, in(t, folder, "a.gguf"));
    assert_true(model_from_folder(t->a, folder, NULL, t->d, &m));
    kt_folder_remove(folder);
    kt_same(m.name, "a");
    assert_true(m.tied);
    kt_u64(m.layers[0].ffn.experts, 8);
    kt_u64(m.layers[0].ffn.top_k, 2);
    kt_u64(m.layers[0].ffn.moe_intermediate, 48);
    assert_true(m.layers[0].attn.q_bias);
    assert_false(m.layers[0].attn.k_bias);
    assert_int_equal(m.layers[0].attn.qk_norm, QK_NORM_HEAD);
    kt_u64(m.layers[0].attn.k_dim, 32);
    kt_u64(m.layers[0].vector_params, 7);
    assert_int_equal(m.layers[1].attn.mixer, MIXER_NONE);
    kt_u64(m.layers[1].matrix_params, 8192); /* its q projection, without K/V */
    assert_false(m.layers[1].ffn.gated);
    kt_u64(m.matrix_params_extra, 64000);
    kt_same(m.dtype, "fp16");
    kt_u64(km_count(&m).total, 6400 + 64 + 64000 + 64 + 8192 + 128 + 64 + 8192 + 8192 + 512 +
                                   3 * 48 * 64 * 8 + 7 + 8192 + 12288);
    kt_u64(m.weights_bytes, file->bytes);
    km_round_trip(t, &m);
}

/* Gemma 3: five sliding layers to a full one, with the last of six full. */
static void test_windows(void **state)
{
    struct kt *t = *state;
    char *folder = kt_folder(t->a), name[64];
    struct kgm *file = ARENA_NEW(t->a, struct kgm, 1);
    struct model m;

    kgm_string(file, "general.architecture", "gemma3");
    kgm_key(file, "gemma3.block_count", 8);
    kgm_key(file, "gemma3.nextn_predict_layers", 1);
    kgm_key(file, "gemma3.embedding_length", 64);
    kgm_key(file, "gemma3.attention.head_count", 2);
    kgm_key(file, "gemma3.attention.head_count_kv", 1);
    kgm_key(file, "gemma3.attention.sliding_window", 512);
    kgm_tensor(file, "token_embd.weight", F16, 64, 100, 1);
    for (int i = 0; i < 8; i++) {
        snprintf(name, sizeof name, "blk.%d.attn_q.weight", i);
        kgm_tensor(file, name, F16, 64, 64, 1);
        snprintf(name, sizeof name, "blk.%d.attn_k.weight", i);
        kgm_tensor(file, name, F16, 64, 32, 1);
        snprintf(name, sizeof name, "blk.%d.attn_v.weight", i);
        kgm_tensor(file, name, F16, 64, 32, 1);
        snprintf(name, sizeof name, "blk.%d.attn_output.weight", i);
        kgm_tensor(file, name, F16, 64, 64, 1);
    }
    kgm_write(file, in(t, folder, "a.gguf"));
    assert_true(model_from_weights(t->a, in(t, folder, "a.gguf"), "b", t->d, &m));
    kt_folder_remove(folder);
    kt_same(m.name, "b");
    kt_u64(m.n_layers, 7);
    for (uint32_t i = 0; i < 7; i++)
        kt_u64(m.layers[i].attn.window_tokens, i == 5 ? 0 : 512);
    kt_u64(m.weights_bytes, file->bytes - 24576); /* without the eighth layer */
    kt_diag(t->d, "1 multi-token-prediction layers of the file are not counted", 0);
    kt_diag(t->d, "most of them fp16 (without 24576 of multi-token prediction)", 0);
}

/* DeepSeek with absorbed MLA, and the same file without the keys that say so. */
static void mla(struct kt *t, bool absorbed, struct model *m)
{
    char *folder = kt_folder(t->a);
    struct kgm *file = ARENA_NEW(t->a, struct kgm, 1);

    kgm_string(file, "general.architecture", "deepseek2");
    kgm_key(file, "deepseek2.block_count", 1);
    kgm_key(file, "deepseek2.embedding_length", 64);
    kgm_key(file, "deepseek2.attention.head_count", 4);
    kgm_key(file, "deepseek2.attention.head_count_kv", absorbed ? 1 : 4);
    kgm_key(file, "deepseek2.attention.kv_lora_rank", 32);
    kgm_key(file, "deepseek2.rope.dimension_count", 8);
    kgm_key(file, "deepseek2.attention.key_length", absorbed ? 40 : 24);
    kgm_key(file, "deepseek2.attention.value_length", absorbed ? 32 : 16);
    if (absorbed) {
        kgm_key(file, "deepseek2.attention.key_length_mla", 24);
        kgm_key(file, "deepseek2.attention.value_length_mla", 16);
    }
    kgm_tensor(file, "token_embd.weight", F16, 64, 100, 1);
    kgm_tensor(file, "blk.0.attn_q.weight", F16, 64, 96, 1);
    kgm_tensor(file, "blk.0.attn_kv_a_mqa.weight", F16, 64, 40, 1);
    kgm_tensor(file, "blk.0.attn_kv_a_norm.weight", F32, 32, 1, 1);
    kgm_tensor(file, "blk.0.attn_kv_b.weight", F16, 32, 128, 1);
    kgm_tensor(file, "blk.0.attn_output.weight", F16, 64, 64, 1);
    kgm_write(file, in(t, folder, "a.gguf"));
    assert_true(model_from_weights(t->a, in(t, folder, "a.gguf"), NULL, t->d, m));
    kt_folder_remove(folder);
}

static void test_mla(void **state)
{
    struct kt *t = *state;
    struct model m;

    mla(t, true, &m);
    assert_int_equal(m.layers[0].attn.mixer, MIXER_LATENT);
    kt_u64(m.layers[0].attn.kv_lora_rank, 32);
    kt_u64(m.layers[0].attn.rope_dim, 8);
    kt_u64(m.layers[0].attn.nope_dim, 16);
    kt_u64(m.layers[0].attn.v_dim, 16);
    kt_u64(m.layers[0].vector_params + m.layers[0].matrix_params, 0);
    mla(t, false, &m);
    assert_int_equal(m.layers[0].attn.mixer, MIXER_FULL);
    kt_u64(m.layers[0].attn.k_dim, 24);
    kt_u64(m.layers[0].attn.v_dim, 16);
    kt_diag(t->d, "an older file without the keys of absorbed MLA", 0);
}

/* Gated delta nets beside attention; Mamba-2 and attention in one layer; a short convolution.
 */
static void test_states(void **state)
{
    struct kt *t = *state;
    static const char *const archs[] = {"qwen35", "falcon-h1", "lfm2"};
    static const enum state_kind kinds[] = {STATE_GDN, STATE_MAMBA2, STATE_SHORTCONV};

    for (int i = 0; i < 3; i++) {
        char *folder = kt_folder(t->a);
        struct kgm *file = ARENA_NEW(t->a, struct kgm, 1);
        struct model m;
#define K(name) arena_printf(t->a, "%s." name, archs[i])
        kgm_string(file, "general.architecture", archs[i]);
        kgm_key(file, K("block_count"), 1);
        kgm_key(file, K("embedding_length"), 64);
        kgm_key(file, K("attention.head_count"), 4);
        kgm_key(file, K("ssm.inner_size"), 128);
        kgm_key(file, K("ssm.state_size"), 16);
        kgm_key(file, K("ssm.group_count"), 2);
        kgm_key(file, K("ssm.time_step_rank"), 8);
        kgm_key(file, K("ssm.conv_kernel"), 4);
        kgm_key(file, K("shortconv.l_cache"), 3);
#undef K
        kgm_tensor(file, "token_embd.weight", F16, 64, 100, 1);
        kgm_tensor(file, "blk.0.attn_qkv.weight", F16, 64, 192, 1);
        kgm_tensor(file, i < 2 ? "blk.0.ssm_conv1d.weight" : "blk.0.shortconv.conv.weight", F32,
                   4, 160, 1);
        kgm_write(file, in(t, folder, "a.gguf"));
        assert_true(model_from_weights(t->a, in(t, folder, "a.gguf"), NULL, t->d, &m));
        kt_folder_remove(folder);
        assert_int_equal(m.layers[0].state.kind, kinds[i]);
        assert_int_equal(m.layers[0].attn.mixer, i == 0 ? MIXER_NONE : MIXER_FULL);
        if (i == 0)
            kt_u64(m.layers[0].state.v_dim, 16);
        if (i == 1)
            kt_u64(m.layers[0].state.head_dim, 16);
    }
}

/* --- split files ----------------------------------------------------------------------------
 */

static void test_split(void **state)
{
    struct kt *t = *state;
    char *folder = kt_folder(t->a);
    struct kgm *one = llama(t), *two = ARENA_NEW(t->a, struct kgm, 1);
    struct model m;

    kgm_tensor(two, "extra.weight", F16, 256, 100, 1);
    kgm_key(one, "split.count", 2);
    kgm_key(one, "split.tensors.count", 22);
    kgm_write(one, in(t, folder, "a-00001-of-00002.gguf"));
    assert_false(
        model_from_weights(t->a, in(t, folder, "a-00001-of-00002.gguf"), NULL, t->d, &m));
    kt_printed(
        t->d,
        arena_printf(t->a, "%s: error: there is no 'a-00002-of-00002.gguf' there\n", folder));
    kgm_write(two, in(t, folder, "a-00002-of-00002.gguf"));
    assert_true(model_from_folder(t->a, folder, NULL, t->d, &m));
    kt_u64(m.weights_bytes, one->bytes + 51200);
    kt_diag(t->d, "22 tensors in 2 files hold", 0);
    rename(in(t, folder, "a-00001-of-00002.gguf"), in(t, folder, "b.gguf"));
    assert_false(model_from_weights(t->a, in(t, folder, "b.gguf"), NULL, t->d, &m));
    kt_diag(t->d,
            "is one of 2 parts, but is not called NAME-00001-of-00002.gguf: the others cannot "
            "be found",
            0);
    kt_folder_remove(folder);
}

static void test_split_wrong(void **state)
{
    struct kt *t = *state;
    char *folder = kt_folder(t->a);
    struct kgm *one = llama(t), *two = ARENA_NEW(t->a, struct kgm, 1);
    const char *first = in(t, folder, "a-00001-of-00002.gguf");
    struct model m;

    kgm_tensor(two, "output.weight", F16, 256, 100, 1);
    kgm_write(one, first);
    kgm_write(two, in(t, folder, "a-00002-of-00002.gguf"));
    assert_false(model_from_weights(t->a, first, NULL, t->d, &m));
    kt_diag(t->d, "the tensor 'output.weight' stands in two of its parts", 0);
    two->infos.b[8] = 'q';
    kgm_write(two, in(t, folder, "a-00002-of-00002.gguf"));
    kgm_key(one, "split.count", 3);
    kgm_write(one, first);
    assert_false(model_from_weights(t->a, first, NULL, t->d, &m));
    kt_diag(t->d, "its name has 2 parts, its key split.count 3", 0);
    one = llama(t);
    kgm_key(one, "split.count", 2);
    kgm_key(one, "split.tensors.count", 30);
    kgm_write(one, first);
    assert_false(model_from_weights(t->a, first, NULL, t->d, &m));
    kt_diag(t->d, "its key split.tensors.count is 30, the parts hold 22", 0);
    kt_folder_remove(folder);
}

/* --- what is refused as a model -------------------------------------------------------------
 */

static void refuses_model(void **state, const struct kgm *file, const char *message)
{
    struct kt *t = *state;
    char *folder = kt_folder(t->a);
    const char *path = in(t, folder, "a.gguf");
    struct model m;

    kgm_write(file, path);
    assert_false(model_from_weights(t->a, path, NULL, t->d, &m));
    kt_printed(t->d, arena_printf(t->a, "%s: error: %s\n", path, message));
    kt_folder_remove(folder);
    t->d = diag_new(t->a);
}

static struct kgm *named(struct kt *t, const char *key, const char *value)
{
    struct kgm *m = ARENA_NEW(t->a, struct kgm, 1);

    kgm_string(m, key, value);
    kgm_tensor(m, "token_embd.weight", F16, 64, 100, 1);
    return m;
}

static void test_no_model(void **state)
{
    struct kt *t = *state;
    struct kgm *m = named(t, "general.type", "adapter");

    refuses_model(state, m, "is an adapter: name the file of the model it belongs to");
    m = named(t, "general.type", "mmproj");
    refuses_model(state, m, "is the projector of a vision model: name the model's file");
    m = named(t, "general.name", "x");
    refuses_model(state, m, "has no general.architecture: it is no model");
    m = named(t, "general.architecture", "bert");
    refuses_model(state, m,
                  "architecture 'bert' cannot be planned: it is an encoder and keeps no "
                  "K/V cache");
    m = named(t, "general.architecture", "rwkv7");
    refuses_model(state, m,
                  "architecture 'rwkv7' cannot be planned: its state is of a kind that is "
                  "not known here");
    m = named(t, "general.architecture", "llama");
    kgm_key(m, "llama.attention.causal", 0);
    kgm_key(m, "llama.pooling_type", 1);
    refuses_model(state, m,
                  "architecture 'llama' cannot be planned: it is an encoder and keeps no "
                  "K/V cache");
    m = ARENA_NEW(t->a, struct kgm, 1);
    kgm_string(m, "general.architecture", "llama");
    refuses_model(state, m, "holds no tensors");
}

static void test_bad_sizes(void **state)
{
    struct kt *t = *state;
    struct kgm *m = named(t, "general.architecture", "llama");

    kgm_key(m, "llama.embedding_length", 64);
    refuses_model(state, m,
                  "'llama.block_count' must be between 1 and 4096, without 0 of "
                  "multi-token prediction, found 0");
    kgm_key(m, "llama.block_count", 1u << 30);
    refuses_model(state, m,
                  "'llama.block_count' must be between 0 and 16777216, found 1073741824");
    m = named(t, "general.architecture", "llama");
    kgm_string(m, "llama.block_count", "two");
    refuses_model(state, m,
                  "'llama.block_count' must be a whole number, or a list of at most 4096 "
                  "of them");
    m = named(t, "general.architecture", "llama");
    kgm_key(m, "llama.block_count", 1);
    refuses_model(state, m, "'llama.embedding_length' must be given and not be 0");
    m = ARENA_NEW(t->a, struct kgm, 1);
    kgm_string(m, "general.architecture", "llama");
    kgm_key(m, "llama.block_count", 1);
    kgm_key(m, "llama.embedding_length", 64);
    kgm_tensor(m, "a", F16, 64, 100, 1);
    refuses_model(state, m, "has no tensor 'token_embd.weight'");
}

static void test_bad_lists(void **state)
{
    struct kt *t = *state;
    static const uint32_t heads[] = {4};
    struct kgm *m = named(t, "general.architecture", "llama");

    kgm_key(m, "llama.block_count", 2);
    kgm_key(m, "llama.embedding_length", 64);
    kgm_list(m, "llama.attention.head_count", heads, 1);
    refuses_model(state, m, "'llama.attention.head_count' has 1 items, layer 2 needs one more");
    m = named(t, "general.architecture", "llama");
    kgm_key(m, "llama.block_count", 2);
    kgm_key(m, "llama.embedding_length", 64);
    kgm_tensor(m, "blk.0.ffn_down.weight", F16, 1u << 25, 1, 1);
    refuses_model(
        state, m,
        "tensor 'blk.0.ffn_down.weight' is 33554432 wide, at most 16777216 is allowed");
}

static void test_bad_tensors(void **state)
{
    struct kt *t = *state;
    struct kgm *m = named(t, "general.architecture", "llama");

    kgm_tensor(m, "t", 36, 64, 1, 1);
    refuses_model(state, m,
                  "tensor 't' is of the unknown ggml type 36: how many bytes it takes is "
                  "not known");
    m = named(t, "general.architecture", "llama");
    kgm_tensor(m, "t", Q4_K, 100, 1, 1);
    refuses_model(state, m,
                  "tensor 't' has rows of 100 elements, q4_K needs a multiple of 256");
    m = named(t, "general.architecture", "llama");
    m->at += 32;
    kgm_tensor(m, "t", F16, 64, 1, 1);
    refuses_model(state, m,
                  "tensor 't' is said to start at byte 12832 of the data, the one before "
                  "it ends at 12800");
    m = named(t, "general.architecture", "llama");
    kgm_tensor(m, "t", F16, 64, 1, 1);
    m->at -= 64;
    refuses_model(state, m, "tensor 't' ends behind the end of the file: it is cut short");
}

static void test_unknown_arch(void **state)
{
    struct kt *t = *state;
    char *folder = kt_folder(t->a);
    struct kgm *file = named(t, "general.architecture", "newcomer");
    struct model m;

    kgm_key(file, "newcomer.block_count", 1);
    kgm_key(file, "newcomer.embedding_length", 64);
    kgm_write(file, in(t, folder, "a.gguf"));
    assert_true(model_from_weights(t->a, in(t, folder, "a.gguf"), NULL, t->d, &m));
    kt_diag(t->d,
            "architecture 'newcomer' is not known here: its layers are taken to attend to the "
            "whole context",
            0);
    kt_same(m.family, "gguf");
    kgm_write(file, in(t, folder, "b.gguf"));
    kgm_write(file, in(t, folder, "mmproj-b.gguf"));
    assert_false(model_from_folder(t->a, folder, NULL, t->d, &m));
    kt_diag(t->d, "holds 2 GGUF files (a.gguf, b.gguf): name one of them", 0);
    kt_folder_remove(folder);
}

/* Every type has the block the table of weight formats gives it. */
static void test_types(void **state)
{
    static const struct {
        uint32_t id, elems, bytes;
    } want[] = {{0, 1, 4},      {1, 1, 2},    {2, 32, 18},   {8, 32, 34},  {12, 256, 144},
                {14, 256, 210}, {20, 32, 18}, {24, 1, 1},    {27, 1, 8},   {28, 1, 8},
                {29, 256, 56},  {30, 1, 2},   {34, 256, 54}, {39, 32, 17}, {40, 64, 36},
                {41, 128, 18},  {42, 64, 18}};
    static const uint32_t retired[] = {4, 5, 31, 32, 33, 36, 37, 38, 43, UINT32_MAX};
    struct ggml_type t;
    uint64_t n = 0;

    (void)state;
    for (size_t i = 0; i < sizeof want / sizeof *want; i++) {
        assert_true(ggml_type_find(want[i].id, &t));
        kt_u64(t.block_elems, want[i].elems);
        kt_u64(t.block_bytes, want[i].bytes);
    }
    for (size_t i = 0; i < sizeof retired / sizeof *retired; i++)
        assert_false(ggml_type_find(retired[i], &t));
    for (uint32_t id = 0; id < 64; id++)
        n += ggml_type_find(id, &t);
    kt_u64(n, 35);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        kt_test(test_llama),       kt_test(test_mixture),     kt_test(test_windows),
        kt_test(test_mla),         kt_test(test_states),      kt_test(test_split),
        kt_test(test_split_wrong), kt_test(test_no_model),    kt_test(test_bad_sizes),
        kt_test(test_bad_lists),   kt_test(test_bad_tensors), kt_test(test_unknown_arch),
        kt_test(test_types),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
