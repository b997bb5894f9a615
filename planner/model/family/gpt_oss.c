/* gpt-oss: sliding and full layers in turn, one attention sink a head, biases on every
 * projection, expert and router. */
#include "planner/model/family.h"

static void read(struct config *c, struct model *m)
{
    static const struct config_default defaults[] = {
        {"head_dim", 64}, {"num_key_value_heads", 8}, {NULL, 0}};

    c->defaults = defaults;
    if (!family_read_llama_like(c, m))
        return;
    family_set_bias(m, config_bool(c, "attention_bias", true) ? "qkvo" : "");
    family_set_moe(m, &(struct family_moe){
                          .experts = config_u32(c, "num_local_experts", 128),
                          .top_k = config_u32(c, "num_experts_per_tok|experts_per_token", 4),
                          .intermediate = config_need(c, "intermediate_size"),
                          .router_bias = true});
    for (uint32_t i = 0; i < m->n_layers; i++) {
        m->layers[i].ffn.expert_bias = true;
        m->layers[i].attn.sinks = true;
    }
    family_read_windows(c, m, config_u32(c, "sliding_window", 128), 2);
}

static const char *const types[] = {"gpt_oss", NULL};

const struct family family_gpt_oss = {
    .name = "gpt_oss",
    .model_types = types,
    .summary = "gpt-oss 20b and 120b",
    .source = "huggingface/transformers src/transformers/models/gpt_oss",
    .read = read,
};
