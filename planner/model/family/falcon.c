/* Falcon 7B, 40B and 180B: multi-query (one K/V head) in the first architecture, num_kv_heads
 * in the new one, which also has two norms a layer. Old configs do not say which; more than one
 * K/V head beside multi_query tells. */
#include "planner/model/family.h"

static void read(struct config *c, struct model *m)
{
    uint32_t heads = config_u32(c, "num_kv_heads|n_head_kv", 0), width;
    bool multi = config_bool(c, "multi_query", true), fresh;
    bool bias = config_bool(c, "bias", false), parallel = config_bool(c, "parallel_attn", true);

    m->tied = true;
    if (!family_read_llama_like(c, m))
        return;
    fresh = config_bool(c, "new_decoder_architecture",
                        multi && heads > 1 && heads != m->layers[0].attn.heads);
    width = config_u32(c, "ffn_hidden_size", 4 * m->hidden);
    m->norm = NORM_LAYER;
    family_set_norms(m, fresh || !parallel ? 2 : 1);
    if (config_u32(c, "num_ln_in_parallel_attn", 2) == 1)
        family_set_norms(m, 1);
    family_set_mlp(m, false, bias);
    family_set_bias(m, bias ? "qkvo" : "");
    for (uint32_t i = 0; i < m->n_layers; i++) {
        struct attention *a = &m->layers[i].attn;

        m->layers[i].ffn.intermediate = width;
        a->kv_heads = fresh ? (heads ? heads : a->heads) : multi ? 1 : a->heads;
    }
}

static const char *const types[] = {"falcon", "RefinedWeb", "RefinedWebModel", NULL};

const struct family family_falcon = {
    .name = "falcon",
    .model_types = types,
    .summary = "Falcon 7B, 40B and 180B",
    .source = "huggingface/transformers src/transformers/models/falcon",
    .read = read,
};
