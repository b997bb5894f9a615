/* The profile run, term by term. Two peaks compete: the widest layer while max_batched_tokens
 * pass through it, and the sampler, which afterwards sorts or masks logits of max_seqs
 * sequences while the hidden states of the step still stand. Sizes were checked against
 * start-up logs (tests/data/engines.csv). */
#include "planner/engine/vllm/profile.h"

#include <string.h>

enum {
    MIB = 1 << 20,
    MOE_CHUNK_TOKENS = 16384, /* fused MoE kernels took no more at once before 0.18 */
    MARLIN_ROWS = 1024,       /* rows of the fp32 sums of the 4-bit kernels */
    MLA_CONTEXT_TOKENS = 65536,
    CUBLAS_HOPPER_BYTES = 32 * MIB,
    CUBLAS_BYTES = 8 * MIB + MIB / 8,
    GRAPH_BATCH_MAX = 512
};

/* --- the machine ---------------------------------------------------------------------------
 */

/* The workspace cuBLAS takes on its first product, from the framework's allocator: 32 MiB since
 * Hopper, 4096 KiB twice and 16 KiB eight times before. source: pytorch
 * aten/src/ATen/cuda/CublasHandlePool.cpp. */
static uint64_t cublas_bytes(const struct gpu *g)
{
    const char *cc = g->compute_capability;

    if (!cc || !*cc)
        return CUBLAS_BYTES;
    return cc[0] == '9' || (cc[0] == '1' && cc[1] >= '0' && cc[1] <= '9') ? CUBLAS_HOPPER_BYTES
                                                                          : CUBLAS_BYTES;
}

static bool eager(const struct engine_in *in)
{
    return in->set->cuda_graphs == 1;
}

static uint64_t sampled_seqs(const struct engine_in *in)
{
    return u64_min(in->set->max_seqs, in->set->max_batched_tokens);
}

/* --- layers --------------------------------------------------------------------------------
 */

/* A dense MLP: the output of the first matrices, and of the activation function. */
static uint64_t mlp_width(const struct ffn *f, uint32_t tp)
{
    uint64_t width = u64_max(f->intermediate, f->shared_intermediate);

    return ck_ceil_div(width * (f->gated ? 3 : 2), tp);
}

/* Attention: queries, keys and values as projected, and the queries and keys after rotation. */
static uint64_t attention_width(const struct attention *t, uint32_t tp)
{
    uint64_t q = (uint64_t)shard_heads(t->heads, tp) * t->k_dim;
    uint64_t kv = (uint64_t)shard_kv_heads(t->kv_heads ? t->kv_heads : 1, tp) * t->k_dim;

    return t->mixer == MIXER_NONE ? 0 : 2 * q + 3 * kv;
}

/* The two buffers of the fused expert kernels, elements a token: [top_k][max(N, hidden)]
 * between the two products, and [top_k][max(2N, hidden)] for the products themselves, N the
 * experts' width on this rank. The MXFP4 kernels of Hopper have none. source: vLLM
 * vllm/model_executor/layers/fused_moe/fused_moe.py, TritonExperts.workspace_shapes. */
static uint64_t expert_width(const struct engine_in *in, const struct ffn *f)
{
    const struct model *m = in->layout->model;
    uint64_t n = ck_ceil_div(f->moe_intermediate, in->parallel.ep > 1 ? 1 : in->parallel.tp);
    uint64_t h = f->moe_latent ? f->moe_latent : m->hidden;

    if (!f->experts || (m->quant.method && !strcmp(m->quant.method, "mxfp4") && !in->asked))
        return 0;
    return f->top_k * (u64_max(n, h) + u64_max((f->gated ? 2 : 1) * n, h));
}

/* 4-bit kernels of V0 copy what goes into a product, to reorder it. source: vLLM
 * csrc/quantization/gptq_marlin/gptq_marlin.cu at 0.6.4 (a_tmp, c_tmp). */
static bool copies_inputs(const struct engine_in *in, const struct vllm_rules *r)
{
    const struct weight_format *f = in->asked ? in->asked : in->layout->model->quant.format;

    return !r->v1 && f &&
           (!strcmp(f->name, "int4") || !strcmp(f->name, "awq") || !strcmp(f->name, "gptq"));
}

struct widest {
    uint64_t layer, experts; /* elements a token: the widest dense part; expert buffers */
    uint64_t down;           /* the input of the last product of an MLP */
    uint64_t latent_heads;   /* MLA: heads of this rank times their expanded key and value */
};

static struct widest widest_layer(const struct engine_in *in)
{
    struct widest w = {0, 0, 0, 0};
    uint32_t tp = in->parallel.tp;

    for (uint32_t i = in->fold->slice.first; i < in->fold->slice.last; i++) {
        const struct layer *l = &in->layout->layers[i];
        const struct attention *t = &l->attn;
        w.layer = u64_max(w.layer, mlp_width(&l->ffn, tp));
        w.down = u64_max(w.down, ck_ceil_div(l->ffn.intermediate, tp));
        w.layer = u64_max(w.layer, attention_width(t, tp));
        w.experts = u64_max(w.experts, expert_width(in, &l->ffn));
        if (t->mixer == MIXER_LATENT)
            w.latent_heads = u64_max(w.latent_heads, (uint64_t)shard_heads(t->heads, tp) *
                                                         (t->nope_dim + t->v_dim));
    }
    return w;
}

/* MLA: the keys and values a chunk of cached context would expand to are allocated for show.
 * source: vLLM MLACommonMetadataBuilder.determine_chunked_prefill_workspace_size. */
