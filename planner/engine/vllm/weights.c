/* What loading a model takes besides the tensors themselves. vLLM logs the framework's counter,
 * and that counts whole blocks of the allocator. */
#include "planner/engine/vllm/profile.h"

#include <string.h>

enum {
    MIB = 1 << 20,
    LARGE_BYTES = 10 * MIB,  /* from here on a tensor has a segment of its own */
    SEGMENT_BYTES = 2 * MIB, /* segments are multiples of this */
    SPLIT_BYTES = MIB,       /* a rest of no more than this stays with the block */
    MXFP4_ALIGN = 256
};

static uint64_t round_up(uint64_t v, uint64_t to)
{
    return ck_ceil_div(v, to) * to;
}

/* What a block of the allocator is larger than the tensor in it. source: pytorch
 * c10/cuda/CUDACachingAllocator.cpp, kMinLargeAlloc, kRoundLarge, should_split. */
static uint64_t slack_bytes(uint64_t bytes)
{
    uint64_t rest = round_up(bytes, SEGMENT_BYTES) - bytes;

    return bytes >= LARGE_BYTES && rest <= SPLIT_BYTES ? rest : 0;
}

/* --- fused tensors -------------------------------------------------------------------------
 */

enum fused { FUSED_QKV, FUSED_MLP, FUSED_SHARED, FUSED_EXPERTS, N_FUSED, FUSED_NOT };

static enum fused fused_of(const struct tensor *t, bool latent)
{
    switch (t->part) {
    case PART_Q:
    case PART_K:
    case PART_V: return latent ? FUSED_NOT : FUSED_QKV;
    case PART_MLP: return t->split == SPLIT_OUT ? FUSED_MLP : FUSED_NOT;
    case PART_SHARED: return t->split == SPLIT_OUT ? FUSED_SHARED : FUSED_NOT;
    case PART_EXPERT: return t->by_columns ? FUSED_NOT : FUSED_EXPERTS;
    default: return FUSED_NOT;
    }
}

/* Codes alone: scales are tensors of their own, too small for a segment. MXFP4 kernels want the
 * inner dimension in whole tiles (found from a logged start: 13.47 GiB where the checkpoint has
 * 12.8). */
static uint64_t code_bytes(const struct tensor *t, struct weight_format f, struct shard s,
                           struct ck *ck)
{
    f.scale_rows = f.input_bytes = 0;
    return weights_tensor_bytes(t, &f, s, ck);
}

static uint64_t mxfp4_padding(const struct tensor *t, const struct weight_format *f,
                              struct shard s, struct ck *ck)
{
    struct tensor padded = *t;

    if (t->part != PART_EXPERT || t->vector || strcmp(f->name, "mxfp4"))
        return 0;
    padded.in = round_up(t->in, MXFP4_ALIGN);
    return ck_sub(ck, weights_tensor_bytes(&padded, f, s, ck),
                  weights_tensor_bytes(t, f, s, ck));
}

static uint64_t layer_bytes(const struct engine_in *in, uint32_t layer, struct ck *ck)
{
    const struct layout *l = in->layout;
    const struct attention *a = &l->layers[layer].attn;
    struct shard s = {in->parallel.tp, in->parallel.ep, a->kv_heads ? a->kv_heads : 1};
    struct tensor t[LAYER_TENSORS_MAX];
    size_t n = weights_layer(l->model, &l->layers[layer], layout_owns_kv(l, layer), t);
    uint64_t whole[N_FUSED] = {0}, sum = 0;

    for (size_t i = 0; i < n; i++) {
        const struct weight_format *f =
            weights_format_of(l->model, &t[i], (int)layer, in->asked);
        enum fused to = fused_of(&t[i], a->mixer == MIXER_LATENT);
        uint64_t bytes = t[i].vector ? 0 : code_bytes(&t[i], *f, s, ck);
        sum = ck_add(ck, sum, mxfp4_padding(&t[i], f, s, ck));
        if (to < N_FUSED)
            whole[to] = ck_add(ck, whole[to], bytes);
        else
            sum = ck_add(ck, sum, slack_bytes(bytes));
    }
    for (int i = 0; i < N_FUSED; i++)
        sum = ck_add(ck, sum, slack_bytes(whole[i]));
    return sum;
}

/* --- tables --------------------------------------------------------------------------------
 */

/* Cosines and sines for every position the configuration names, once for each rotated width.
 * source: vLLM vllm/model_executor/layers/rotary_embedding. */
static uint64_t rotary_bytes(const struct engine_in *in, struct ck *ck)
{
    const struct model *m = in->layout->model;
    uint64_t seen[8] = {0}, sum = 0;
    size_t n = 0;

    for (uint32_t i = 0; i < m->n_layers && !m->position_rows; i++) {
        const struct attention *t = &m->layers[i].attn;
        uint64_t dim = t->mixer == MIXER_LATENT ? t->rope_dim : t->k_dim;
        bool known = t->mixer == MIXER_NONE || n == sizeof seen / sizeof *seen;
        for (size_t k = 0; k < n; k++)
            known |= seen[k] == dim;
        if (!known)
            seen[n++] = dim;
    }
    for (size_t k = 0; k < n; k++)
        sum = ck_add(ck, sum,
                     ck_prod(ck, m->max_position, seen[k], engine_activation_elem_bytes(in)));
    return sum;
}

uint64_t vllm_weights_bytes(const struct engine_in *in, struct ck *ck)
{
    uint64_t sum = ck_add(ck, in->work->weights_bytes, rotary_bytes(in, ck));

    sum = ck_add(ck, sum, in->work->copied_bytes);
    if (in->layout->model->weights_bytes) /* a known total has no tensors to round */
        return sum;
    for (uint32_t i = in->fold->slice.first; i < in->fold->slice.last; i++)
        if (!in->work->offloaded_bytes)
            sum = ck_add(ck, sum, layer_bytes(in, i, ck));
    return sum;
}