static uint64_t latent_tokens(const struct engine_in *in)
{
    uint64_t seqs = in->set->max_seqs, block = in->set->block_tokens;
    uint64_t want = u64_max(8 * in->set->max_model_len, 4 * seqs * block);

    return u64_max(u64_min(want, MLA_CONTEXT_TOKENS), seqs * block);
}

static uint64_t moe_tokens(const struct engine_in *in, const struct vllm_rules *r)
{
    uint64_t tokens = in->set->max_batched_tokens;

    return r->from < ENGINE_VERSION(0, 18, 0) ? u64_min(tokens, MOE_CHUNK_TOKENS) : tokens;
}

/* --- the two peaks -------------------------------------------------------------------------
 */

/* Hidden states that stand beside a layer's own tensors: compiled code keeps the attention's
 * output, the residual it came with and the new one; eager code one more, and one for the sum
 * over ranks. */
static uint64_t standing_states(const struct engine_in *in, const struct vllm_rules *r)
{
    if (r->v1 && !eager(in))
        return 3;
    return in->parallel.tp > 1 ? 5 : 4;
}

static uint64_t layer_peak_bytes(const struct engine_in *in, const struct vllm_rules *r,
                                 const struct widest *w, struct ck *ck)
{
    uint64_t elem = engine_activation_elem_bytes(in), tokens = in->set->max_batched_tokens;
    uint64_t hidden = ck_mul(ck, in->layout->model->hidden, standing_states(in, r));
    uint64_t latent = r->v1 ? ck_prod(ck, latent_tokens(in), w->latent_heads, elem) : 0;
    uint64_t dense = ck_prod(ck, tokens, w->layer, elem);
    uint64_t peak = ck_prod(ck, tokens, hidden, elem);

    if (!r->moe_stays)
        dense = u64_max(dense, ck_prod(ck, moe_tokens(in, r), w->experts, elem));
    if (copies_inputs(in, r))
        dense = ck_add(ck, dense,
                       ck_add(ck, ck_prod(ck, tokens, w->down, elem),
                              ck_prod(ck, MARLIN_ROWS, in->layout->model->hidden, 4)));
    peak = ck_add(ck, peak, u64_max(dense, latent));
    /* timing the compiled kernels clears the L2 cache through a buffer of its size */
    return r->v1 && !eager(in) ? ck_add(ck, peak, in->gpu->l2_bytes) : peak;
}

/* Logits in the model's type and, each 4 bytes, in fp32, as probabilities and as the noise they
 * are divided by; before 0.17 a sort: its values and indices, and both again while it runs. */
static uint64_t sampler_peak_bytes(const struct engine_in *in, const struct vllm_rules *r,
                                   struct ck *ck)
{
    const struct model *m = in->layout->model;
    uint64_t elem = engine_activation_elem_bytes(in), seqs = sampled_seqs(in);
    uint64_t logits = ck_prod(ck, seqs, m->vocab, elem + r->sampler_bytes);
    uint64_t states = ck_add(ck, in->set->max_batched_tokens, ck_mul(ck, 2, seqs));

    if (r->sampler_buffer)
        logits = ck_add(ck, logits, ck_prod(ck, in->gpu->multiprocessors, m->vocab, 4));
    return ck_add(ck, logits, ck_prod(ck, states, m->hidden, elem));
}

uint64_t vllm_activation_bytes(const struct engine_in *in, const struct vllm_rules *r,
                               struct ck *ck)
{
    struct widest w = widest_layer(in);
    uint64_t elem = engine_activation_elem_bytes(in), tokens = in->set->max_batched_tokens;
    uint64_t peak = layer_peak_bytes(in, r, &w, ck);

    if (in->last_stage)
        peak = u64_max(peak, sampler_peak_bytes(in, r, ck));
    if (r->moe_stays)
        peak = ck_add(ck, peak, ck_prod(ck, moe_tokens(in, r), w.experts, elem));
    if (!in->first_stage) /* what the stage before sends: hidden states and residual */
        peak = ck_add(ck, peak, ck_prod(ck, 2, tokens, in->layout->model->hidden, elem));
    return ck_add(ck, peak, cublas_bytes(in->gpu));
}

/* --- CUDA graphs ---------------------------------------------------------------------------
 */

/* Batch sizes that are captured: 1, 2, 4, by 8 up to 256, then by 16. */
static uint64_t captured_sizes(uint64_t most)
{
    uint64_t small = most < 3 ? most : most < 4 ? 2 : 3;

    return small + u64_min(most, 256) / 8 + (most > 256 ? (most - 256) / 16 : 0);
}

uint64_t vllm_graph_bytes(const struct engine_in *in, const struct vllm_rules *r, struct ck *ck)
{
    uint64_t most = u64_min(2 * in->set->max_seqs, GRAPH_BATCH_MAX), between = 0, graphs;
    uint64_t layers = in->fold->slice.last - in->fold->slice.first, mlp = 0;

    if (eager(in))
        return 0;
    for (uint32_t i = in->fold->slice.first; i < in->fold->slice.last; i++) {
        const struct attention *t = &in->layout->layers[i].attn;
        uint64_t q = (uint64_t)shard_heads(t->heads, in->parallel.tp) * t->v_dim;
        between = ck_add(ck, between, t->mixer == MIXER_NONE ? 0 : 2 * q);
        mlp = u64_max(mlp, mlp_width(&in->layout->layers[i].ffn, in->parallel.tp));
    }
    between = ck_prod(ck, ck_add(ck, between, mlp), most, engine_activation_elem_bytes(in));
    graphs = ck_prod(ck, layers, captured_sizes(most), r->graph_layer_mib, MIB) / 100;
    return ck_add(ck, between, ck_add(ck, graphs, ck_mul(ck, r->graph_fixed_mib, MIB)));
}
